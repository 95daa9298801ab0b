package shard

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestSmallFilesAreSealed flips every bit of a cluster's file: what is read is what was
// written, or an error that says so.
func TestSmallFilesAreSealed(t *testing.T) {
	path := filepath.Join(t.TempDir(), clusterFile)
	want := newClusterInfo(DefaultConfig(), []member{{ID: "n1", Incarnation: "abc", Address: "n1:1"}})
	check(t, writeJSON(path, want))
	whole := readAll(t, path)
	noticed := 0
	for at := range whole {
		for bit := range 8 {
			content := bytes.Clone(whole)
			content[at] ^= 1 << bit
			check(t, os.WriteFile(path, content, fileMode))
			var got clusterInfo
			_, err := readJSON(path, &got)
			switch {
			case err != nil && !strings.Contains(err.Error(), "is damaged"):
				t.Errorf("byte %d: %v", at, err)
			case err != nil:
				noticed++
			case !reflect.DeepEqual(got, want):
				t.Errorf("%q instead of %q at %d: it has %+v", content[at], whole[at], at, got)
			}
		}
	}
	if noticed < 8*len(whole)-8 { // the last character is a space in any case
		t.Errorf("only %d of %d flips are noticed", noticed, 8*len(whole))
	}
}

// TestFilesWithoutChecksums of earlier versions are read as they are.
func TestFilesWithoutChecksums(t *testing.T) {
	path := filepath.Join(t.TempDir(), clusterFile)
	check(t, os.WriteFile(path, []byte("{\n  \"shards\": 3\n}\n"), fileMode))
	var got clusterInfo
	if found, err := readJSON(path, &got); !found || err != nil || got.Shards != 3 {
		t.Errorf("%+v, %v, %v", got, found, err)
	}
}
