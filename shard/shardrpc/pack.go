package shardrpc

import (
	"time"

	"stockade/shard/shardrpc/internal/pb"
)

// packable is an item of a frame.
type packable interface {
	size() int // an upper bound of what appendTo appends
	appendTo(b []byte) []byte
}

// packer collects items into frames: what is added while one frame is being
// sent forms the next, so that frames grow with the load and no timer is
// needed. It is not safe for concurrent use; its owner's mutex guards it.
type packer struct {
	frames []packed // oldest first; the last one takes more items
	opened uint64   // frames begun so far; the number of the last in frames
	taken  uint64   // frames handed out so far
	hint   int      // length of the last full frame, for the next one's memory
}

// packed is a frame's content.
type packed struct {
	items []byte
	count int
	begun time.Time // when the first item was about to be added
}

// pack adds an item and tells the number of the frame it is in.
func pack[T packable](p *packer, item T) uint64 {
	f := p.open(item.size())
	f.items = item.appendTo(f.items)
	f.count++
	return p.opened
}

// open gives a frame with room for size bytes.
func (p *packer) open(size int) *packed {
	if n := len(p.frames); n > 0 && len(p.frames[n-1].items)+size <= maxFrameLen {
		return &p.frames[n-1]
	}
	p.frames = append(p.frames, packed{items: make([]byte, 0, max(size, p.hint)), begun: time.Now()})
	p.opened++
	return &p.frames[len(p.frames)-1]
}

// probe queues a frame without items if nothing else is queued.
func (p *packer) probe() {
	if len(p.frames) == 0 {
		p.open(0)
	}
}

// take hands out the oldest frame.
func (p *packer) take() (packed, bool) {
	if len(p.frames) == 0 {
		return packed{}, false
	}
	f := p.frames[0]
	p.frames[0] = packed{}
	if p.frames = p.frames[1:]; len(p.frames) == 0 {
		p.frames = nil
	}
	p.taken++
	p.hint = min(len(f.items)+len(f.items)/4, maxFrameLen)
	return f, true
}

// message is the frame as it is sent, with what the server's clock says.
func (f packed) message(clock time.Duration) *pb.Frame {
	return &pb.Frame{Version: frameVersion, Items: f.items, Clock: uint64(clock.Microseconds())}
}
