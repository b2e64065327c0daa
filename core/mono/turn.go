package mono

import "time"

// Turn makes goroutines that work for one server at the same instant do so one after the other.
// Servers that a simulation runs have one: of two goroutines that are woken at the same instant
// either may run first, and they run at the same time on a machine with several processors, so
// that a simulation that is run again would be another one. Nil, as in a process: all of them run
// at once.
//
// A Turn is called with the name of the worker by the worker's goroutine, without locks, and
// returns when it is the worker's turn. It returns at once when the server has ended.
type Turn func(worker string)

// Wait returns when it is the worker's turn. Any goroutine.
func (t Turn) Wait(worker string) {
	if t != nil {
		t(worker)
	}
}

// Before returns look with a Wait before it, for Watch.
func (t Turn) Before(worker string, look func(now time.Time) time.Time) func(time.Time) time.Time {
	return func(now time.Time) time.Time {
		t.Wait(worker)
		return look(now)
	}
}
