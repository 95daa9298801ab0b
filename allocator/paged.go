package allocator

// chunkItems is how many items are copied when one of them changes after a
// freeze: few enough that the copy stays around a microsecond.
const chunkItems = 64

// chunk is a run of items without the bookkeeping, so that its size is a
// multiple of the item's and wastes none of an allocation.
type chunk[T any] [chunkItems]T

// paged is a growing array that can be frozen: a freeze copies only the list of
// chunks, and from then on a chunk is copied before it is first written.
type paged[T any] struct {
	chunks []*chunk[T]
	epochs []uint64 // of each chunk: the epoch it was made in
	n      int
}

// at gives an item to read. The pointer is valid until the array changes.
func (p *paged[T]) at(i uint32) *T {
	return &p.chunks[i/chunkItems][i%chunkItems]
}

// edit gives an item to write, in the present epoch.
func (p *paged[T]) edit(i uint32, epoch uint64) *T {
	c := i / chunkItems
	if p.epochs[c] != epoch {
		fresh := *p.chunks[c]
		p.chunks[c], p.epochs[c] = &fresh, epoch
	}
	return &p.chunks[c][i%chunkItems]
}

// grow adds a zero item and returns its number.
func (p *paged[T]) grow(epoch uint64) uint32 {
	if p.n == len(p.chunks)*chunkItems {
		p.chunks = append(p.chunks, new(chunk[T]))
		p.epochs = append(p.epochs, epoch)
	}
	p.n++
	return uint32(p.n - 1)
}

// freeze returns the array as it is now; it must not be edited. The caller
// moves on to the next epoch.
func (p *paged[T]) freeze() paged[T] {
	return paged[T]{chunks: append([]*chunk[T](nil), p.chunks...), n: p.n}
}
