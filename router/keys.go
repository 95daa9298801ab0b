package router

import (
	"crypto/rand"
	"encoding/binary"

	"github.com/dchest/siphash"

	"stockade/allocator"
)

// domain keeps hashes for different purposes apart: the same text hashes to
// something else in each. Values are part of what routers must agree on: never
// reuse one.
type domain byte

const (
	domainRouting     domain = iota + 1 // the home shard
	domainIdempotency                   // an idempotency key within its buyer's scope
	domainBuyer                         // a buyer id
	domainReturn                        // a return's key, within its reservation
	domainPut                           // a PUT's key, within its SKU
	domainRestock                       // a restock's key, within its SKU
	domainAdjust                        // an adjustment's key, within its SKU
	domainBody                          // fingerprints of bodies
	domainIDs                           // the mark of the cluster's reservation ids
)

// hasher computes the keyed hashes of a cluster: SipHash-2-4 with 128 bits of
// output. Nobody who lacks the secret can make two keys collide, or aim many
// keys at one shard. It is immutable.
type hasher struct{ k0, k1 uint64 }

func newHasher(secret [16]byte) hasher {
	return hasher{
		k0: binary.LittleEndian.Uint64(secret[:8]),
		k1: binary.LittleEndian.Uint64(secret[8:]),
	}
}

// hashRoom is what most texts to be hashed fit in without an allocation.
const hashRoom = 512

// sum hashes parts in a domain. Each part goes in with its length, so that no
// two lists of parts look the same.
func (h hasher) sum(d domain, parts ...string) [16]byte {
	var room [hashRoom]byte
	b := append(room[:0], byte(d))
	for _, p := range parts {
		b = appendText(b, p)
	}
	return h.sumBytes(b)
}

func (h hasher) sumBytes(b []byte) (out [16]byte) {
	low, high := siphash.Hash128(h.k0, h.k1, b)
	binary.LittleEndian.PutUint64(out[:8], low)
	binary.LittleEndian.PutUint64(out[8:], high)
	return out
}

// home is the shard that decides requests with this routing key.
func (h hasher) home(routingKey string, shards int) allocator.ShardID {
	sum := h.sum(domainRouting, routingKey)
	return allocator.ShardID(binary.LittleEndian.Uint64(sum[:8]) % uint64(shards))
}

// key stands for an idempotency key within a scope. Without one, the router
// makes a key that nobody else has: the router's own repetitions of the command
// then act once.
func (h hasher) key(d domain, scope, key string) allocator.Key {
	if key == "" {
		return allocator.Key(randomKey())
	}
	return allocator.Key(h.sum(d, scope, key))
}

// ids is the mark of the cluster's reservation ids.
func (h hasher) ids() allocator.IDMark {
	sum := h.sum(domainIDs)
	return allocator.IDMark(binary.LittleEndian.Uint16(sum[:2]))
}

// buyer stands for a buyer id.
func (h hasher) buyer(id string) allocator.Buyer {
	if id == "" {
		return allocator.Buyer{}
	}
	return allocator.Buyer(h.sum(domainBuyer, id))
}

// fingerprint stands for a body in its canonical encoding.
func (h hasher) fingerprint(b body) allocator.Fingerprint {
	sum := h.sumBytes(b)
	return allocator.Fingerprint(binary.LittleEndian.Uint64(sum[:8]))
}

// randomKey makes 128 random bits. crypto/rand does not fail: it ends the
// process rather than return a weak number.
func randomKey() (key [16]byte) {
	_, _ = rand.Read(key[:])
	return key
}

// body is the canonical encoding of what a client asked for. Equal requests
// have equal encodings and different ones differ: each value goes in at its
// place, texts with their length, and every operation begins with its own byte.
type body []byte

// newBody begins the encoding for an operation, which its domain stands for.
func newBody(op domain) body {
	return append(make(body, 0, hashRoom), byte(domainBody), byte(op))
}

func (b body) text(s string) body { return appendText(b, s) }

func (b body) number(n int64) body { return binary.AppendVarint(b, n) }

func (b body) flags(flags ...bool) body {
	for _, f := range flags {
		b = append(b, boolByte(f))
	}
	return b
}

func (b body) lines(lines []allocator.Line) body {
	b = binary.AppendUvarint(b, uint64(len(lines)))
	for _, l := range lines {
		b = b.text(string(l.SKU)).number(int64(l.Quantity))
	}
	return b
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}
