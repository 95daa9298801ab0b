package shard

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"stockade/shard/bubble"
)

// TestSnapshotMetadataAreSealed flips every bit of them: what Raft reads, the voters
// among it, is what was written, or it is damage. One without a checksum is believed, but
// for its name.
func TestSnapshotMetadataAreSealed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := withSnapshots(t)
		all := snapshotsOf(t, c.config("n1"))
		newest := all[len(all)-1]
		path := filepath.Join(newest, snapshotMetaFile)
		whole := readAll(t, path)
		open := func() (raft.Configuration, error) {
			s, err := openSnapshots(filepath.Dir(filepath.Dir(newest)), newRaftLogger(testLogger(t)), newMetrics(prometheus.NewRegistry()).snapshots(0), nil)
			if err != nil {
				return raft.Configuration{}, err
			}
			list, err := s.List()
			check(t, err)
			return list[0].Configuration, nil
		}
		if config, err := open(); err != nil || len(config.Servers) != 1 {
			t.Fatalf("%+v, %v", config, err)
		}
		for at := range whole {
			for bit := range 8 {
				content := bytes.Clone(whole)
				content[at] ^= 1 << bit
				check(t, os.WriteFile(path, content, fileMode))
				if config, err := open(); err == nil {
					t.Fatalf("%q instead of %q at %d: it has %+v", content[at], whole[at], at, config)
				}
			}
		}
		check(t, os.WriteFile(path, whole, fileMode))
		check(t, os.Remove(filepath.Join(newest, snapshotSumFile)))
		if _, err := open(); err != nil {
			t.Errorf("without a checksum: %v", err)
		}
	})
}
