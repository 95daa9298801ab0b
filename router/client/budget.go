package client

import (
	"math/rand/v2"
	"sync"
	"time"
)

// A budget keeps retries from becoming the load: each first attempt earns a part of
// a retry, and a little comes by itself. Who asks for more than there is waits, as
// long as it takes until it is earned. The idea is that of Finagle's RetryBudget,
// which refuses instead.
const (
	budgetShare = 0.5   // retries that one first attempt earns
	budgetRate  = 10.0  // retries a second that come by themselves
	budgetMost  = 1_000 // retries saved at the most: two thousand calls that meet one election
)

type budget struct {
	mu     sync.Mutex
	tokens float64
	at     time.Time
}

func newBudget(now time.Time) *budget { return &budget{tokens: budgetMost, at: now} }

// earn counts a first attempt.
func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+budgetShare, budgetMost)
}

// take spends a retry, and tells how long to wait before. One that would have to wait
// beyond the deadline is not made and costs nothing: calls that give up in an outage must
// not leave debts to those after it.
func (b *budget) take(now, deadline time.Time) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+budgetRate*now.Sub(b.at).Seconds(), budgetMost)
	b.at = now
	if b.tokens < 1 {
		wait = time.Duration((1 - b.tokens) / budgetRate * float64(time.Second))
	}
	if now.Add(wait).After(deadline) {
		return wait, false
	}
	b.tokens--
	return wait, true
}

// Pauses before a retry.
const (
	minBackoff = 20 * time.Millisecond // about what a node needs to see that another is gone
	maxBackoff = time.Second           // an election takes about as long
)

// backoff is the pause before the next of several attempts: between nothing and twice
// as much as the one before, at random, so that clients that failed together do not
// come back together.
func backoff(attempts int) time.Duration {
	longest := maxBackoff
	if attempts < 6 {
		longest = min(longest, minBackoff<<attempts)
	}
	return rand.N(longest) + 1
}

// later is the pause when the server names one: never less, and up to half as much more.
func later(retryAfter time.Duration) time.Duration {
	return retryAfter + rand.N(retryAfter/2+1)
}
