// Package bubble runs tests in bubbles of testing/synctest, where time is virtual, also
// under the race detector. Only tests use it.
//
// The runtime of Go 1.26 gives all timers of a bubble one race context, and uses it on
// whichever processor finds that a timer's channel is due (unlockAndRun in
// runtime/time.go, called by maybeRunChan without the lock of the bubble's timers). Two
// processors at once end the process with a SIGSEGV within the race detector: some
// hundred bubbles with three Raft nodes are enough. So under the race detector there is
// one processor while a bubble runs. What races is found by the order of events, not by
// their coincidence, and is found all the same.
package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Test is synctest.Test.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if raceDetector {
		processors.one()
		defer processors.all()
	}
	synctest.Test(t, f)
}

// processors are those of this process.
var processors limit

// limit keeps a process to one processor while anybody needs that. It is safe for
// concurrent use.
type limit struct {
	mu     sync.Mutex
	users  int
	before int
}

func (l *limit) one() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users++; l.users == 1 {
		l.before = runtime.GOMAXPROCS(1)
	}
}

func (l *limit) all() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users--; l.users == 0 {
		runtime.GOMAXPROCS(l.before)
	}
}
