package rebalance

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"stockade/allocator"
)

// drawBuckets draws the buckets of a cluster: some empty, some with much, with
// even, uneven or unknown demand.
func drawBuckets(t *rapid.T) []Bucket {
	buckets := make([]Bucket, rapid.IntRange(1, 64).Draw(t, "shards"))
	top := rapid.SampledFrom([]int64{3, 100, 10_000, allocator.MaxOnHand / 64}).Draw(t, "top")
	fastest := rapid.SampledFrom([]float64{0, 1, 100, 100_000}).Draw(t, "fastest")
	for i := range buckets {
		buckets[i] = Bucket{
			Shard:     allocator.ShardID(i),
			Available: allocator.Quantity(rapid.Int64Range(0, top).Draw(t, "available")),
			Rate:      rapid.Float64Range(0, fastest).Draw(t, "rate"),
		}
	}
	return buckets
}

func totalOf(buckets []Bucket) (total allocator.Quantity) {
	for _, b := range buckets {
		total += b.Available
	}
	return total
}

// carryOut makes the moves, and fails if a bucket gives what it does not have or
// a move is none.
func carryOut(t *rapid.T, buckets []Bucket, moves []Move) []Bucket {
	after := slices.Clone(buckets)
	for _, m := range moves {
		if m.Quantity < 1 || m.From == m.To {
			t.Fatalf("no move: %+v", m)
		}
		after[m.From].Available -= m.Quantity
		after[m.To].Available += m.Quantity
	}
	for i, b := range after {
		if b.Available < 0 {
			t.Fatalf("bucket %d of %+v gives more than it has: %+v", i, buckets, moves)
		}
	}
	return after
}

func TestAsksCoverTheNeed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		buckets := drawBuckets(t)
		home := allocator.ShardID(rapid.IntRange(0, len(buckets)-1).Draw(t, "home"))
		elsewhere := totalOf(buckets) - buckets[home].Available
		need := allocator.Quantity(rapid.Int64Range(0, int64(elsewhere)+3).Draw(t, "need"))
		turn := rapid.IntRange(0, 1<<40).Draw(t, "turn")

		asks := Asks(home, need, buckets, turn)
		var asked allocator.Quantity
		seen := map[allocator.ShardID]bool{home: true}
		for _, a := range asks {
			if seen[a.Giver] {
				t.Fatalf("shard %d is asked twice, or is the home itself: %+v", a.Giver, asks)
			}
			seen[a.Giver] = true
			if a.Quantity < 1 || a.Quantity > buckets[a.Giver].Available {
				t.Fatalf("ask %+v of %+v", a, buckets[a.Giver])
			}
			asked += a.Quantity
		}
		if want := min(need, elsewhere); asked != want {
			t.Fatalf("asked for %d, want %d", asked, want)
		}
		if again := Asks(home, need, rapid.Permutation(buckets).Draw(t, "order"), turn); !slices.Equal(asks, again) {
			t.Fatalf("the order of the buckets matters: %+v and %+v", asks, again)
		}
	})
}

func TestGrantIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0, 1e6)
		c := Asked{
			Need:      allocator.Quantity(rapid.Int64Range(-3, 1000).Draw(t, "need")),
			Left:      allocator.Quantity(rapid.Int64Range(-3, allocator.MaxOnHand).Draw(t, "left")),
			HomeRate:  rate.Draw(t, "home"),
			GiverRate: rate.Draw(t, "giver"),
		}
		got := Grant(c)
		if got < 0 || got > max(c.Left, 0) {
			t.Fatalf("%+v: granted %d", c, got)
		}
		if got < min(max(c.Need, 0), max(c.Left, 0)) {
			t.Fatalf("%+v: granted %d, less than what is needed and there", c, got)
		}
	})
}

// Level takes nothing that is not there, makes no more moves than it says, and
// is content with what it has done.
func TestLevelIsContent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		buckets := drawBuckets(t)
		moves := Level(buckets)
		if len(moves) > tuned.maxMoves {
			t.Fatalf("%d moves", len(moves))
		}
		after := carryOut(t, buckets, moves)
		if totalOf(after) != totalOf(buckets) {
			t.Fatal("units appeared or vanished")
		}
		if len(moves) == tuned.maxMoves {
			return // there was more to do
		}
		if again := Level(after); len(again) > 0 {
			t.Fatalf("after %+v made %+v, it wants %+v", moves, after, again)
		}
	})
}

// With equal rates and equal buckets, up to some chance, there is nothing to do.
func TestLevelIsSilentWhenDemandIsEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0, 1e5).Draw(t, "rate")
		base := rapid.Int64Range(2, 1_000_000).Draw(t, "base")
		buckets := make([]Bucket, rapid.IntRange(1, 64).Draw(t, "shards"))
		for i := range buckets {
			n := rapid.Int64Range(base*9/10, base*11/10).Draw(t, "available")
			buckets[i] = Bucket{allocator.ShardID(i), allocator.Quantity(n), rate}
		}
		if moves := Level(buckets); len(moves) > 0 {
			t.Fatalf("%+v: %+v", buckets, moves)
		}
	})
}

func TestSpreadSendsTheDeposit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		buckets := drawBuckets(t)
		from := allocator.ShardID(rapid.IntRange(0, len(buckets)-1).Draw(t, "from"))
		units := allocator.Quantity(rapid.Int64Range(0, int64(buckets[from].Available)+3).Draw(t, "units"))
		moves := Spread(from, units, buckets)
		after := carryOut(t, buckets, moves)
		if sent := buckets[from].Available - after[from].Available; sent > units {
			t.Fatalf("%d of %d units sent: %+v", sent, units, moves)
		}
		for _, m := range moves {
			if m.From != from || m.Quantity < tuned.leastPart {
				t.Fatalf("not worth a transfer, or not the deposit: %+v", m)
			}
		}
	})
}

func TestSpreadOfANewSKU(t *testing.T) {
	buckets := func(units allocator.Quantity) []Bucket {
		b := make([]Bucket, 16)
		for i := range b {
			b[i].Shard = allocator.ShardID(i)
		}
		b[3].Available = units
		return b
	}
	if moves := Spread(3, 1600, buckets(1600)); len(moves) != 15 || moves[0].Quantity != 100 {
		t.Errorf("1,600 units over 16 shards: %+v", moves)
	}
	if moves := Spread(3, 63, buckets(63)); len(moves) != 0 {
		t.Errorf("63 units over 16 shards: %+v", moves)
	}
	if moves := Spread(3, 96, buckets(96)); len(moves) != 2 || moves[0] != (Move{3, 4, 32}) || moves[1] != (Move{3, 5, 32}) {
		t.Errorf("96 units over 16 shards: %+v", moves)
	}
}

// A restock goes where it sells, and where little is left.
func TestSpreadOfARestock(t *testing.T) {
	buckets := []Bucket{{0, 1000, 10}, {1, 0, 10}, {2, 500, 10}, {3, 0, 70}}
	got := Spread(0, 1000, buckets)
	// 1,500 units by weights 0.115 three times and 0.655; shard 2 has enough.
	want := []Move{{0, 3, 740}, {0, 1, 129}}
	if len(got) != 2 || got[0].To != 1 && got[0].To != 3 {
		t.Fatalf("%+v", got)
	}
	slices.SortFunc(got, func(a, b Move) int { return int(b.Quantity - a.Quantity) })
	for i := range want {
		if got[i].To != want[i].To || max(got[i].Quantity-want[i].Quantity, want[i].Quantity-got[i].Quantity) > 1 {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

// Homes that are short at the same moment spread over givers of the same kind.
func TestAsksSpreadOverGivers(t *testing.T) {
	buckets := make([]Bucket, 64)
	for i := range buckets {
		buckets[i] = Bucket{Shard: allocator.ShardID(i), Available: 1}
	}
	asked := map[allocator.ShardID]int{}
	for home := range 64 {
		asked[Asks(allocator.ShardID(home), 1, buckets, 0)[0].Giver]++
	}
	if len(asked) < 32 {
		t.Errorf("64 homes ask only %d givers", len(asked))
	}
	buckets[9].Available = 100
	if a := Asks(3, 1, buckets, 0); a[0].Giver != 9 {
		t.Errorf("the richest is shard 9, asked is %+v", a)
	}
	buckets[9].Rate = 100 / tuned.askLag // sold out by the time it is asked
	if a := Asks(3, 1, buckets, 0); a[0].Giver == 9 {
		t.Errorf("asked is shard 9, which will have none")
	}
}

func TestMeter(t *testing.T) {
	var m Meter
	if r := m.Rate(5); r != 0 {
		t.Errorf("a meter that has seen nothing says %v", r)
	}
	const start = allocator.Millis(1_700_000_000_000)
	for now := start; now < start+5000; now++ {
		m.Add(20, now)
		if age := now - start; age >= 2*leastAge && math.Abs(m.Rate(now)-20_000) > 200 {
			t.Fatalf("after %d ms of 20,000 units/s it says %v", age, m.Rate(now))
		}
	}
	if r := m.Rate(start + 5000 + 3*meterMemory); r > 20_000*0.06 {
		t.Errorf("three time constants after the last it says %v", r)
	}
	m.Add(1, start) // a clock that ran backwards
	if r := m.Rate(start); math.IsNaN(r) || r < 0 {
		t.Errorf("it says %v", r)
	}
}
