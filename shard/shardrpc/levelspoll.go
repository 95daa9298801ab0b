package shardrpc

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// pollInterval is the time between two questions to a node. Levels are then
	// some 25 ms old at the most: a question, the proof that its node led, and
	// the next question, each with its way; half of MaxLevelAge.
	pollInterval = 10 * time.Millisecond
	// pollTimeout is how long an answer may take before the stream is given up.
	pollTimeout = time.Second
	// meetEvery is how often it is looked for nodes that are new.
	meetEvery = time.Second

	// A node that can't be asked is tried again after a pause that grows between
	// these bounds.
	minReopen = 10 * time.Millisecond
	maxReopen = 500 * time.Millisecond
)

// busy tells whether nodes are to be asked.
func (l *Levels) busy() bool { return l.wants.len() > 0 || instant(l.proving.Load()) > l.now() }

// run keeps a poller for each node, and drops what is not wanted any more.
func (l *Levels) run(ctx context.Context) {
	defer close(l.stopped)
	var done sync.WaitGroup
	defer done.Wait()
	pollers := make(map[NodeID]*poller)
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			return
		}
		l.active(ctx, pollers, &done)
	}
}

// active does run's work until nothing is wanted.
func (l *Levels) active(ctx context.Context, pollers map[NodeID]*poller, done *sync.WaitGroup) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var met time.Time
	for l.busy() && ctx.Err() == nil {
		if now := time.Now(); now.Sub(met) >= meetEvery {
			l.meet(ctx, pollers, done)
			met = now
		}
		select {
		case <-tick.C:
		case <-l.wake: // a poller may have gone to sleep just before
			met = time.Time{}
		case <-ctx.Done():
			return
		}
		l.sweep()
	}
}

// meet starts pollers for nodes that have none, and wakes those there are.
func (l *Levels) meet(ctx context.Context, pollers map[NodeID]*poller, done *sync.WaitGroup) {
	for _, id := range l.dir.Members() {
		p := pollers[id]
		if p == nil || p.ended() {
			p = &poller{levels: l, id: id, wake: make(chan struct{}, 1), stopped: make(chan struct{})}
			pollers[id] = p
			done.Go(func() { p.run(ctx) })
		}
		signal(p.wake)
	}
}

// sweep drops SKUs that are not wanted any more, and notes how old the rest is.
func (l *Levels) sweep() {
	now := l.now()
	l.wants.sweep(now)
	n := l.wants.len()
	l.metrics.levelsWanted.Set(float64(n))
	if n == 0 {
		l.wanting = 0
		return
	}
	if l.wanting == 0 {
		l.wanting = now
	}
	if at := instant(l.board.asOf.Load()); at > 0 { // what was kept from before nobody keeps fresh
		l.metrics.levelsAge.Observe(time.Duration(now - max(at, l.wanting)).Seconds())
	}
}

// poller asks one node, on a goroutine of its own, until the node is no member
// any more.
type poller struct {
	levels  *Levels
	id      NodeID
	wake    chan struct{}
	stopped chan struct{} // closed when run has returned
}

func (p *poller) ended() bool {
	select {
	case <-p.stopped:
		return true
	default:
		return false
	}
}

func (p *poller) run(ctx context.Context) {
	defer close(p.stopped)
	pause := minReopen
	for p.await(ctx) {
		node, ok := p.levels.dir.Member(p.id)
		if !ok {
			return
		}
		if p.converse(ctx, node) {
			pause = minReopen
		}
		sleep(ctx, pause/2+rand.N(pause/2))
		pause = min(2*pause, maxReopen)
	}
}

// await waits until there is something to ask; false: ctx has ended.
func (p *poller) await(ctx context.Context) bool {
	for !p.levels.busy() {
		select {
		case <-p.wake:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

// converse opens a stream and asks until it breaks. It tells whether there was
// an answer.
func (p *poller) converse(ctx context.Context, node Node) (answered bool) {
	stream, err := node.Levels(ctx)
	if err != nil {
		p.levels.metrics.levelPolls.WithLabelValues(pollFailed).Inc()
		return false
	}
	defer stream.Close()
	s := newSource()
	for p.await(ctx) {
		began := time.Now()
		if err := p.poll(ctx, stream, s); err != nil {
			if ctx.Err() == nil {
				p.levels.metrics.levelPolls.WithLabelValues(pollFailed).Inc()
				p.levels.log.Debug("a stream of levels broke", "peer", string(p.id), "error", err)
			}
			return answered
		}
		answered = true
		p.levels.metrics.levelPolls.WithLabelValues(pollAnswered).Inc()
		sleep(ctx, pollInterval-time.Since(began))
	}
	return answered
}

// poll asks once, and takes in the answer.
func (p *poller) poll(ctx context.Context, stream LevelStream, s *source) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	l := p.levels
	add, drop := l.wants.update(&s.subscription)
	l.board.forget(s, drop)
	asked := l.Moment() // both before the question is sent
	reply, err := stream.Poll(ctx, LevelsRequest{Probe: s.next(l.now()), Add: add, Drop: drop})
	if err != nil {
		return err
	}
	l.proofs.note(p.id, said{asked: asked, terms: reply.Terms})
	changed, all := l.board.take(s, reply, l.wants.find)
	if all {
		changed = changed[:0]
		for _, w := range l.wants.list() {
			changed = append(changed, w.sku)
		}
	}
	l.tell(changed)
	return nil
}
