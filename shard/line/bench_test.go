package line

import (
	"fmt"
	"testing"
	"time"

	"stockade/allocator"
)

// BenchmarkStep measures a step over a line in which nobody can be served, as
// when a batch has been applied that changed the bucket. The picture tells that
// there is nothing, so that who waits is short, or one unit too few for each.
func BenchmarkStep(b *testing.B) {
	for _, entries := range []int{1, 128, 1024, MaxEntries} {
		b.Run(fmt.Sprint("entries", entries), func(b *testing.B) {
			c := &counter{now: start, here: map[allocator.SKU]*allocator.BucketReport{}}
			c.desk = NewDesk(0, 3, c)
			c.have("a", 0)
			for range entries {
				c.desk.Park(Arrival{
					Needs: []Need{{"a", 1}}, Parked: 1, Deadline: start.Add(time.Hour), WaitUntil: start.Add(time.Hour),
				})
			}
			c.picture("a", 0, 0, 0)
			c.desk.Step(c.now)
			b.ResetTimer()
			b.ReportAllocs()
			for b.Loop() {
				c.have("a", 0)
				if actions, _ := c.desk.Step(c.now); len(actions) > 0 {
					b.Fatal(list(actions))
				}
			}
		})
	}
}

// BenchmarkServe measures a whole line served, one entry at each step.
func BenchmarkServe(b *testing.B) {
	const entries = 4096
	for b.Loop() {
		c := &counter{now: start, here: map[allocator.SKU]*allocator.BucketReport{}}
		c.desk = NewDesk(0, 3, c)
		c.have("a", 0)
		for range entries {
			c.desk.Park(Arrival{Needs: []Need{{"a", 1}}, Parked: 1, Deadline: start.Add(time.Hour), WaitUntil: start.Add(time.Hour)})
		}
		c.picture("a", 0, 0, 0)
		c.desk.Step(c.now)
		for range entries {
			c.have("a", 1)
			actions, _ := c.desk.Step(c.now)
			if len(actions) != 1 || actions[0].Kind != Propose {
				b.Fatal(list(actions))
			}
			c.have("a", 0)
			c.desk.Done(actions[0].ID)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/entries, "ns/entry")
}
