package membership

import (
	"context"
	"log"
	"log/slog"
	"strings"

	"golang.org/x/time/rate"
)

// Anybody who reaches the port can make memberlist log a line with each packet.
const (
	logRate  = 1 // lines a second
	logBurst = 20
)

// gossipLog takes memberlist's log: it counts the lines that tell of something that was
// not taken in, and passes on as many as anybody would read.
type gossipLog struct {
	to      *slog.Logger
	metrics *metrics
	limit   *rate.Limiter
}

func newGossipLog(to *slog.Logger, m *metrics) *gossipLog {
	return &gossipLog{to: to, metrics: m, limit: rate.NewLimiter(logRate, logBurst)}
}

func (l *gossipLog) std() *log.Logger { return log.New(l, "", 0) }

// levels are how memberlist begins a line, and what that is here. Its errors are those
// of others.
var levels = map[string]slog.Level{
	"[DEBUG]": slog.LevelDebug, "[INFO]": slog.LevelDebug, "[WARN]": slog.LevelInfo, "[ERR]": slog.LevelInfo, "[ERROR]": slog.LevelInfo,
}

// strange are parts of lines that tell of a message which is not used, and why.
var strange = []struct{ part, reason string }{
	{"crypt", refusedSealed},
	{" label", refusedLabel},
	{"Failed to decode", refusedMessage},
	{"Failed to decompress", refusedMessage},
	{"Failed to read", refusedMessage},
	{"ailed to receive", refusedMessage},
	{"nvalid", refusedMessage},
	{"missing message", refusedMessage},
	{"not supported", refusedMessage},
	{"too short", refusedMessage},
	{"truncated", refusedMessage},
	{"size is", refusedMessage},
}

// Write implements io.Writer.
func (l *gossipLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	head, rest, _ := strings.Cut(text, " ")
	level, ok := levels[head]
	if !ok {
		level, rest = slog.LevelDebug, text
	}
	if level > slog.LevelDebug {
		l.count(rest)
		if !l.limit.Allow() {
			return len(line), nil
		}
	}
	l.to.Log(context.Background(), level, strings.TrimPrefix(rest, "memberlist: "))
	return len(line), nil
}

func (l *gossipLog) count(text string) {
	for _, s := range strange {
		if strings.Contains(text, s.part) {
			l.metrics.refused.WithLabelValues(s.reason).Inc()
			return
		}
	}
}
