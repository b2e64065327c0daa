package system

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A storm – everybody logs in, a group wakes up – leaves the heap with room for the next one: about as much again as is in use, which Go keeps. Most of
// the day a messenger holds connections that say nothing, so what they need is what it should take. When a storm is over the memory goes back to the system.

const (
	// trimInterval is how often is looked whether there is something to give back.
	trimInterval = 2 * time.Second
	// trimPause is the least time between two collections of ours.
	trimPause = 20 * time.Second
	// trimFloor is how much is worth one, in bytes.
	trimFloor = 4 << 20
)

// heapUse is how the heap is used, in bytes.
type heapUse struct {
	live      uint64 // marked by the last collection
	objects   uint64 // with what has become garbage since
	free      uint64 // not used, not given back
	allocated uint64 // ever
}

// worthTrimming reports whether little was allocated since the look before and much could be given back: a fifth of what is needed, and trimFloor.
func (u heapUse) worthTrimming(before heapUse) bool {
	garbage := u.objects - min(u.objects, u.live)
	return u.allocated-before.allocated < max(u.live/8, 1<<20) && u.free+garbage > max(u.live/5, trimFloor)
}

// readHeap asks the runtime.
func readHeap(samples []metrics.Sample) heapUse {
	metrics.Read(samples)
	return heapUse{live: samples[0].Value.Uint64(), objects: samples[1].Value.Uint64(), free: samples[2].Value.Uint64(), allocated: samples[3].Value.Uint64()}
}

// trimMemory gives memory back to the system when a storm is over, until ctx ends. It costs a collection each time, at most one in trimPause, and none while there
// is work.
func trimMemory(ctx context.Context) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
		{Name: "/gc/heap/allocs:bytes"}}
	t := time.NewTicker(trimInterval)
	defer t.Stop()
	before := readHeap(samples)
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			use := readHeap(samples)
			if now.Sub(last) >= trimPause && use.worthTrimming(before) {
				debug.FreeOSMemory()
				last = now
			}
			before = use
		}
	}
}
