// Package mono gives points in time on the monotonic clock a number, for fields that are
// atomic or too many for a time.Time. A step of the wall clock changes no difference
// between two numbers.
//
// Sub, Before and After of two times that come from time.Now use the monotonic clock, and
// so do the timers of the runtime. Unix, UnixMilli and UnixNano use the wall clock.
package mono

import "time"

// start is the time at which the process started.
var start = time.Now()

// Of returns the unix nanoseconds of the start of the process, plus the time on the
// monotonic clock from then to t. For a t without a monotonic reading, as tests make
// them, these are its unix nanoseconds. Any goroutine.
func Of(t time.Time) int64 { return start.UnixNano() + int64(t.Sub(start)) }
