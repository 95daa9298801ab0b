package allocator

// MaxOutbox bounds the messages waiting for one destination: a megabyte each,
// so that a shard that is gone for an hour does not fill the others. Beyond it
// transfers and policy changes are refused with CodeOutboxFull.
const MaxOutbox = 65536

// outboxChunk messages share an allocation of 4 KiB.
const outboxChunk = 256

// letter is a message in an outbox. The policy it carries is read from the
// bucket when it is delivered.
type letter struct {
	quantity Quantity // units; 0: the policy only
	bucket   uint32
	_        uint32
}

// outbox holds the messages towards one shard that it has not acknowledged,
// numbered acked+1..sent. A letter never changes once it is written, so a frozen
// copy may share all memory with the living one.
type outbox struct {
	chunks []*[outboxChunk]letter // the first holds the number acked+1
	sent   uint64
	acked  uint64
}

func (o *outbox) len() int { return int(o.sent - o.acked) }

func (o *outbox) full() bool { return o.len() >= MaxOutbox }

// at gives the letter with a number in acked+1..sent.
func (o *outbox) at(seq uint64) letter {
	return o.chunks[(seq-1)/outboxChunk-o.acked/outboxChunk][(seq-1)%outboxChunk]
}

// push adds a letter.
func (o *outbox) push(l letter) {
	at := int(o.sent/outboxChunk - o.acked/outboxChunk)
	if at == len(o.chunks) {
		o.chunks = append(o.chunks, new([outboxChunk]letter))
	}
	o.chunks[at][o.sent%outboxChunk] = l
	o.sent++
}

// pop forgets the first letter and returns it.
func (o *outbox) pop() letter {
	l := o.at(o.acked + 1)
	o.acked++
	if o.acked%outboxChunk == 0 {
		o.chunks = o.chunks[1:]
	}
	return l
}
