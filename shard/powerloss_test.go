//go:build !race

package shard

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/recdisk"
	"stockade/shard/shardrpc"
)

const (
	// powerLossDir is set in the process that is recorded: where its nodes are.
	powerLossDir = "POWERLOSS_DIR"
	// powerLossMoments is how many moments are looked at, of each store.
	powerLossMoments = "POWERLOSS_MOMENTS"
	// powerLossLeft is a directory that a failure was kept in, to be looked at again.
	powerLossLeft = "POWERLOSS_LEFT"

	powerLossShards = 2
	powerLossStock  = 1000
	powerLossMarks  = "marks"
	usualMoments    = 60
)

// TestPowerLoss takes the power from a whole cluster at random moments of its life,
// between any two system calls: while it forms, elects, writes, takes and sends snapshots,
// cuts its logs and starts again. From what the disks have then, it must go on, with all
// that was answered before. Every file counts here: logs, their lists, votes, snapshots,
// who the node is.
func TestPowerLoss(t *testing.T) {
	for _, kind := range bothKinds {
		t.Run(string(kind), func(t *testing.T) {
			if dir := os.Getenv(powerLossDir); dir != "" {
				bubble.Test(t, func(t *testing.T) { newLosing(t, kind, dir).live() })
				return
			}
			if kept := os.Getenv(powerLossLeft); kept != "" {
				left := t.TempDir()
				copyDir(t, kept, left)
				bubble.Test(t, func(t *testing.T) { newLosing(t, kind, left).goOn(readAll(t, filepath.Join(kept, powerLossMarks))) })
				return
			}
			losePower(t, kind)
		})
	}
}

// losePower records a cluster's life and starts it again from what is left of moments of
// it. Some of these lives are recorded as well, and end as suddenly.
func losePower(t *testing.T, kind LogStoreKind) {
	p := powerLoss{t: t, kind: kind, moments: usualMoments}
	seed := rand.Uint64()
	var err error
	if fixed := os.Getenv(stormSeedEnv); fixed != "" {
		seed, err = strconv.ParseUint(fixed, 10, 64)
		check(t, err)
	}
	if asked := os.Getenv(powerLossMoments); asked != "" {
		p.moments, err = strconv.Atoi(asked)
		check(t, err)
	}
	t.Logf("%s=%d draws the same, of another recording", stormSeedEnv, seed)
	p.random = rand.New(rand.NewPCG(seed, 0))
	life := p.record(t.TempDir())
	for i := range 3 {
		for _, says := range []string{`rename .*/n%d/.*/snapshots/.*\.tmp to `, `remove .*/n%d/.*/snapshots/`, `rename .*/n%d/cluster\.json`, `begin sync .*/n%d/.*/` + logPattern(kind)} {
			if says = fmt.Sprintf(says, i+1); !life.Find(regexp.MustCompile(says)) {
				t.Errorf("the recording has nothing like %q", says)
			}
		}
	}
	if cut := regexp.MustCompile(`remove .*\.wal`); kind == LogStoreWAL && !life.Find(cut) {
		t.Error("no log was cut")
	}
	p.end(life.Disk(), life, p.moments/2)
	for range max(1, p.moments/60) {
		p.again(life)
	}
}

// logPattern is what the log of a store is in.
func logPattern(kind LogStoreKind) string {
	if kind == LogStoreWAL {
		return walDir + "/.*\\.wal"
	}
	return boltFile
}

// powerLoss takes the power at moments of recorded lives.
type powerLoss struct {
	t       *testing.T
	kind    LogStoreKind
	moments int
	random  *rand.Rand
}

// again records what a cluster does that was killed, or lost its power, at some moment.
func (p *powerLoss) again(first *recdisk.Recording) {
	if p.t.Failed() {
		return
	}
	before := first.Disk()
	at := p.random.IntN(first.Len() + 1)
	check(p.t, before.Go(at))
	l, root := recdisk.Draw(p.random), p.t.TempDir()
	check(p.t, before.Leave(root, l, p.random))
	marks := filepath.Join(root, powerLossMarks)
	check(p.t, os.WriteFile(marks, before.Content(powerLossMarks), fileMode)) // clients have no power failure
	found := p.t.TempDir()
	copyDir(p.t, root, found)
	second := p.record(root)
	p.t.Logf("at %d left is %s", at, l)
	if l == recdisk.Everything { // it was killed: the disk does not have it all
		before.Continue(second)
		p.end(before, second, 30)
		return
	}
	disk, err := second.DiskOn(found)
	check(p.t, err)
	p.end(disk, second, 30)
}

// end ends a recorded life at random moments, and has clusters go on from there.
func (p *powerLoss) end(disk *recdisk.Disk, life *recdisk.Recording, count int) {
	moments := make([]int, count)
	for i := range moments {
		moments[i] = life.Moment(p.random)
	}
	slices.Sort(moments)
	p.t.Logf("%d of %d moments", count, life.Len())
	for _, at := range moments {
		check(p.t, disk.Go(at))
		if !p.goOn(disk, at) {
			for i := max(0, at-30); i < at; i++ {
				p.t.Log(life.Step(i))
			}
			return
		}
	}
}

// goOn has a cluster go on from what is left, which is kept if it does not.
func (p *powerLoss) goOn(disk *recdisk.Disk, at int) bool {
	dir, err := os.MkdirTemp("", "powerloss-*")
	check(p.t, err)
	left, marks := p.t.TempDir(), disk.Content(powerLossMarks)
	what, err := p.leave(disk, dir)
	check(p.t, err)
	check(p.t, os.WriteFile(filepath.Join(dir, powerLossMarks), marks, fileMode)) // clients have no power failure
	copyDir(p.t, dir, left)
	ok := p.t.Run(fmt.Sprintf("%d, left is %s", at, what), func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) { newLosing(t, p.kind, left).goOn(marks) })
	})
	if !ok {
		p.t.Logf("again: %s=%s go test -count=1 -run '^TestPowerLoss$/^%s$' ./shard", powerLossLeft, dir, p.kind)
		return false
	}
	check(p.t, errors.Join(os.RemoveAll(left), os.RemoveAll(dir)))
	return true
}

// leave draws what is left, of all hosts alike or of each for itself.
func (p *powerLoss) leave(disk *recdisk.Disk, dir string) (what string, err error) {
	if p.random.IntN(3) == 0 {
		return disk.LeaveEach(dir, p.random)
	}
	l := recdisk.Draw(p.random)
	return l.String(), disk.Leave(dir, l, p.random)
}

// record has this test run in a process of its own that is recorded.
func (p *powerLoss) record(root string) *recdisk.Recording {
	if _, err := exec.LookPath("strace"); err != nil {
		p.t.Skipf("NOT TESTED: nothing can be recorded here: %v", err)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	trace := filepath.Join(p.t.TempDir(), "trace")
	args := recdisk.Command(trace, os.Args[0], "-test.run", "^"+p.t.Name()+"$", "-test.count", "1")
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), powerLossDir+"="+root)
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("record: %v\n%s", err, out)
	}
	file, err := os.Open(trace)
	check(p.t, err)
	defer closeRead(file)
	life, err := recdisk.Read(file, root)
	check(p.t, err)
	return life
}

// losing is a cluster whose power will fail.
type losing struct {
	t     *testing.T
	c     *testCluster
	sku   [powerLossShards]string
	marks *os.File
	asked uint32
}

func newLosing(t *testing.T, kind LogStoreKind, dir string) *losing {
	l := &losing{t: t}
	l.c = newTestCluster(t, 3, powerLossShards, func(cfg *Config) {
		cfg.LogStore = kind
		cfg.Storage.SegmentSize = testSegment
		cfg.Storage.SnapshotEvery = time.Second
		cfg.Storage.SnapshotAfter = 24
		cfg.Storage.Trailing = 8
	})
	l.c.dir = dir
	for i := range l.sku {
		l.sku[i] = skuOn(allocator.ShardID(i), powerLossShards, "hot")
	}
	return l
}

// mark notes what was asked or answered, in a file that is recorded with the others.
func (l *losing) mark(format string, args ...any) {
	_, err := fmt.Fprintf(l.marks, format+"\n", args...)
	check(l.t, err)
}

// live is the life that is recorded: the first one, or one after a failure.
func (l *losing) live() {
	marks := filepath.Join(l.c.dir, powerLossMarks)
	before, err := os.ReadFile(marks)
	check(l.t, ignoreMissing(err))
	l.asked = uint32(bytes.Count(before, []byte("asked")))
	l.marks, err = os.OpenFile(marks, os.O_CREATE|os.O_APPEND|os.O_WRONLY, fileMode)
	check(l.t, err)
	defer l.marks.Close()
	l.c.startAll()
	defer l.c.stopAll()
	for shard := range allocator.ShardID(powerLossShards) {
		l.c.leader(shard)
		put := putSKU(l.sku[shard], powerLossStock) // again, if it was there
		put.Policy = allocator.Policy{DefaultTTL: 3_600_000, MaxTTL: 3_600_000}
		l.c.apply(l.c.nodes["n1"], shard, put.AppendTo(nil))
		l.mark("created %d", shard)
	}
	l.sell(40)
	if l.asked > 40 {
		return // it is how it starts that counts
	}
	name := func() string { return fmt.Sprintf("n%d", 1+rand.IntN(3)) }
	events := []func(){
		func() { l.withoutOne(name()) },
		func() { l.overruled(allocator.ShardID(rand.IntN(powerLossShards))) },
		func() {
			stopped := name()
			l.c.stop(stopped)
			l.sell(20)
			l.c.start(stopped)
		},
		func() { l.c.stopAll(); l.c.startAll() },
	}
	for _, i := range rand.Perm(len(events)) {
		events[i]()
		l.sell(20)
	}
}

// sell sells some units, and confirms and cancels some.
func (l *losing) sell(units int) {
	for i := range units {
		shard := allocator.ShardID(l.asked % powerLossShards)
		l.asked++
		l.mark("asked %d", shard)
		res := l.c.apply(l.c.leader(shard), shard, l.reserve(l.asked).AppendTo(nil))
		id := res.Reservation.ID
		l.mark("reserved %d %d %d", l.asked, id.Shard, id.Seq)
		switch i % 4 {
		case 0:
			l.c.apply(l.c.leader(shard), shard, (&allocator.Confirm{ID: id}).AppendTo(nil))
			l.mark("confirmed %d %d %d", l.asked, id.Shard, id.Seq)
		case 2, 3: // so that logs have segments
			l.c.putLarge(l.c.leader(shard), shard, fmt.Sprintf("large-%d", l.asked))
		case 1:
			l.mark("cancels %d", shard)
			l.c.apply(l.c.leader(shard), shard, (&allocator.Cancel{ID: id}).AppendTo(nil))
			l.mark("canceled %d %d %d", l.asked, id.Shard, id.Seq)
		}
	}
}

// reserve asks for a unit with a key made of a number.
func (l *losing) reserve(no uint32) *allocator.Reserve {
	sku := l.sku[(no-1)%powerLossShards]
	cmd := &allocator.Reserve{Body: 1, Lines: []allocator.Line{{SKU: allocator.SKU(sku), Quantity: 1}}}
	cmd.Key[0] = 9
	binary.LittleEndian.PutUint32(cmd.Key[4:], no)
	return cmd
}

// withoutOne sells without a node until the others have cut their logs: it needs a snapshot.
func (l *losing) withoutOne(name string) {
	lost := l.c.nodes[name]
	l.c.net.Isolate(name, true)
	delete(l.c.nodes, name)
	for range 3 {
		l.sell(30)
		<-time.After(3 * time.Second) // of virtual time: snapshots are taken
	}
	l.c.net.Isolate(name, false)
	l.c.nodes[name] = lost
	l.agree()
}

// overruled cuts off a leader whose log gets an entry that nobody else has, and is cut.
func (l *losing) overruled(shard allocator.ShardID) {
	leader := l.c.leader(shard)
	name := string(leader.ID())
	l.c.net.Isolate(name, true)
	answer := make(chan shardrpc.Response, 1)
	leader.Dispatcher().Propose(&shardrpc.Proposal{
		Shard: shard, Command: putSKU("nobody else's", 1).AppendTo(nil), Deadline: time.Now().Add(2 * time.Second),
		Done: func(r shardrpc.Response) { answer <- r },
	})
	delete(l.c.nodes, name)
	l.sell(10)
	<-answer
	l.c.net.Isolate(name, false)
	l.c.nodes[name] = leader
	l.agree()
}

// agree waits until all nodes have applied the same.
func (l *losing) agree() {
	l.t.Helper()
	for shard := range allocator.ShardID(powerLossShards) {
		eventually(l.t, fmt.Sprintf("the replicas of shard %d have applied the same", shard), func() bool {
			var all []allocator.BucketReport
			for _, n := range l.c.nodes {
				n.replica(shard).fsm.Read(func(s *allocator.State) { all = append(all, s.Bucket(allocator.SKU(l.sku[shard]))) })
			}
			for _, b := range all {
				if b.Applied == all[0].Applied && b.Hash != all[0].Hash {
					l.t.Fatalf("shard %d: replicas differ after command %d", shard, b.Applied)
				}
			}
			return !slices.ContainsFunc(all, func(b allocator.BucketReport) bool { return b.Applied != all[0].Applied })
		})
	}
}

// marked is what clients knew when the power failed.
type marked struct {
	created [powerLossShards]bool
	asked   [powerLossShards]int // how many reservations
	cancels [powerLossShards]int // how many of them were to be canceled
	status  map[allocator.ReservationID]allocator.Status
	key     map[allocator.ReservationID]uint32
}

func readMarks(t *testing.T, marks []byte) marked {
	k := marked{status: map[allocator.ReservationID]allocator.Status{}, key: map[allocator.ReservationID]uint32{}}
	statuses := map[string]allocator.Status{
		"reserved": allocator.StatusReserved, "confirmed": allocator.StatusConfirmed, "canceled": allocator.StatusCanceled,
	}
	for line := range bytes.Lines(marks) {
		var what string
		var no uint32
		var id allocator.ReservationID
		n, _ := fmt.Sscan(string(line), &what, &no, &id.Shard, &id.Seq)
		switch {
		case n == 2 && what == "created":
			k.created[no] = true
		case n == 2 && what == "asked":
			k.asked[no]++
		case n == 2 && what == "cancels":
			k.cancels[no]++
		case n == 4:
			k.status[id], k.key[id] = statuses[what], no
		default:
			t.Fatalf("a mark: %q", line)
		}
	}
	return k
}

// goOn starts the cluster from what is left, and looks for what clients were told.
func (l *losing) goOn(marks []byte) {
	k := readMarks(l.t, marks)
	l.c.startAll()
	defer l.c.stopAll()
	for shard := range allocator.ShardID(powerLossShards) {
		l.c.leader(shard)
		if res := l.c.put(l.c.nodes["n1"], shard, skuOn(shard, powerLossShards, "after")); !res.Created {
			l.t.Errorf("shard %d: %v", shard, res.Code)
		}
	}
	l.agree()
	for id, want := range k.status {
		for name, n := range l.c.nodes {
			n.replica(id.Shard).fsm.Read(func(s *allocator.State) {
				// What was to end it may have been under way.
				got, found := s.Reservation(id)
				if !found || got.Status != want && want != allocator.StatusReserved {
					l.t.Errorf("%s: reservation %v of key %d is %v (found: %v), its client was told %v", name, id, k.key[id], got.Status, found, want)
				}
			})
		}
	}
	for id, no := range k.key {
		if res := l.c.apply(l.c.nodes["n2"], id.Shard, l.reserve(no).AppendTo(nil)); res.Reservation.ID != id {
			l.t.Errorf("key %d has reservation %v, its client was told %v", no, res.Reservation.ID, id)
		}
	}
	for shard, created := range k.created {
		if created {
			l.balance(shard, k)
		}
	}
}

// balance compares the units of a SKU with what clients asked for and were told.
func (l *losing) balance(shard int, k marked) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	all := l.c.nodes["n1"].Dispatcher().Buckets(ctx, allocator.SKU(l.sku[shard]), true)
	if b := all.Cut.Balance(); len(all.Missing) > 0 || !b.Balanced || b.OnHand != powerLossStock {
		l.t.Errorf("shards %v miss; %+v", all.Missing, b)
	}
	var taken, reserved, canceled int
	for i := range all.Cut {
		taken += int(all.Cut[i].Reserved + all.Cut[i].Committed)
	}
	for id, status := range k.status {
		if int(id.Shard) != shard {
			continue
		}
		reserved++
		if status == allocator.StatusCanceled {
			canceled++
		}
	}
	if least, most := reserved-k.cancels[shard], k.asked[shard]-canceled; taken < least || taken > most {
		l.t.Errorf("shard %d: %d units are taken; by what clients were told they are %d to %d", shard, taken, least, most)
	}
}
