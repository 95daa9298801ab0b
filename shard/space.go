package shard

import (
	"math"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
)

// registerSpace registers how much room there is where the data directory is: a node
// whose disk is full ends itself. r may be nil.
func registerSpace(r prometheus.Registerer, dir string) {
	if r == nil {
		return
	}
	gauge := func(name, help string, blocks func(*syscall.Statfs_t) uint64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			var fs syscall.Statfs_t
			if syscall.Statfs(dir, &fs) != nil {
				return math.NaN() // nobody knows
			}
			return float64(blocks(&fs)) * float64(fs.Bsize)
		}))
	}
	gauge("stockade_data_free_bytes", "Room left on the file system of the data directory. A node whose disk is full ends itself.",
		func(fs *syscall.Statfs_t) uint64 { return fs.Bavail })
	gauge("stockade_data_size_bytes", "Size of the file system of the data directory.",
		func(fs *syscall.Statfs_t) uint64 { return fs.Blocks })
}
