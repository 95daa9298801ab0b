package shard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// raft-wal opens a log by walking the frames of its last segment until one
// makes no sense, and takes that for the end. It verifies the checksum of the
// last batch only. So a damaged frame in the middle cuts off all that follows,
// acknowledged or not, without a word. checkWAL looks first.
//
// What it relies on (raft-wal's README specifies the format): a segment is a
// header of 32 bytes and then frames, each with a header of 8 bytes and padded
// to 8. A batch is entry frames, perhaps an index frame, and a commit frame
// that carries the CRC-32C of everything since the last commit frame. A batch
// is synced before the next is written. So a batch that is incomplete and has
// another one behind it was whole once: that is damage. One with nothing
// behind it is the torn tail of a crash.
const (
	walHeaderLen = 32
	walFrameLen  = 8

	walEntry  = segment.FrameEntry
	walIndex  = segment.FrameIndex
	walCommit = segment.FrameCommit

	// maxWALSegment bounds what is read into memory: segments are tens of MiB,
	// and the entry that fills one up is far smaller.
	maxWALSegment = 1 << 30
)

// checkWAL verifies the segments in dir against the store's metadata, sees to it
// that the last batch is on the disk, cuts a torn tail, and completes a change of
// segments that a crash interrupted.
func checkWAL(dir, replicaDir string, files types.VFS) error {
	metaPath := filepath.Join(dir, metadb.FileName)
	if _, err := os.Stat(metaPath); errors.Is(err, fs.ErrNotExist) {
		return checkUnborn(dir, replicaDir)
	}
	if err := checkBolt(metaPath); err != nil {
		return advise(err, replicaDir)
	}
	if err := settleBolt(metaPath); err != nil {
		return err
	}
	var meta walMeta
	state, err := meta.Load(dir)
	if err != nil {
		damage := &DamageError{Path: metaPath, Offset: -1, What: err.Error(), Repair: repairReplica(replicaDir)}
		return errors.Join(damage, meta.Close())
	}
	if len(state.Segments) == 0 {
		return errors.Join(checkUnborn(dir, replicaDir), meta.Close())
	}
	tail, err := checkSegments(dir, state.Segments)
	if err == nil {
		err = tail.settle(files)
	}
	if err == nil && tail.sealed {
		err = finishRotation(&meta, state, tail)
	}
	return errors.Join(advise(err, replicaDir), meta.Close())
}

// checkUnborn refuses segments of which no metadata tell: opening the store would
// delete them as left-overs.
func checkUnborn(dir, replicaDir string) error {
	found, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(found) == 0 {
		return err
	}
	return &DamageError{Path: dir, Offset: -1, What: "it has segments, but no " + metadb.FileName + " that lists them", Repair: repairReplica(replicaDir)}
}

// walTail is what was found in the last segment.
type walTail struct {
	path       string // empty: there is none
	last       []byte // batch that is whole, with the segment's header if it is the first
	torn, end  int64  // where what is torn begins and ends
	sealed     bool   // its index is written, but the metadata does not say so yet
	indexStart uint64 // where the index begins
	entries    int
}

// checkSegments verifies all segments. The last one may have a torn tail.
func checkSegments(dir string, segments []types.SegmentInfo) (tail walTail, err error) {
	for _, info := range segments {
		path := filepath.Join(dir, segment.FileName(info))
		data, err := readSegment(path)
		last := info.SealTime.IsZero()
		if last && errors.Is(err, fs.ErrNotExist) {
			continue // a crash came before the file; the store makes it
		}
		if errors.Is(err, fs.ErrNotExist) {
			return tail, &DamageError{Path: path, Offset: -1, What: "the segment is missing"}
		}
		if err != nil {
			return tail, err
		}
		w := walkSegment(data)
		if last && w.provesDamage(data) || !last && !w.covers(info) {
			return tail, &DamageError{Path: path, Offset: int64(w.end), What: w.what()}
		}
		if last {
			tail = walTail{
				path: path, last: data[w.last:w.end], torn: int64(max(w.end, walHeaderLen)), end: int64(len(bytes.TrimRight(data, "\x00"))),
				sealed: w.indexStart > 0, indexStart: uint64(w.indexStart), entries: w.entries,
			}
		}
	}
	return tail, nil
}

// settle makes the end of the log what was read of it.
//
// The last batch is written again, and synced. Its sync may have failed before the
// node stopped; then it can be read from memory, but the kernel takes it for written
// and never will, so that a power failure later would lose it, together with what
// was acknowledged after it. No batch before it can be in that state: after a failed
// sync nothing more is written.
//
// A torn tail is cleared. raft-wal v0.4.2 writes over one, but takes an index
// frame in it for the end of the segment, though no commit frame follows, and
// then refuses every append ("segment is sealed"). A disk that is full leaves
// such a tail, because the index is what no longer fits. The file keeps its
// length: its space is allocated.
func (t walTail) settle(files types.VFS) error {
	if t.path == "" || t.end == 0 {
		return nil
	}
	f, err := files.OpenWriter(filepath.Dir(t.path), filepath.Base(t.path))
	if err != nil {
		return fmt.Errorf("settle the end of the log: %w", err)
	}
	at := t.torn - int64(len(t.last))
	again := append(bytes.Clone(t.last), make([]byte, max(0, t.end-t.torn))...)
	if _, err = f.WriteAt(again, at); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("settle the end of the log: %w", err)
	}
	return nil
}

func readSegment(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer closeRead(f)
	data, err := io.ReadAll(io.LimitReader(f, maxWALSegment+1))
	if err == nil && len(data) > maxWALSegment {
		err = fmt.Errorf("segment %s is longer than %d bytes", path, maxWALSegment)
	}
	return data, err
}

// walk is how far the batches of a segment are whole.
type walk struct {
	last       int // where the last batch before end begins
	end        int // behind the last commit frame that verifies
	indexStart int // of an index frame in the whole part; 0: none
	entries    int // in the whole part
}

// walkSegment goes through the batches of a segment from the start.
func walkSegment(data []byte) (w walk) {
	if len(data) < walHeaderLen {
		return w
	}
	pending, index := 0, 0
	at := walHeaderLen
	for {
		typ, size, ok := frameAt(data, at)
		if !ok {
			return w
		}
		switch typ {
		case walEntry:
			pending++
		case walIndex:
			index = at + walFrameLen
		case walCommit:
			if !commitVerifies(data, w.end, at) {
				return w
			}
			w.last, w.end = w.end, at+walFrameLen
			w.entries, w.indexStart, pending = w.entries+pending, max(w.indexStart, index), 0
		}
		at += size
	}
}

// frameAt reads the header of the frame at an offset. ok is false when there
// can't be a frame.
func frameAt(data []byte, at int) (typ byte, size int, ok bool) {
	if at+walFrameLen > len(data) || data[at+1]|data[at+2]|data[at+3] != 0 {
		return 0, 0, false
	}
	switch typ = data[at]; typ {
	case walCommit:
		return typ, walFrameLen, true
	case walEntry, walIndex:
		payload := int(binary.LittleEndian.Uint32(data[at+4:]))
		size = walFrameLen + (payload+walFrameLen-1)/walFrameLen*walFrameLen
		return typ, size, payload <= len(data)-at-walFrameLen
	}
	return 0, 0, false
}

// commitVerifies tells whether the commit frame at an offset covers the bytes
// from start.
func commitVerifies(data []byte, start, at int) bool {
	return crc32.Checksum(data[start:at], castagnoli) == binary.LittleEndian.Uint32(data[at+4:])
}

// covers tells whether the whole part has all that the metadata promises of a
// sealed segment. What lies behind it does not matter.
func (w walk) covers(info types.SegmentInfo) bool {
	return w.indexStart > 0 && uint64(w.indexStart) == info.IndexStart && info.BaseIndex+uint64(w.entries) > info.MaxIndex
}

// provesDamage looks for a whole batch behind the place where the walk ended.
// That batch was written after the one before it was synced, so it proves that
// what is between was whole once.
func (w walk) provesDamage(data []byte) bool {
	for start := w.end + walFrameLen; start+walFrameLen <= len(data); start += walFrameLen {
		if commit, ok := commitAfter(data, start); ok && commitVerifies(data, start, commit) {
			return true
		}
	}
	return false
}

// commitAfter walks frames from start, where a batch may begin, to its commit
// frame.
func commitAfter(data []byte, start int) (at int, ok bool) {
	for at = start; ; {
		typ, size, ok := frameAt(data, at)
		if !ok || typ == walCommit {
			return at, ok && at > start
		}
		at += size
	}
}

func (w walk) what() string {
	if w.end == 0 {
		return "its first batch is not what was written, and it is not the end of the log"
	}
	return fmt.Sprintf("the batch after entry %d of the segment is not what was written, and it is not the end of the log", w.entries)
}

// finishRotation completes what a crash interrupted: the last segment is full
// and has its index, but the metadata does not know. raft-wal v0.4.2 would open
// such a log and then refuse every append ("segment is sealed").
func finishRotation(meta *walMeta, state types.PersistentState, tail walTail) error {
	sealed := &state.Segments[len(state.Segments)-1]
	sealed.SealTime = time.Now()
	sealed.MaxIndex = sealed.BaseIndex + uint64(tail.entries) - 1
	sealed.IndexStart = tail.indexStart
	next := types.SegmentInfo{
		ID:         state.NextSegmentID,
		BaseIndex:  sealed.MaxIndex + 1,
		MinIndex:   sealed.MaxIndex + 1,
		SizeLimit:  sealed.SizeLimit,
		Codec:      sealed.Codec,
		CreateTime: time.Now(),
	}
	state.Segments = append(state.Segments, next)
	state.NextSegmentID++
	if err := meta.CommitState(state); err != nil {
		return fmt.Errorf("complete the change of segments: %w", err)
	}
	return nil
}
