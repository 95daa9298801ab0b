//go:build !race

package shard

import (
	"testing"
	"time"

	"stockade/shard/bubble"
)

// TestSlowCrashPoints is the whole matrix of TestCrashPointsOfATransfer: each
// fault at each point; and, at the points that leave a message with the source,
// a destination that is gone for an hour.
func TestSlowCrashPoints(t *testing.T) {
	hour := goneFault("destination is gone for an hour", time.Hour, func(cfg *Config) { // of slow heartbeats: they take their time
		cfg.Timing.Election, cfg.Timing.Lease, cfg.Timing.Commit = 5*time.Second, 5*time.Second, 4*time.Second
	})
	for _, point := range crashPoints {
		faults := crashFaults
		if point.name == "applied and not sent" || point.name == "acknowledged and the acknowledgement lost" {
			faults = append(faults[:len(faults):len(faults)], hour)
		}
		for _, fault := range faults {
			t.Run(point.name+", "+fault.name, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) { crash(t, point, fault) })
			})
		}
	}
}
