package allocator

import (
	"fmt"
	"math/bits"
)

// A checkpoint is kept every checkpointEvery commands, and checkpoints of them
// are kept: an audit may be that many commands late.
const (
	checkpointEvery = 4096
	checkpoints     = 8
)

// history is the rolling hash over everything that was applied, and what it was
// at the last checkpoints. Batches do not show in it: only commands, results,
// and expiries where they happen. What expires is added with the next command,
// so that hash and count always belong together.
type history struct {
	hash  uint64 // after count commands
	count uint64
	tail  uint64 // hash, and what expired since
	ring  [checkpoints]checkpoint
}

// checkpoint is what the hash was after a number of commands.
type checkpoint struct {
	count uint64
	hash  uint64
}

// applied adds a command and its result. The past is added once more at the
// end, so that no choice of bytes can wipe it out of the product.
func (h *history) applied(cmd, result []byte) {
	// The two hashes do not wait for each other, nor for the past.
	h.hash = hashPair(h.tail, hashBytes(hashFirst, cmd), hashBytes(hashSecond, result)) + h.tail
	h.tail = h.hash
	h.count++
	if h.count%checkpointEvery == 0 {
		*h.place(h.count) = checkpoint{h.count, h.hash}
	}
}

// expired adds an expiry.
func (h *history) expired(at Millis, seq uint64) {
	h.tail = hashPair(h.tail, uint64(at), bits.RotateLeft64(seq, 32))
}

// place is where the checkpoint after a number of commands stands.
func (h *history) place(count uint64) *checkpoint {
	return &h.ring[count/checkpointEvery%checkpoints]
}

// newest gives the last checkpoint.
func (h *history) newest() (count, hash uint64, ok bool) {
	c := h.place(h.count)
	return c.count, c.hash, c.count != 0
}

// audit compares the leader's hash with ours after the same number of commands.
// A count we have no hash of says nothing, which is no error: the next audit
// comes soon.
func (h *history) audit(a Audit) error {
	ours := checkpoint{h.count, h.hash}
	if a.Applied != h.count {
		ours = *h.place(a.Applied)
	}
	if ours.count != a.Applied || ours.count == 0 || ours.hash == a.Hash {
		return nil
	}
	return fmt.Errorf("%w: hash %016x after %d commands, the leader has %016x", ErrAudit, ours.hash, a.Applied, a.Hash)
}
