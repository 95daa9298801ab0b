package shard

import (
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"stockade/shard/bubble"
)

// TestEntriesThatEndRaft sends entries on which Raft panics: a peer of a wrong version, or
// one that is none of ours, must not end the process. They are refused, and what comes
// after them is taken.
func TestEntriesThatEndRaft(t *testing.T) {
	configuration := &raft.Log{Index: 4, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(threeServers())}
	tests := map[string]struct {
		entries []*raft.Log
		want    string // in the error; empty: they are handed on
	}{
		"good":                  {[]*raft.Log{{Index: 3, Term: 1}, configuration}, ""},
		"none":                  {[]*raft.Log{{Index: 3, Term: 1}, nil}, "entry 2 of 2 is none"},
		"no configuration":      {[]*raft.Log{{Index: 3, Term: 1, Type: raft.LogConfiguration, Data: []byte("?")}}, "entry 3 is no configuration"},
		"of the first protocol": {[]*raft.Log{{Index: 3, Term: 1, Type: raft.LogAddPeerDeprecated, Data: []byte("?")}}, "has type 2"},
		"of no protocol":        {[]*raft.Log{{Index: 3, Term: 1, Type: 99}}, "has type 99"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				from, to := twoTransports(t)
				behind := behindGate(t, to, fakePast{now: 1})
				go func() {
					for rpc := range behind.gate.out {
						rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
					}
				}()
				t.Cleanup(func() { close(behind.gate.out) })
				req := appendRequest(2, 2)
				req.Entries = tt.entries
				var resp raft.AppendEntriesResponse
				err := from.AppendEntries("b.00000000", "b.00000000", req, &resp)
				if tt.want == "" && (err != nil || !resp.Success) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
					t.Fatalf("%v, %+v, want %q", err, resp, tt.want)
				}
				if err := from.AppendEntries("b.00000000", "b.00000000", appendRequest(2, 2), &resp); err != nil || !resp.Success {
					t.Errorf("the next request: %v, %+v", err, resp)
				}
			})
		})
	}
}
