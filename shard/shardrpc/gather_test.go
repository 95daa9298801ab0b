package shardrpc

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
)

// twoNodes is a cluster of 100 shards: n1 leads the even ones, n2 the odd ones.
func twoNodes(n1, n2 *fakeNode) *Dispatcher {
	var even, odd []allocator.ShardID
	for s := range allocator.ShardID(100) {
		if s%2 == 0 {
			even = append(even, s)
		} else {
			odd = append(odd, s)
		}
	}
	n1.status, n2.status = leads("n1", 1, even...), leads("n2", 1, odd...)
	dir := NewDirectory(DirectoryConfig{Shards: 100})
	dir.SetMember("n1", n1)
	dir.SetMember("n2", n2)
	return NewDispatcher(DispatcherConfig{Directory: dir})
}

func TestGatherAsksEachLeaderOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		n1, n2 := &fakeNode{}, &fakeNode{}
		count := func(r BucketsRequest) ([]BucketAnswer, error) {
			asked.Add(1)
			if len(r.Shards) != 50 || !r.Strong || r.SKU != "a" {
				t.Errorf("asked %+v", r)
			}
			return (&fakeNode{}).Buckets(t.Context(), r)
		}
		n1.buckets, n2.buckets = count, count
		d := twoNodes(n1, n2)
		synctest.Wait() // the directory knows the leaders
		all := d.Buckets(t.Context(), "a", true)
		cut, missing := all.Cut, all.Missing
		if len(missing) != 0 || len(cut) != 100 || asked.Load() != 2 {
			t.Errorf("%d reports, %v missing, %d questions", len(cut), missing, asked.Load())
		}
		for i := range cut {
			if int(cut[i].Shard) != i {
				t.Fatalf("report %d is of shard %d", i, cut[i].Shard)
			}
		}
		d.Directory().Close()
	})
}

func TestGatherRepeatsWhatIsMissing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n1, n2 := &fakeNode{}, &fakeNode{}
		tries := 0
		n2.buckets = func(r BucketsRequest) ([]BucketAnswer, error) {
			if tries++; tries == 1 {
				return nil, errors.New("no luck")
			}
			answers, _ := (&fakeNode{}).Buckets(t.Context(), r)
			if tries == 2 { // one shard is not ready yet
				answers[0] = BucketAnswer{Shard: r.Shards[0], Reason: ReasonNotReady}
			} else if len(r.Shards) != 1 {
				t.Errorf("asked again for %v", r.Shards)
			}
			return answers, nil
		}
		d := twoNodes(n1, n2)
		cut, missing := d.Gather(t.Context(), "a", false)
		if len(missing) != 0 || len(cut) != 100 || tries != 3 {
			t.Errorf("%d reports, %v missing, %d tries", len(cut), missing, tries)
		}
		d.Directory().Close()
	})
}

func TestGatherNamesWhoIsMissing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n1, n2 := &fakeNode{}, &fakeNode{}
		n2.buckets = func(BucketsRequest) ([]BucketAnswer, error) { return nil, errors.New("down") }
		d := twoNodes(n1, n2)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		cut, missing := d.Gather(ctx, "a", false)
		if len(cut) != 50 || len(missing) != 50 || missing[0] != 1 {
			t.Errorf("%d reports, missing %v", len(cut), missing)
		}
		if reason, since := d.Directory().Trouble(1); reason != ReasonUnreachable || since.IsZero() {
			t.Errorf("trouble of a missing shard: %v since %v", reason, since)
		}
		d.Directory().Close()
	})
}

func TestGatherSplitsBigQuestions(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var all []allocator.ShardID
		for s := range allocator.ShardID(3*MaxBucketsPerRequest - 1) {
			all = append(all, s)
		}
		dir := NewDirectory(DirectoryConfig{Shards: len(all)})
		var asked atomic.Int64
		dir.SetMember("n1", &fakeNode{status: leads("n1", 1, all...), buckets: func(r BucketsRequest) ([]BucketAnswer, error) {
			if asked.Add(1); len(r.Shards) > MaxBucketsPerRequest {
				t.Errorf("asked for %d shards at once", len(r.Shards))
			}
			return (&fakeNode{}).Buckets(t.Context(), r)
		}})
		d := NewDispatcher(DispatcherConfig{Directory: dir})
		synctest.Wait()
		cut, missing := d.Gather(t.Context(), "a", false)
		if len(cut) != len(all) || len(missing) != 0 || asked.Load() != 3 {
			t.Errorf("%d reports, %v missing, %d questions", len(cut), missing, asked.Load())
		}
		dir.Close()
	})
}

func TestReadsFollowTheLeader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n1 := &fakeNode{reservation: func(ReservationRequest) (ReservationAnswer, error) {
			return ReservationAnswer{Reason: ReasonNotLeader, Leader: "n2"}, nil
		}}
		n2 := &fakeNode{reservation: func(ReservationRequest) (ReservationAnswer, error) {
			return ReservationAnswer{Found: true, Reservation: fullReservation}, nil
		}}
		d := cluster(t, map[NodeID]*fakeNode{"n1": n1, "n2": n2})
		r, found, err := d.Reservation(t.Context(), allocator.ReservationID{Seq: 99})
		if err != nil || !found || r.BuyerID != "buyer" {
			t.Errorf("got %+v %v %v", r, found, err)
		}
		d.Directory().Close()
	})
}

func TestReadsEndWithTheirCaller(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := cluster(t, map[NodeID]*fakeNode{"n1": {skus: func(SKUsRequest) (SKUsAnswer, error) {
			return SKUsAnswer{Reason: ReasonNotReady}, nil
		}}})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := d.SKUs(ctx, SKUsRequest{})
		var u *UnavailableError
		if !errors.As(err, &u) || u.Reason != ReasonNotReady || !u.Since.Equal(began) {
			t.Errorf("got %v", err)
		}
		d.Directory().Close()
	})
}
