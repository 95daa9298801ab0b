package shardrpc

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"stockade/allocator"
)

const (
	// MaxLevelAge is how old levels may be that a refusal stands on.
	MaxLevelAge = 50 * time.Millisecond

	// maxChoiceAge is how old they may be to choose a shard by them: whoever
	// chooses badly loses time and nothing else.
	maxChoiceAge = time.Second

	// proveFor is how long a node that was asked for levels goes on asking the
	// others for their terms. Askers come every pollInterval.
	proveFor = time.Second
)

// LevelsConfig configures a Levels.
type LevelsConfig struct {
	// Directory names the nodes to ask. It must not be closed before the Levels.
	Directory *Directory
	Metrics   *Metrics     // may be nil
	Log       *slog.Logger // may be nil
}

// Levels knows what all shards have of the SKUs that this process is interested
// in, and how fresh that is. While anything is wanted, each node is asked every
// pollInterval, this process's own directly, for what has changed in the shards
// that it leads; else nothing is sent.
//
// It also gathers, from the same answers, the terms that prove to a leader in
// this process that nobody else led: see Agreed.
//
// It runs one goroutine, and one for each node once anything was wanted, until
// Close. All methods are safe for concurrent use. A nil Levels knows nothing:
// those that ask for levels may ask it all the same.
type Levels struct {
	dir     *Directory
	metrics *Metrics
	log     *slog.Logger
	base    time.Time // instants are counted from here
	cancel  context.CancelFunc
	stopped chan struct{} // closed when run has returned
	wake    chan struct{} // something is wanted, or to be proven

	moments atomic.Uint64 // the last Moment given out
	proving atomic.Int64  // until which instant the others are asked for their terms
	wanting instant       // since when anything is wanted; 0: nothing is. Of run only
	wants   wants
	board   board
	proofs  proofs

	notifyMu sync.Mutex
	notify   atomic.Pointer[[]func([]allocator.SKU)] // replaced under notifyMu
}

// instant is a moment on this process's monotonic clock, counted from
// Levels.base; 0: never.
type instant int64

// NewLevels makes a Levels that knows nothing and asks nobody yet.
func NewLevels(cfg LevelsConfig) *Levels {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Levels{
		dir: cfg.Directory, metrics: cfg.Metrics.orNone(), log: cfg.Log, cancel: cancel,
		base:    time.Now().Add(-time.Second), // so that no instant is 0
		stopped: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.wants.all = make(map[allocator.SKU]*wanted)
	l.board.shards = make([]*shardBoard, cfg.Directory.Shards())
	l.proofs.said = make(map[NodeID]said)
	l.notify.Store(new([]func([]allocator.SKU)))
	go l.run(ctx)
	return l
}

// Close ends the background work. What is known stays, and gets old.
func (l *Levels) Close() {
	if l == nil {
		return
	}
	l.cancel()
	<-l.stopped
}

func (l *Levels) now() instant { return instant(time.Since(l.base)) }

// Want keeps the levels of sku fresh for the next seconds. It costs next to
// nothing when they are kept already. When too many SKUs are wanted, nothing
// happens: Cut and SoldOut then know nothing of this one.
func (l *Levels) Want(sku allocator.SKU) {
	if l == nil {
		return
	}
	first, taken := l.wants.want(sku, l.now())
	if taken {
		l.metrics.levelsWanted.Set(float64(l.wants.len()))
	}
	if first {
		signal(l.wake)
	}
}

// Wants tells whether the levels of sku are kept fresh.
func (l *Levels) Wants(sku allocator.SKU) bool { return l != nil && l.wants.find(sku) != nil }

// Cut gives the levels of sku in all shards, and as of which moment of this
// process they are: all that any shard answered before is included. False: they
// are not known, at least not of all shards. The cut may be old, and need not be
// consistent. It must not be changed.
func (l *Levels) Cut(sku allocator.SKU) (cut allocator.Cut, asOf time.Time, ok bool) {
	v, at := l.look(sku)
	if v == nil {
		return nil, time.Time{}, false
	}
	return v.cut, l.base.Add(time.Duration(at)), true
}

// SoldOut tells whether there are, by fresh levels, less than units of sku in
// all shards together, nothing more on its way, and no other reason why they
// could not be had: a request for them can be refused at once. False tells
// nothing.
func (l *Levels) SoldOut(sku allocator.SKU, units allocator.Quantity) bool {
	v, at := l.look(sku)
	return v != nil && v.final && v.units < units && l.now()-at <= instant(MaxLevelAge)
}

// Left is how many units of sku there are by the levels of Cut, for sale or on
// their way.
func (l *Levels) Left(sku allocator.SKU) (units allocator.Quantity, ok bool) {
	v, _ := l.look(sku)
	if v == nil {
		return 0, false
	}
	return v.units, true
}

// ShardStock is what a shard has of a SKU.
type ShardStock struct {
	Shard     allocator.ShardID
	Available allocator.Quantity
}

// Stocked lists the shards that have units of sku, the richest first, by levels
// that may be a second old. It is empty when they are not known. It must not be
// changed.
func (l *Levels) Stocked(sku allocator.SKU) []ShardStock {
	v, at := l.look(sku)
	if v == nil || l.now()-at > instant(maxChoiceAge) {
		return nil
	}
	return v.stocked
}

// Notify has f called with SKUs whose levels have changed, or have become known.
// f must not block, nor keep its argument. It can't be taken back.
func (l *Levels) Notify(f func(skus []allocator.SKU)) {
	if l == nil {
		return
	}
	l.notifyMu.Lock()
	defer l.notifyMu.Unlock()
	all := append(slices.Clone(*l.notify.Load()), f)
	l.notify.Store(&all)
}

// tell calls those who asked to be notified.
func (l *Levels) tell(skus []allocator.SKU) {
	if len(skus) == 0 {
		return
	}
	for _, f := range *l.notify.Load() {
		f(skus)
	}
}

// look gives what is known of sku and as of when; nil: not all. The instant is
// read first: what is known may be newer than it says, never older.
func (l *Levels) look(sku allocator.SKU) (*levelView, instant) {
	if l == nil {
		return nil, 0
	}
	at := instant(l.board.asOf.Load())
	w := l.wants.find(sku)
	if w == nil || at == 0 {
		return nil, 0
	}
	if v := l.board.view(w); v.cut != nil {
		return v, at
	}
	return nil, 0
}

// A Moment orders what happens in this process: an earlier event has a lower
// one. No clock is read for it, so none can be wrong.
type Moment uint64

// Moment gives the present one, above all before it.
func (l *Levels) Moment() Moment { return Moment(l.moments.Add(1)) }

// KeepProving has the other nodes asked for their terms for the next second,
// because somebody asks this one for levels and it leads a shard.
func (l *Levels) KeepProving() {
	now := l.now()
	was := l.proving.Swap(int64(now + instant(proveFor)))
	if instant(was) <= now {
		signal(l.wake)
	}
}

// Agreed is the latest moment at which node's term in a shard surely was not
// above term: it answered, with just that term, a question sent then. False: its
// last answer was another, or there is none.
func (l *Levels) Agreed(node NodeID, shard allocator.ShardID, term uint64) (Moment, bool) {
	return l.proofs.agreed(node, shard, term)
}

// proofs is what the nodes said of their terms.
type proofs struct {
	mu   sync.Mutex
	said map[NodeID]said
}

// said is one node's last answer. Its terms are never changed.
type said struct {
	asked Moment // when the question was sent, or before
	terms []ShardTerm
}

func (p *proofs) note(node NodeID, s said) {
	slices.SortFunc(s.terms, func(a, b ShardTerm) int { return cmp.Compare(a.Shard, b.Shard) })
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said[node] = s
}

func (p *proofs) agreed(node NodeID, shard allocator.ShardID, term uint64) (Moment, bool) {
	p.mu.Lock()
	s := p.said[node]
	p.mu.Unlock()
	at, ok := slices.BinarySearchFunc(s.terms, shard, func(t ShardTerm, id allocator.ShardID) int { return cmp.Compare(t.Shard, id) })
	return s.asked, ok && s.terms[at].Term == term
}
