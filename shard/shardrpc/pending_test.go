package shardrpc

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stockade/shard/bubble"
)

// TestPendingExpiresEachOnce runs entries with deadlines in any order through a
// set whose owner sweeps it, and looks at when they come out.
func TestPendingExpiresEachOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex // guards p, as its owner's would
		var p *pending[int]
		out := make(chan []int, 100)
		p = newPending[int](func() {
			mu.Lock()
			defer mu.Unlock()
			out <- p.due(time.Now())
		})
		mu.Lock()
		for i, ms := range []int{50, 10, 2000, 11, 30} {
			p.add(uint64(i), start.Add(time.Duration(ms)*time.Millisecond), ms)
		}
		if v, ok := p.take(4); !ok || v != 30 {
			t.Errorf("take: %v %v", v, ok)
		}
		if _, ok := p.take(4); ok {
			t.Error("an entry was taken twice")
		}
		mu.Unlock()
		var got []int
		for len(got) < 4 {
			due := <-out
			now := int(time.Since(start) / time.Millisecond)
			for _, ms := range due {
				if now < ms || now > ms+2*int(sweepInterval/time.Millisecond) {
					t.Errorf("the entry of %d ms came at %d ms", ms, now)
				}
			}
			got = append(got, due...)
		}
		if slices.Sort(got); !slices.Equal(got, []int{10, 11, 50, 2000}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestPendingClearStopsTheTimer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		fired := false
		p := newPending[int](func() { fired = true })
		p.add(1, time.Now().Add(time.Second), 7)
		if got := p.clear(); !slices.Equal(got, []int{7}) {
			t.Errorf("got %v", got)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if fired {
			t.Error("the timer fired after clear")
		}
	})
}
