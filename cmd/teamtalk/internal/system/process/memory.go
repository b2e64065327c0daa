package process

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"teamtalk/core/mono"
)

// A burst of work, such as many logins at once, leaves the heap about twice as large as
// the live data, and Go keeps the free half for the next burst. Most of the day a
// messenger only holds idle connections. After a burst this file returns the free memory
// to the operating system, so that the process takes the memory that idle connections
// need.

const (
	// trimInterval is the time between two looks at the heap after one that found work. Each
	// look that finds none doubles it, up to trimSeldom, because a look wakes an idle process.
	trimInterval = 2 * time.Second
	trimSeldom   = 5 * time.Second
	// trimPause is the least time between two forced collections.
	trimPause = 20 * time.Second
	// trimFloor is the memory, in bytes, that is worth a collection.
	trimFloor = 4 << 20
)

// heapUse is the use of the heap, in bytes.
type heapUse struct {
	live      uint64 // marked by the last collection
	objects   uint64 // live, and the garbage since
	free      uint64 // unused, and not returned to the system
	allocated uint64 // since the start of the process
}

// worthTrimming reports whether little was allocated since the look before, and a
// collection could return much: more than a fifth of the live data, and more than
// trimFloor.
func (u heapUse) worthTrimming(before heapUse) bool {
	garbage := u.objects - min(u.objects, u.live)
	return u.quiet(before) && u.free+garbage > max(u.live/5, trimFloor)
}

// quiet reports whether little was allocated since the look before.
func (u heapUse) quiet(before heapUse) bool {
	return u.allocated-before.allocated < max(u.live/8, 1<<20)
}

// nextLook returns the time to the next look at the heap, given that to the last one.
func nextLook(last time.Duration, quiet bool) time.Duration {
	if !quiet {
		return trimInterval
	}
	return min(2*last, trimSeldom)
}

// heapSamples returns the metrics that readHeap reads, in its order.
func heapSamples() []metrics.Sample {
	return []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/allocs:bytes"},
	}
}

// readHeap reads the use of the heap from the runtime.
func readHeap(samples []metrics.Sample) heapUse {
	metrics.Read(samples)
	return heapUse{
		live: samples[0].Value.Uint64(), objects: samples[1].Value.Uint64(),
		free: samples[2].Value.Uint64(), allocated: samples[3].Value.Uint64(),
	}
}

// TrimMemory returns memory to the system after bursts, until ctx ends. Each time costs a
// collection: at most one in trimPause, and none during a burst.
func TrimMemory(ctx context.Context) {
	samples := heapSamples()
	before := readHeap(samples)
	var last time.Time
	every := trimInterval
	mono.Watch(ctx.Done(), time.Second, func(now time.Time) time.Time {
		use := readHeap(samples)
		every = nextLook(every, use.quiet(before))
		switch {
		case !use.worthTrimming(before):
		case now.Sub(last) >= trimPause:
			debug.FreeOSMemory()
			last = now
		default:
			every = trimInterval // until trimPause is over
		}
		before = use
		return mono.Next(now, every)
	})
}
