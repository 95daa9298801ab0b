package clustersim

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"stockade/shard/bubble"
)

// inVirtualTime runs f in a bubble. A node whose disk failed leaves goroutines behind
// that wait for Raft's main loop, which has ended where it stood; a process would
// exit. Any other goroutine that is left fails the test.
func inVirtualTime(t *testing.T, f func(t *testing.T)) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if left := fmt.Sprint(p); !strings.Contains(left, "blocked goroutines remain") {
			panic(p)
		}
		stacks := make([]byte, 16<<20)
		for _, stack := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(stack, "synctest bubble") && !strings.Contains(stack, "raft.(*deferError).Error") {
				t.Errorf("left behind: %s", stack)
			}
		}
	}()
	stop := boundMemory(t, heapLimit)
	defer stop()
	bubble.Test(t, func(t *testing.T) {
		hangs := time.AfterFunc(limit, func() { panic(fmt.Sprintf("the cluster goes on after %v of virtual time", limit)) })
		defer hangs.Stop()
		f(t)
	})
}

// boundMemory ends the process when a cluster takes more memory than most: what grows in
// virtual time grows fast.
func boundMemory(t *testing.T, most uint64) (stop func()) {
	tick, over := time.NewTicker(100*time.Millisecond), make(chan struct{})
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	go func() {
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			if metrics.Read(sample); sample[0].Value.Uint64() > most {
				panic(fmt.Sprintf("%s: the cluster takes more than %d MiB of memory", t.Name(), most>>20))
			}
		}
	}()
	return func() {
		tick.Stop()
		close(over)
	}
}
