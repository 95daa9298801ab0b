//go:build !race

package main_test

import "testing"

// TestSlowSellOut is TestSellOut at full size: 100,000 units, half as many
// requests again, and 256 connections.
func TestSlowSellOut(t *testing.T) {
	for _, s := range sellOuts(100_000, 150_000, 256) {
		t.Run(s.name, s.run)
	}
}
