package shard

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// repeatPause is how long a message of Raft is held back after it was logged:
// Raft repeats some of them with every failed heartbeat.
const repeatPause = 10 * time.Second

// raftLogger passes Raft's messages on to slog, two levels lower: Raft calls an
// error what is a Tuesday in a cluster (a peer that is down), and what is really
// wrong is decided and logged by this package.
//
// Messages of Raft are constant strings, so the memory for repeats is bounded.
type raftLogger struct {
	log  *slog.Logger
	name string
	args []any

	// Shared by all loggers made from one:
	repeats *repeats
	closing *atomic.Bool
}

// repeats holds back what was just said.
type repeats struct {
	mu   sync.Mutex
	seen map[string]*repeated
}

type repeated struct {
	at   time.Time
	held int // messages held back since
}

func newRaftLogger(l *slog.Logger) *raftLogger {
	return &raftLogger{log: l, repeats: &repeats{seen: make(map[string]*repeated)}, closing: new(atomic.Bool)}
}

// quiet is for a replica that closes: from now on everything is for debugging.
// Raft takes the end of each stream that is closed under it for an error.
func (l *raftLogger) quiet() { l.closing.Store(true) }

// pass tells whether msg may be logged, and how many were held back before it.
func (r *repeats) pass(msg string, now time.Time) (held int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seen[msg]
	if s == nil {
		r.seen[msg] = &repeated{at: now}
		return 0, true
	}
	if now.Sub(s.at) < repeatPause {
		s.held++
		return 0, false
	}
	held, s.held, s.at = s.held, 0, now
	return held, true
}

// slogLevel maps Raft's idea of importance to ours.
func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelWarn
	case hclog.Warn:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// Log implements hclog.Logger.
func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	to := slogLevel(level)
	if l.closing.Load() {
		to = slog.LevelDebug
	}
	if level < hclog.Info || !l.log.Enabled(context.Background(), to) {
		return
	}
	held, ok := l.repeats.pass(msg, time.Now())
	if !ok {
		return
	}
	all := append(append([]any{}, l.args...), args...)
	for i, a := range all {
		if f, ok := a.(hclog.Format); ok {
			all[i] = fmt.Sprintf(f[0].(string), f[1:]...)
		}
	}
	if held > 0 {
		all = append(all, "repeated", held)
	}
	l.log.Log(context.Background(), to, "raft: "+msg, all...)
}

// Trace implements hclog.Logger, as do the methods that follow.
func (l *raftLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *raftLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *raftLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *raftLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *raftLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *raftLogger) IsTrace() bool { return false }
func (l *raftLogger) IsDebug() bool { return false }
func (l *raftLogger) IsInfo() bool  { return true }
func (l *raftLogger) IsWarn() bool  { return true }
func (l *raftLogger) IsError() bool { return true }

func (l *raftLogger) ImpliedArgs() []any { return l.args }
func (l *raftLogger) Name() string       { return l.name }

func (l *raftLogger) With(args ...any) hclog.Logger {
	c := *l
	c.args = append(append([]any{}, l.args...), args...)
	return &c
}

func (l *raftLogger) Named(name string) hclog.Logger { return l.ResetNamed(name) }

func (l *raftLogger) ResetNamed(name string) hclog.Logger {
	c := *l
	c.name = name
	return &c
}

func (l *raftLogger) SetLevel(hclog.Level)  {}
func (l *raftLogger) GetLevel() hclog.Level { return hclog.Info }

func (l *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(io.Discard, "", 0)
}

func (l *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return io.Discard }
