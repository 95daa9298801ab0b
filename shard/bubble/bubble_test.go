package bubble_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"stockade/shard/bubble"
)

// TestDueTimers has goroutines look at timers that are due, which ended the process
// under the race detector while more than one processor did so.
func TestDueTimers(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	bubble.Test(t, func(t *testing.T) {
		var fired sync.WaitGroup
		for range 8 {
			fired.Go(func() {
				for range 2000 {
					due := time.NewTimer(0)
					select {
					case <-due.C:
					default:
						t.Error("a timer of no time is not due")
					}
				}
			})
		}
		fired.Wait()
	})
	if after := runtime.GOMAXPROCS(0); after != before {
		t.Errorf("%d processors, before it were %d", after, before)
	}
}
