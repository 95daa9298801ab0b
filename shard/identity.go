package shard

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"stockade/shard/shardrpc"
)

const (
	// dataFormat is the version of the layout of a data directory.
	dataFormat = 1

	nodeFile    = "node.json"
	clusterFile = "cluster.json"
	lockFile    = "lock"
	shardsDir   = "shards"

	// incarnationBytes makes two incarnations equal by accident as likely as
	// never.
	incarnationBytes = 16
	// incarnationPrefix is how many hex digits of the incarnation show in server
	// ids and logs; the rest stays private because the cluster's secret is
	// derived from it.
	incarnationPrefix = 8

	// maxHolderLen is more than a process id and the end of its line take.
	maxHolderLen = 20

	// maxNodeIDLen keeps server ids within one length byte of the handshake.
	maxNodeIDLen = 63
)

// identity is node.json: who this data directory belongs to. It is written once,
// before anything else, and rewritten only to add the cluster's id.
type identity struct {
	Format      int             `json:"format"`
	ClusterID   string          `json:"cluster_id,omitempty"` // empty until the cluster has formed
	NodeID      shardrpc.NodeID `json:"node_id"`
	Incarnation string          `json:"incarnation"`
	Shards      int             `json:"shards"`
	LogStore    LogStoreKind    `json:"log_store"`
	Created     time.Time       `json:"created"`
}

// dataDir is a data directory that this process holds the lock of.
type dataDir struct {
	path string
	lock *os.File
	id   identity
	// fresh: the identity was made by this start.
	fresh bool
}

// openDataDir locks the directory and reads or makes its identity. Nothing that
// is in the directory is overwritten: whatever does not fit is an error that
// says what is where, and what to do.
func openDataDir(path string, want identity) (*dataDir, error) {
	if err := makeDataDir(path); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	d := &dataDir{path: path}
	// The lock file is the first thing that is written. So this comes before it:
	// in a directory that is not ours a file of that name may be somebody's.
	if err := d.checkOwn(); err != nil {
		return nil, err
	}
	var err error
	if d.lock, err = lockDir(path); err != nil {
		return nil, err
	}
	if err := d.load(want); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// makeDataDir makes the directory. One that was made for the node may be in a place that
// the node must not look into.
func makeDataDir(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("%s is no directory: choose an empty or a new one with --data-dir", path)
	}
	made := err == nil
	if err = makeDir(path); made && errors.Is(err, fs.ErrPermission) {
		err = nil
	}
	return err
}

// load reads the identity and compares it, or makes a new one.
func (d *dataDir) load(want identity) error {
	found, err := readJSON(d.file(nodeFile), &d.id)
	if err != nil {
		return err
	}
	if found {
		return d.id.check(want, d.path)
	}
	if err := d.checkEmpty(); err != nil {
		return err
	}
	want.Format = dataFormat
	want.Incarnation = newIncarnation()
	d.id, d.fresh = want, true
	return d.saveIdentity()
}

func (d *dataDir) saveIdentity() error {
	if err := writeJSON(d.file(nodeFile), d.id); err != nil {
		return fmt.Errorf("write the node's identity: %w", err)
	}
	return nil
}

// check compares the identity found in a directory with the one asked for.
func (id identity) check(want identity, path string) error {
	where := filepath.Join(path, nodeFile)
	switch {
	case id.Format != dataFormat:
		return fmt.Errorf("%s has format %d, and this version of Stockade reads format %d: start the version that wrote it", where, id.Format, dataFormat)
	case id.NodeID != want.NodeID:
		return fmt.Errorf("data directory %s belongs to node %q, not to node %q: start with --id %s, or give node %q a directory of its own", path, id.NodeID, want.NodeID, id.NodeID, want.NodeID)
	case id.Shards != want.Shards:
		return fmt.Errorf("data directory %s belongs to a cluster of %d shards, and this start asks for %d: the number of shards is fixed when a cluster is created; start with --shards %d", path, id.Shards, want.Shards, id.Shards)
	case id.LogStore != want.LogStore:
		return fmt.Errorf("data directory %s keeps its logs in %q, and this start asks for %q: start with --log-store %s", path, id.LogStore, want.LogStore, id.LogStore)
	case !validIncarnation(id.Incarnation):
		return fmt.Errorf("%s is damaged: its incarnation is not %d hex digits; restore the file, or start with an empty data directory as a new node", where, 2*incarnationBytes)
	}
	return nil
}

// checkOwn refuses a directory that has neither an identity nor the looks of one
// that was just made.
func (d *dataDir) checkOwn() error {
	_, err := os.Lstat(d.file(nodeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return d.checkEmpty()
	}
	return err
}

// checkEmpty refuses a directory that holds something else. A lost+found is what
// a freshly made file system has in its root.
func (d *dataDir) checkEmpty() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("read data directory: %w", err)
	}
	for _, e := range entries {
		switch e.Name() {
		case nodeFile + ".tmp", "lost+found":
		case lockFile:
			if err := checkLockFile(d.file(lockFile)); err != nil {
				return err
			}
		case clusterFile, shardsDir:
			return fmt.Errorf("data directory %s has %s but no %s: the node's identity is lost; restore %s from a copy, or move the directory away and start with an empty one as a new node", d.path, e.Name(), nodeFile, nodeFile)
		default:
			return fmt.Errorf("data directory %s is not empty and not Stockade's: it holds %q and no %s; choose an empty or a new directory with --data-dir", d.path, e.Name(), nodeFile)
		}
	}
	return nil
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// close gives the lock back.
func (d *dataDir) close() error { return d.lock.Close() }

// lockDir takes the directory's lock for the life of this process. The kernel
// drops it when the process ends, however it ends.
func lockDir(path string) (*os.File, error) {
	name := filepath.Join(path, lockFile)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("data directory %s is in use by process %s: stop it first, or choose another directory with --data-dir", path, lockHolder(f))
	} else if err != nil {
		err = fmt.Errorf("lock data directory %s: %w", path, err)
	} else {
		err = writeHolder(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// checkLockFile tells whether a lock file is one that writeHolder wrote, or began
// to write. Nobody syncs it, so that a power failure may leave zeros.
func checkLockFile(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("look at the lock file: %w", err)
	}
	content := make([]byte, maxHolderLen+1)
	n := 0
	if info.Mode().IsRegular() {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("open lock file: %w", err)
		}
		n, _ = f.ReadAt(content, 0)
		closeRead(f)
	}
	holder := strings.TrimSuffix(strings.TrimRight(string(content[:n]), "\x00"), "\n")
	if _, err := strconv.ParseUint(holder, 10, 32); !info.Mode().IsRegular() || n > maxHolderLen || holder != "" && err != nil {
		return fmt.Errorf("%s is not Stockade's lock file: choose an empty or a new directory with --data-dir", path)
	}
	return nil
}

// lockHolder reads who wrote the lock file.
func lockHolder(f *os.File) string {
	var buf [maxHolderLen]byte
	n, _ := f.ReadAt(buf[:], 0)
	if pid := strings.TrimSpace(string(buf[:n])); pid != "" {
		return pid
	}
	return "unknown"
}

// writeHolder notes this process for whoever finds the directory locked.
func writeHolder(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// newIncarnation draws the name of one life of a data directory.
func newIncarnation() string {
	var b [incarnationBytes]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func validIncarnation(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == incarnationBytes
}

// validNodeID tells whether id can be a node's name: letters, digits, - and _,
// so that it can stand in a server id, a file name and a metric label.
func validNodeID(id shardrpc.NodeID) bool {
	if id == "" || len(id) > maxNodeIDLen {
		return false
	}
	for _, c := range []byte(id) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && !('0' <= c && c <= '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
