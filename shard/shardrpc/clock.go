package shardrpc

import "time"

// A proposal that was under way while a link was cut arrives when the link is mended,
// often long after its deadline: TCP loses nothing. By then its client may have been
// told, at another attempt, that there is no stock, so it must not be made any more.
// The time that it has left can't simply begin when it arrives. Instead both sides
// count by the server's clock: the time since the server opened the stream. A client
// hears it with each frame of answers, and so knows what it was at least (Cristian,
// "Probabilistic Clock Synchronization", 1989): what a client says is never ahead, and
// late by the way of one frame of answers at most. Nothing depends on wall clocks.

// clockWindow is for how long what was heard of a clock counts; a client asks for a sign of
// life before. Within twice this time clocks that run at different speeds, by half a
// thousandth at most, get 10 ms apart.
const clockWindow = 10 * time.Second

// remoteClock is what a client knows of its server's clock. It is not safe for
// concurrent use.
type remoteClock struct {
	zero          time.Time     // own time; the start of the stream here
	turned        time.Duration // since zero: when now began
	now, previous time.Duration // the most that the server's clock was ahead of zero's, in two windows
}

// startClock is called when a stream has been opened: by then the server has begun to
// count.
func startClock(at time.Time) remoteClock { return remoteClock{zero: at} }

// heard takes in that the server's clock said so before at.
func (c *remoteClock) heard(clock time.Duration, at time.Time) {
	here := at.Sub(c.zero)
	ahead := clock - here
	switch age := here - c.turned; {
	case age >= 2*clockWindow:
		c.previous, c.now, c.turned = ahead, ahead, here
	case age >= clockWindow:
		c.previous, c.now, c.turned = c.now, ahead, here
	default:
		c.now = max(c.now, ahead)
	}
}

// at is what the server's clock says at a moment, at least.
func (c *remoteClock) at(moment time.Time) time.Duration {
	return max(0, moment.Sub(c.zero)+max(c.now, c.previous))
}
