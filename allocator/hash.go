package allocator

import (
	"encoding/binary"
	"math/bits"
)

// Hashes for tables, for the choice of an anchor, and for the rolling hash.
// They are part of the replicated behaviour: changing one changes which shard
// anchors a SKU and stops replicas of other versions.

// Odd constants with about as many ones as zeros.
const (
	hashSeed   = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio
	hashFirst  = 0xbf58476d1ce4e5b9
	hashSecond = 0x94d049bb133111eb
)

// fold multiplies to 128 bits and mixes the halves.
func fold(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}

// hashBytes continues h over b, sixteen bytes at a time.
func hashBytes(h uint64, b []byte) uint64 {
	h ^= uint64(len(b)) * hashSeed
	for ; len(b) > 16; b = b[16:] {
		h = fold(binary.LittleEndian.Uint64(b)^hashFirst, binary.LittleEndian.Uint64(b[8:])^h)
	}
	low, high := lastWords(b)
	return fold(fold(low^hashFirst, high^h), hashSecond)
}

// lastWords reads up to sixteen bytes as two words.
func lastWords(b []byte) (low, high uint64) {
	switch n := len(b); {
	case n >= 8:
		return binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[n-8:])
	case n >= 4:
		return uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[n-4:]))
	case n > 0:
		return uint64(b[0])<<16 | uint64(b[n>>1])<<8 | uint64(b[n-1]), 0
	}
	return 0, 0
}

// hashPair continues h over two words.
func hashPair(h, a, b uint64) uint64 {
	return fold(fold(a^hashFirst, b^h)^hashSeed, hashSecond)
}

// hashKey spreads a key for the key index. A key is a keyed hash already; this
// only makes sure that all its bits count.
func hashKey(k *Key) uint64 {
	return hashPair(hashSeed, binary.LittleEndian.Uint64(k[:8]), binary.LittleEndian.Uint64(k[8:]))
}

// hashSKU spreads a SKU's name for the bucket index.
func hashSKU(name []byte) uint64 { return hashBytes(hashSeed, name) }

// Anchor tells which of a cluster's shards owns a SKU's policy and deposits:
// the same on every node and for ever. shards is at least 1.
func Anchor(sku SKU, shards int) ShardID {
	var name [MaxSKULen]byte
	n := copy(name[:], sku)
	return anchorOf(name[:n], shards)
}

func anchorOf(name []byte, shards int) ShardID {
	shard, _ := bits.Mul64(hashBytes(hashSecond, name), uint64(max(shards, 1)))
	return ShardID(shard)
}
