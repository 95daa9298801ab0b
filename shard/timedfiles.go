package shard

import (
	"time"

	"github.com/hashicorp/raft-wal/types"
	"github.com/prometheus/client_golang/prometheus"
)

// timedFiles are files whose syncs are measured.
type timedFiles struct {
	types.VFS
	seconds prometheus.Observer
}

// Create implements types.VFS.
func (f *timedFiles) Create(dir, name string, size uint64) (types.WritableFile, error) {
	w, err := f.VFS.Create(dir, name, size)
	return f.timed(w, err)
}

// OpenWriter implements types.VFS.
func (f *timedFiles) OpenWriter(dir, name string) (types.WritableFile, error) {
	w, err := f.VFS.OpenWriter(dir, name)
	return f.timed(w, err)
}

func (f *timedFiles) timed(w types.WritableFile, err error) (types.WritableFile, error) {
	if err != nil {
		return nil, err
	}
	return &timedFile{w, f.seconds}, nil
}

type timedFile struct {
	types.WritableFile
	seconds prometheus.Observer
}

// Sync implements types.WritableFile.
func (f *timedFile) Sync() error {
	began := time.Now()
	err := f.WritableFile.Sync()
	f.seconds.Observe(time.Since(began).Seconds())
	return err
}
