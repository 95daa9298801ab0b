package raftfsm

import "time"

const (
	// paceMemory is how much busy time the pace is measured over: some tens of entries on
	// a slow disk, and little enough to follow it when it becomes slower.
	paceMemory = 200 * time.Millisecond
	// paceLeast is how much must have been measured to say anything.
	paceLeast = 10 * time.Millisecond
)

// pace is how fast commands are committed while there are more than one entry can take.
// It knows nothing while the queue is emptied by every entry: then nobody waits long
// enough for it to matter. The proposer's lock guards it.
type pace struct {
	commands float64 // that were committed
	busy     time.Duration
	last     time.Time // when an entry landed
	backlog  bool      // more waited then
}

// landed notes an entry that was committed with n commands, and whether more wait.
func (p *pace) landed(n int, backlog bool, now time.Time) {
	if p.backlog {
		elapsed := now.Sub(p.last)
		keep := max(0, 1-float64(elapsed)/float64(paceMemory))
		p.commands = keep*p.commands + float64(n)
		p.busy = time.Duration(keep*float64(p.busy)) + elapsed
	}
	if !backlog {
		p.commands, p.busy = 0, 0
	}
	p.last, p.backlog = now, backlog
}

// wait is how long n commands take; 0 when that is not known.
func (p *pace) wait(n int) time.Duration {
	if p.busy < paceLeast || p.commands < 1 {
		return 0
	}
	return time.Duration(float64(n) / p.commands * float64(p.busy))
}
