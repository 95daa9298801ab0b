package bench

import "time"

// windowLength is how long the windows of a run are.
const windowLength = time.Second

// watch takes what a driver records, window by window. It has one goroutine, until stop.
type watch struct {
	d       *driver
	live    func(Live)
	phase   string
	length  time.Duration
	windows []Window
	total   histogramSet
	last    time.Duration
	ending  chan struct{}
	ended   chan struct{}
}

func (r *run) watch(d *driver, phase string, length time.Duration) *watch {
	w := &watch{d: d, live: r.live, phase: phase, length: length, ending: make(chan struct{}), ended: make(chan struct{})}
	go w.run()
	return w
}

func (w *watch) run() {
	defer close(w.ended)
	tick := time.NewTicker(windowLength)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.turn()
		case <-w.ending:
			w.turn()
			return
		}
	}
}

// turn ends a window.
func (w *watch) turn() {
	now := time.Since(w.d.began)
	set := w.d.rec.turn()
	w.total.merge(set)
	window := windowOf(set, w.last, now-w.last)
	w.last = now
	w.windows = append(w.windows, window)
	if w.live != nil {
		w.live(Live{w.phase, now, w.length, window})
	}
}

// stop ends the last window.
func (w *watch) stop() {
	close(w.ending)
	<-w.ended
}
