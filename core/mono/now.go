package mono

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// wallStep is the number of seconds by which Now steps the wall time.
var wallStep atomic.Int64

// Now returns time.Now. Its wall time is stepped after StepWall, its monotonic reading never
// is. Servers read their clock here. Any goroutine.
func Now() time.Time {
	now := time.Now()
	if s := wallStep.Load(); s != 0 {
		return Step(now, time.Duration(s)*time.Second)
	}
	return now
}

// AfterFunc calls f on a goroutine of its own when d has passed, unless stop is called before,
// as time.AfterFunc does. Servers that a simulation runs set their timers by a function of
// this kind: of two timers of package time that end at the same time under testing/synctest,
// either may run first. Any goroutine.
func AfterFunc(d time.Duration, f func()) (stop func() bool) { return time.AfterFunc(d, f).Stop }

// StepWall steps the wall time of Now by d, counted from the clock of this machine: 0 ends
// the step. d is in whole seconds. It is for measurements of faults, because a step of the
// machine's clock would change all its processes. Any goroutine.
func StepWall(d time.Duration) {
	Step(time.Now(), d) // panics here, and not in Now
	wallStep.Store(int64(d / time.Second))
}

// Step returns t as a clock reads it after its wall time was stepped by d: the wall time
// moves by d, the monotonic reading stays. d is in whole seconds. t must have a monotonic
// reading, as times from time.Now do. Step panics when it cannot do that.
func Step(t time.Time, d time.Duration) time.Time {
	// The package time has no function for this. The first word of a time.Time holds 30
	// bits of nanoseconds and, with a monotonic reading, 33 bits of seconds above them.
	stepped := t
	wall := (*uint64)(unsafe.Pointer(&stepped))
	*wall += uint64(int64(d/time.Second)) << 30
	if d%time.Second != 0 || stepped.Sub(t) != 0 || stepped.Round(0).Sub(t.Round(0)) != d {
		panic("mono: the wall time cannot be stepped")
	}
	return stepped
}
