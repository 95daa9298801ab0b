package allocator

import (
	"errors"
	"fmt"
)

// Config is fixed when a shard is created, equal on all its replicas, and part
// of every snapshot.
type Config struct {
	Shard          ShardID // this shard
	Shards         int     // shards of the cluster, 1..MaxShards
	Retention      Millis  // how long finished records answer for their keys; 0: DefaultRetention
	ExpiryPerStamp int     // reservations that may expire at one stamp; 0: DefaultExpiryPerStamp
}

const (
	// DefaultExpiryPerStamp bounds the work before a batch to about a
	// millisecond, and still lets four million reservations a second expire.
	DefaultExpiryPerStamp = 4096
	// MaxExpiryPerStamp keeps that work under half a second.
	MaxExpiryPerStamp = 1 << 20
	// MaxRetention keeps what is finished within the age of what is open.
	MaxRetention = MaxTTL
	// releasesPerStamp bounds how many pages are forgotten at one stamp: as many
	// records as may expire there, twice over, so that memory does not pile up.
	releasesPerStamp = 32
)

// Errors of a State. After any of them but ErrConfig the state is broken: every
// later Begin and Apply returns the same error.
var (
	// ErrConfig is returned when a Config is out of its limits.
	ErrConfig = errors.New("allocator: bad configuration")
	// ErrStamp is returned when a stamp is beyond all moments of log time.
	ErrStamp = errors.New("allocator: bad stamp")
	// ErrAudit is returned when the leader's rolling hash differs from ours.
	ErrAudit = errors.New("allocator: this replica differs from the leader")
	// ErrFull is returned when the numbers of records run out.
	ErrFull = errors.New("allocator: out of numbers")
)

// Validate reports whether a state can be made from c; it fails with ErrConfig.
func (c Config) Validate() error {
	switch {
	case c.Shards < 1 || c.Shards > MaxShards:
		return fmt.Errorf("%w: %d shards; 1 to %d are possible", ErrConfig, c.Shards, MaxShards)
	case int(c.Shard) >= c.Shards:
		return fmt.Errorf("%w: shard %d of %d", ErrConfig, c.Shard, c.Shards)
	case c.Retention < 0 || c.Retention > MaxRetention:
		return fmt.Errorf("%w: retention of %d ms; at most %d", ErrConfig, c.Retention, MaxRetention)
	case c.ExpiryPerStamp < 0 || c.ExpiryPerStamp > MaxExpiryPerStamp:
		return fmt.Errorf("%w: %d expiries per stamp; at most %d", ErrConfig, c.ExpiryPerStamp, MaxExpiryPerStamp)
	}
	return nil
}

// withDefaults fills in what was left open.
func (c Config) withDefaults() Config {
	if c.Retention == 0 {
		c.Retention = DefaultRetention
	}
	if c.ExpiryPerStamp == 0 {
		c.ExpiryPerStamp = DefaultExpiryPerStamp
	}
	return c
}

// State is everything one shard knows. It is not safe for concurrent use: Begin,
// Apply and Freeze need it alone; the other methods only read, and may run side
// by side while none of these does.
type State struct {
	cfg       Config
	clock     clock
	history   history
	stock     stock
	records   records
	purchases purchases
	outboxes  []outbox // by destination
	received  []uint64 // last message taken in, by source
	counts    counts
	broken    error // what stopped this state

	// Scratch of the command at hand, kept so that nothing is allocated.
	request request
	answer  answer
	plan    [MaxLines]planned
	lines   [MaxLines]lineView
	encoded []byte
	warmed  uint64 // what Warm read, to no purpose
}

// clock is log time, and what was done at the present stamp.
type clock struct {
	now      Millis
	expired  int
	released int
}

// counts are running totals that nothing else tells.
type counts struct {
	endedBy   [StatusExpired + 1]uint64
	retaken   uint64
	transfers uint64
	unitsSent Quantity
}

// New makes an empty shard. It fails with ErrConfig.
func New(c Config) (*State, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	s := &State{
		cfg: c, stock: newStock(), records: newRecords(c.Retention), purchases: newPurchases(),
		outboxes: make([]outbox, c.Shards), received: make([]uint64, c.Shards),
	}
	s.setEpoch(1)
	return s, nil
}

// setEpoch makes everything older copied before it is written.
func (s *State) setEpoch(epoch uint64) {
	s.stock.epoch, s.records.epoch, s.purchases.epoch = epoch, epoch, epoch
}

// Begin starts a batch with the leader's stamp in milliseconds. Log time never
// goes back: an older stamp counts as the present one. Reservations whose time
// is up expire, in the order of (time, id), at most Config.ExpiryPerStamp at one
// stamp however many batches carry it; then pages past their retention are
// forgotten. An error means that the replica must stop.
func (s *State) Begin(stamp Millis) error {
	if s.broken != nil {
		return s.broken
	}
	if stamp > maxMoment {
		return s.fail(fmt.Errorf("%w: %d", ErrStamp, stamp))
	}
	if stamp > s.clock.now {
		s.clock = clock{now: stamp}
	}
	if err := s.expireDue(); err != nil {
		return s.fail(err)
	}
	s.releaseDue()
	return nil
}

// Apply applies one encoded command and appends the encoded Result to out. It
// allocates nothing but, now and then, the memory that new records need. A
// business refusal is a Result; an error (a command that cannot be decoded, a
// broken invariant, a failed audit) means that the replica must stop.
func (s *State) Apply(cmd []byte, out []byte) ([]byte, error) {
	if s.broken != nil {
		return out, s.broken
	}
	if err := s.request.parse(cmd, true); err != nil {
		return out, s.fail(err)
	}
	s.answer.reset(s.clock.now)
	if err := s.dispatch(); err != nil {
		return out, s.fail(err)
	}
	if err := s.stock.checkTouched(); err != nil {
		return out, s.fail(err)
	}
	start := len(out)
	out = s.answer.appendTo(out)
	s.history.applied(cmd, out[start:])
	return out, nil
}

// dispatch runs the command in s.request and leaves the outcome in s.answer.
func (s *State) dispatch() error {
	r := &s.request
	switch r.kind {
	case KindReserve:
		return s.reserve(&r.reserve)
	case KindConfirm:
		s.confirm(&r.finish)
	case KindCancel:
		s.cancel(&r.finish)
	case KindExtend:
		s.extend(&r.finish)
	case KindReturn:
		return s.giveBack(&r.finish)
	case KindPutSKU:
		return s.putSKU(&r.sku)
	case KindSetPaused:
		s.setPaused(&r.sku)
	case KindRestock:
		return s.restock(&r.sku)
	case KindAdjust:
		return s.adjust(&r.sku)
	case KindTransferOut:
		s.transferOut(&r.transfer)
	case KindTransferIn:
		s.transferIn(&r.transfer)
	case KindTransferAck:
		s.transferAck(&r.transfer)
	case KindAudit:
		return s.history.audit(r.audit)
	}
	return nil
}

// fail breaks the state.
func (s *State) fail(err error) error {
	s.broken = err
	return err
}

// Now is the highest stamp seen.
func (s *State) Now() Millis { return s.clock.now }

// Applied is how many commands were applied, ever.
func (s *State) Applied() uint64 { return s.history.count }

// Hash is the rolling hash after those commands: equal on replicas that applied
// the same ones with the same stamps, however they were batched. What expired
// since the last command shows in it after the next one.
func (s *State) Hash() uint64 { return s.history.hash }

// Config gives the configuration, with defaults filled in.
func (s *State) Config() Config { return s.cfg }

// Checkpoint gives the newest remembered pair of Applied and Hash, for an Audit
// that replicas further ahead can still answer; false before the first.
func (s *State) Checkpoint() (applied, hash uint64, ok bool) { return s.history.newest() }
