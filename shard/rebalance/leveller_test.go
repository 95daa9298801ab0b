package rebalance

import (
	"testing"
	"time"

	"stockade/allocator"
)

// TestLevellerWaitsForItsMoves to be answered, and to show in the levels.
func TestLevellerWaitsForItsMoves(t *testing.T) {
	cut := allocator.Cut{
		{Shard: 0, Shards: 2, Available: 1000, Rate: 1},
		{Shard: 1, Shards: 2, Available: 10, Rate: 1000},
	}
	now := time.UnixMilli(1_000_000)
	var l Leveller
	if l.Moved("a", now); len(l.under) != 0 {
		t.Error("a move that nobody made is under way")
	}
	moves := l.Plan("a", cut, now)
	if len(moves) != 1 || moves[0].From != 0 || moves[0].To != 1 {
		t.Fatalf("moves %+v", moves)
	}
	if more := l.Plan("a", cut, now.Add(time.Second)); more != nil {
		t.Errorf("more while one is under way: %+v", more)
	}
	if other := l.Plan("b", cut, now); len(other) != 1 {
		t.Errorf("another SKU has to wait: %+v", other)
	}
	answered := now.Add(time.Millisecond)
	l.Moved("a", answered)
	if more := l.Plan("a", cut, answered.Add(-1)); more != nil {
		t.Errorf("more by levels of before the answer: %+v", more)
	}
	if more := l.Plan("a", cut, answered); len(more) != 1 {
		t.Errorf("the levels say that it is still needed: %+v", more)
	}
}
