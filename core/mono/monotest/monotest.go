// Package monotest steps the wall clock in tests.
package monotest

import (
	"time"
	"unsafe"
)

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
		panic("monotest: the wall time cannot be stepped")
	}
	return stepped
}
