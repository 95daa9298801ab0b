//go:build huge

package main_test

import "testing"

// TestHugeSellOut is TestSellOut at full size: 100,000 units, half as many
// requests again, and 256 connections. `make sellout` runs it.
func TestHugeSellOut(t *testing.T) {
	for _, s := range sellOuts(100_000, 150_000, 256) {
		t.Run(s.name, s.run)
	}
}
