package membership

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestOddClaims hears claims that no member makes. They are counted and dropped, whole
// messages of them, or what this member tells others would grow until they refuse it.
func TestOddClaims(t *testing.T) {
	long := strings.Repeat("n", maxClaimNode)
	for name, tt := range map[string]struct {
		message []byte
		want    int // claims that are kept
	}{
		"good":             {[]byte(`[{"s":1023,"t":1,"n":"` + long + `"}]`), 1},
		"no such shard":    {[]byte(`[{"s":1,"t":1,"n":"a"},{"s":1024,"t":1,"n":"a"}]`), 0},
		"no such node":     {[]byte(`[{"s":1,"t":1,"n":"` + long + `n"}]`), 0},
		"too many":         {[]byte(`[` + strings.Repeat(`{},`, maxClaims) + `{}]`), 0},
		"too long to read": {[]byte(`[` + strings.Repeat(" ", maxClaims*maxClaimLen) + `]`), 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := alone()
			(*delegate)(m).MergeRemoteState(tt.message, false)
			refused := int(testutil.ToFloat64(m.metrics.refused.WithLabelValues(refusedClaims)))
			if got := len(m.View().Leaders); got != tt.want || refused == tt.want {
				t.Errorf("%d claims are kept, want %d; %d messages were refused", got, tt.want, refused)
			}
		})
	}
	// What a member may know fits into what another one takes.
	all := make([]Claim, maxClaims)
	for i := range all {
		all[i] = Claim{Shard: uint16(i), Term: 1<<64 - 1, Node: strings.Repeat("<", maxClaimNode)}
	}
	if b, err := json.Marshal(all); err != nil || len(b) > maxClaims*maxClaimLen {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
