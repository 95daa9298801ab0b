package shard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
)

// bolt trusts its file. A page that makes no sense is a panic, in places in a
// goroutine of bolt's own, which ends the process with a stack trace; a damaged
// meta page makes it go back to the transaction before, which loses an
// acknowledged write without a word. checkBolt looks first.
//
// What it relies on (the format of bbolt, version 2): the file is an array of
// pages. Pages 0 and 1 hold the metas, written in turns; each fits one disk
// sector, so that it is written whole or not at all, and a meta whose checksum
// is wrong was damaged later. The newer meta names the root of a tree of branch
// and leaf pages; a leaf's value can be a bucket, with a tree of its own. The
// content of leaves has no checksum of bolt's; see guard for that.
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	boltNoFreelist = 1<<64 - 1

	boltBranchPage = 0x01
	boltLeafPage   = 0x02
	boltMetaPage   = 0x04
	boltFreePage   = 0x10
	boltBucketLeaf = 0x01

	boltPageHeader = 16 // id 8, flags 2, count 2, overflow 4
	boltElement    = 16 // of a branch and of a leaf
	boltMetaLen    = 64 // the last 8 are the checksum
	boltBucketLen  = 16 // root 8, sequence 8

	// maxBoltDepth bounds the recursion: a tree of this depth would hold more
	// than any disk.
	maxBoltDepth = 64
)

// boltMeta is what is needed of a meta page.
type boltMeta struct {
	pageSize int
	root     uint64
	freelist uint64
	pages    uint64 // page ids in use are below
	txid     uint64
}

// boltChecker walks one file.
type boltChecker struct {
	file *os.File
	boltMeta
	seen []bool // pages that belong to a tree, by id
}

// checkBolt verifies the structure of the file at path, if there is one. What it
// finds is a DamageError without advice.
func checkBolt(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer closeRead(f)
	c := &boltChecker{file: f}
	if err := c.readMetas(); err != nil {
		return &DamageError{Path: path, Offset: 0, What: err.Error()}
	}
	if err := c.checkSize(); err != nil {
		return &DamageError{Path: path, Offset: -1, What: err.Error()}
	}
	c.seen = make([]bool, c.pages)
	var at *pageError
	err = errors.Join(c.walk(c.root, nil, nil, 0), c.checkFreelist())
	if errors.As(err, &at) {
		return &DamageError{Path: path, Offset: int64(at.page) * int64(c.pageSize), What: err.Error()}
	}
	return err
}

// settleBolt writes both metas of the file at path again, as they are read, and syncs
// them. The sync of the last transaction may have failed, or hung, before the node
// stopped: then the newer meta can be read from memory, but the kernel takes it for
// written and never will, and a power failure later would bring the older one back, with
// it a vote, a term or a list of segments of before. What a meta refers to was synced
// before it was written. A transaction instead would write over what the older meta refers
// to, while that may still be the one on the disk.
func settleBolt(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c := &boltChecker{file: f}
	err = c.readMetas()
	for page := range int64(2) {
		meta := make([]byte, boltPageHeader+boltMetaLen)
		if err == nil {
			_, err = f.ReadAt(meta, page*int64(c.pageSize))
		}
		if err == nil {
			_, err = f.WriteAt(meta, page*int64(c.pageSize))
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("settle the last transaction of %s: %w", path, err)
	}
	return nil
}

// pageError says that a page makes no sense.
type pageError struct {
	page uint64
	what string
}

func (e *pageError) Error() string { return fmt.Sprintf("page %d: %s", e.page, e.what) }

// readMetas reads both metas, which must be whole, and takes the newer.
func (c *boltChecker) readMetas() error {
	var head [boltPageHeader + boltMetaLen]byte
	if _, err := c.file.ReadAt(head[:], 0); err != nil {
		return fmt.Errorf("the first meta page can't be read: %w", err)
	}
	first, err := parseBoltMeta(head[:])
	if err != nil {
		return fmt.Errorf("the first meta page: %w", err)
	}
	if _, err := c.file.ReadAt(head[:], int64(first.pageSize)); err != nil {
		return fmt.Errorf("the second meta page can't be read: %w", err)
	}
	second, err := parseBoltMeta(head[:])
	if err != nil {
		return fmt.Errorf("the second meta page: %w", err)
	}
	c.boltMeta = first
	if second.txid > first.txid {
		c.boltMeta = second
	}
	return nil
}

func parseBoltMeta(page []byte) (m boltMeta, err error) {
	b := page[boltPageHeader:]
	sum := fnv.New64a()
	sum.Write(b[:boltMetaLen-8])
	size := binary.LittleEndian.Uint32(b[8:])
	switch {
	case binary.LittleEndian.Uint32(b) != boltMagic:
		return m, errors.New("this is no bolt file")
	case binary.LittleEndian.Uint32(b[4:]) != boltVersion:
		return m, errors.New("the version of the format is unknown")
	case binary.LittleEndian.Uint64(b[boltMetaLen-8:]) != sum.Sum64():
		return m, errors.New("the checksum is wrong")
	case binary.LittleEndian.Uint16(page[8:]) != boltMetaPage || size < 512 || size > 1<<16:
		return m, errors.New("it makes no sense")
	}
	return boltMeta{
		pageSize: int(size),
		root:     binary.LittleEndian.Uint64(b[16:]),
		freelist: binary.LittleEndian.Uint64(b[32:]),
		pages:    binary.LittleEndian.Uint64(b[40:]),
		txid:     binary.LittleEndian.Uint64(b[48:]),
	}, nil
}

// checkSize tells whether the file has all pages in use.
func (c *boltChecker) checkSize() error {
	info, err := c.file.Stat()
	if err != nil {
		return err
	}
	if have := uint64(info.Size()) / uint64(c.pageSize); have < c.pages {
		return fmt.Errorf("the file has %d of the %d pages in use", have, c.pages)
	}
	return nil
}

// page reads a page with its overflow, and notes that it is in use.
func (c *boltChecker) page(id uint64) ([]byte, error) {
	if id < 2 || id >= c.pages {
		return nil, &pageError{id, "it is named as part of a tree, and there is no such page"}
	}
	head := make([]byte, c.pageSize)
	if _, err := c.file.ReadAt(head, int64(id)*int64(c.pageSize)); err != nil {
		return nil, &pageError{id, "it can't be read: " + err.Error()}
	}
	overflow := uint64(binary.LittleEndian.Uint32(head[12:]))
	if binary.LittleEndian.Uint64(head) != id || overflow >= c.pages-id {
		return nil, &pageError{id, "its header makes no sense"}
	}
	for i := id; i <= id+overflow; i++ {
		if c.seen[i] {
			return nil, &pageError{i, "it is used twice"}
		}
		c.seen[i] = true
	}
	if overflow == 0 {
		return head, nil
	}
	all := make([]byte, (overflow+1)*uint64(c.pageSize))
	if _, err := io.ReadFull(io.NewSectionReader(c.file, int64(id)*int64(c.pageSize), int64(len(all))), all); err != nil {
		return nil, &pageError{id, "it can't be read: " + err.Error()}
	}
	return all, nil
}

// walk checks the tree under a page. Its keys are at least low and below high;
// nil: no bound.
func (c *boltChecker) walk(id uint64, low, high []byte, depth int) error {
	b, err := c.page(id)
	if err != nil {
		return err
	}
	return c.walkPage(id, b, low, high, depth)
}

// walkPage checks a page and what is under it.
func (c *boltChecker) walkPage(id uint64, b, low, high []byte, depth int) error {
	if depth > maxBoltDepth {
		return &pageError{id, "it is too deep in the tree"}
	}
	elements, err := boltElements(id, b)
	if err != nil {
		return err
	}
	for i, e := range elements {
		if low != nil && bytes.Compare(e.key, low) < 0 || high != nil && bytes.Compare(e.key, high) >= 0 ||
			i > 0 && bytes.Compare(elements[i-1].key, e.key) >= 0 {
			return &pageError{id, fmt.Sprintf("key %d is out of order", i)}
		}
	}
	for i, e := range elements {
		switch {
		case e.child != 0:
			below := high
			if i+1 < len(elements) {
				below = elements[i+1].key
			}
			err = c.walk(e.child, e.key, below, depth+1)
		case e.bucket:
			err = c.walkBucket(id, e.value, depth)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// walkBucket checks the tree of a bucket, which may be inline.
func (c *boltChecker) walkBucket(id uint64, value []byte, depth int) error {
	if len(value) < boltBucketLen {
		return &pageError{id, "a bucket in it makes no sense"}
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		return c.walk(root, nil, nil, depth+1)
	}
	inline := value[boltBucketLen:]
	if len(inline) < boltPageHeader || binary.LittleEndian.Uint16(inline[8:]) != boltLeafPage {
		return &pageError{id, "an inline bucket in it makes no sense"}
	}
	return c.walkPage(id, inline, nil, nil, depth+1)
}

// boltItem is an element of a branch or of a leaf.
type boltItem struct {
	key    []byte
	child  uint64 // of a branch, else 0
	bucket bool   // value is a bucket
	value  []byte
}

// boltElements reads the elements of a page, within its bounds.
func boltElements(id uint64, b []byte) ([]boltItem, error) {
	flags, count := binary.LittleEndian.Uint16(b[8:]), int(binary.LittleEndian.Uint16(b[10:]))
	if flags != boltBranchPage && flags != boltLeafPage {
		return nil, &pageError{id, "it is neither branch nor leaf"}
	}
	if boltPageHeader+count*boltElement > len(b) || flags == boltBranchPage && count == 0 {
		return nil, &pageError{id, "the number of its elements makes no sense"}
	}
	items := make([]boltItem, count)
	// Keys and values follow the table of elements without a gap. So a number of
	// elements that is too low, which would hide the last ones, shows.
	next := uint64(boltPageHeader + count*boltElement)
	for i := range items {
		at := boltPageHeader + i*boltElement
		e := b[at:]
		var pos, keyLen, valueLen uint64
		if flags == boltBranchPage {
			pos, keyLen = uint64(binary.LittleEndian.Uint32(e)), uint64(binary.LittleEndian.Uint32(e[4:]))
			items[i].child = binary.LittleEndian.Uint64(e[8:])
		} else {
			items[i].bucket = binary.LittleEndian.Uint32(e)&boltBucketLeaf != 0
			pos, keyLen = uint64(binary.LittleEndian.Uint32(e[4:])), uint64(binary.LittleEndian.Uint32(e[8:]))
			valueLen = uint64(binary.LittleEndian.Uint32(e[12:]))
		}
		start := uint64(at) + pos
		if start != next || start+keyLen+valueLen > uint64(len(b)) || flags == boltBranchPage && items[i].child == 0 {
			return nil, &pageError{id, fmt.Sprintf("element %d makes no sense", i)}
		}
		next = start + keyLen + valueLen
		items[i].key, items[i].value = b[start:start+keyLen], b[start+keyLen:next]
	}
	return items, nil
}

// checkFreelist tells whether a page that is in use is called free. Without a
// list bolt makes its own.
func (c *boltChecker) checkFreelist() error {
	if c.freelist == boltNoFreelist {
		return nil
	}
	b, err := c.page(c.freelist)
	if err != nil {
		return err
	}
	count, at := uint64(binary.LittleEndian.Uint16(b[10:])), uint64(boltPageHeader)
	if count == 0xFFFF { // then the first element is the count
		count, at = binary.LittleEndian.Uint64(b[at:]), at+8
	}
	if binary.LittleEndian.Uint16(b[8:]) != boltFreePage || count > (uint64(len(b))-at)/8 {
		return &pageError{c.freelist, "the list of free pages makes no sense"}
	}
	for i := range count {
		if id := binary.LittleEndian.Uint64(b[at+8*i:]); id < 2 || id >= c.pages || c.seen[id] {
			return &pageError{c.freelist, fmt.Sprintf("page %d is called free and is not", id)}
		}
	}
	return nil
}
