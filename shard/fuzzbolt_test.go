package shard

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"

	"stockade/bench/fuzzing"
)

// FuzzBoltFile damages two places of a log's file; with reseal the checksums of its metas
// are right all the same. What checkBolt takes, bolt reads to the end without a panic.
func FuzzBoltFile(f *testing.F) {
	source := f.TempDir()
	g := mustOpenStore(f, LogStoreBolt, source)
	fill(g, 1, 60, 300)
	_ = g.DeleteRange(1, 20) // pages that were used and are free
	closeStore(f, g)
	whole := readAll(f, filepath.Join(source, boltFile))
	path := filepath.Join(f.TempDir(), boltFile)
	f.Add(0, []byte{}, 0, []byte{}, false)
	f.Add(2*4096, []byte{3}, 3*4096+10, []byte{1, 0}, false)
	f.Add(4*4096+boltPageHeader, []byte{1, 0, 0, 0, 16}, 12, []byte{0xff, 0xff, 0xff, 0xff}, false)
	f.Add(boltPageHeader+40, []byte{0, 0, 0, 1}, 4096+boltPageHeader+40, []byte{0, 0, 0, 1}, true) // pages
	f.Add(boltPageHeader+16, []byte{0}, 4096+boltPageHeader+32, []byte{0xff}, true)                // root, freelist
	f.Fuzz(func(t *testing.T, at int, with []byte, alsoAt int, alsoWith []byte, reseal bool) {
		content := append([]byte{}, whole...)
		patch(content, at, with)
		patch(content, alsoAt, alsoWith)
		if reseal {
			resealMeta(content)
			resealMeta(content[4096:])
		}
		check(t, os.WriteFile(path, content, fileMode))
		var err error
		// Pages are read one after the other, and noted as seen.
		fuzzing.InProportion(t, content, 2, 64<<10, func() { err = checkBolt(path) })
		var damage *DamageError
		if err != nil && !errors.As(err, &damage) {
			t.Fatal(err)
		}
		if err == nil {
			readBolt(t, path)
		}
	})
}

func patch(b []byte, at int, with []byte) {
	if at >= 0 {
		copy(b[at%len(b):], with)
	}
}

// resealMeta gives the meta in a page the checksum that it should have.
func resealMeta(page []byte) {
	meta := page[boltPageHeader:][:boltMetaLen]
	sum := fnv.New64a()
	sum.Write(meta[:boltMetaLen-8])
	binary.LittleEndian.PutUint64(meta[boltMetaLen-8:], sum.Sum64())
}

// readBolt reads all that is in a file.
func readBolt(t *testing.T, path string) {
	t.Helper()
	db, err := bolt.Open(path, fileMode, boltOptions(true))
	if err != nil {
		t.Fatalf("bolt refuses what was taken: %v", err)
	}
	defer func() { check(t, db.Close()) }()
	check(t, db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bolt.Bucket) error { return readBucket(b) })
	}))
}

func readBucket(b *bolt.Bucket) error {
	return b.ForEach(func(k, v []byte) error {
		if v == nil && b.Bucket(k) != nil {
			return readBucket(b.Bucket(k))
		}
		return nil
	})
}

// Buckets within buckets in one value would take a stack as deep as the file is long.
func TestDeepBuckets(t *testing.T) {
	page := leafWith(nil)
	for range 10 * maxBoltDepth {
		page = leafWith(append(make([]byte, boltBucketLen), page...))
	}
	err := (&boltChecker{}).walkPage(2, page, nil, nil, 0)
	var at *pageError
	if !errors.As(err, &at) {
		t.Fatal(err)
	}
	says(t, err.Error(), "too deep")
}

// leafWith is a leaf page with one bucket in it, or nothing.
func leafWith(bucket []byte) []byte {
	page := make([]byte, boltPageHeader)
	binary.LittleEndian.PutUint16(page[8:], boltLeafPage)
	if bucket == nil {
		return page
	}
	binary.LittleEndian.PutUint16(page[10:], 1)
	for _, word := range []uint32{boltBucketLeaf, boltElement, 1, uint32(len(bucket))} {
		page = binary.LittleEndian.AppendUint32(page, word)
	}
	return slices.Concat(page, []byte{'b'}, bucket)
}
