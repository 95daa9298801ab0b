//go:build !race

package line

import (
	"math/rand/v2"
	"testing"
)

// TestSlowSettle is TestOrdersAreSettled and its kind with many more seeds.
func TestSlowSettle(t *testing.T) {
	tests := map[string]struct {
		plan  func(*rand.Rand) plan
		after func(*world) error
	}{
		"quiet": {quiet, soon}, "carts": {carts, soon}, "rough": {rough, settled}, "returning": {returning, settled},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { simulate(t, 5000, tt.plan, tt.after) })
	}
}
