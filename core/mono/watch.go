package mono

import "time"

// Watch calls look at the time that look returned before, rounded up to a multiple of unit,
// until stop is closed. It calls look at once, and then at most once in each unit. What look
// finds is late by one unit at most.
//
// The watches of a process end at the same moments, because they share the multiples, as Of
// counts. So they wake an idle process together: to wake it costs more than most of them do.
func Watch(stop <-chan struct{}, unit time.Duration, look func(now time.Time) (next time.Time)) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-stop:
			return
		}
		now := time.Now()
		next := look(now)
		now = time.Now()
		t.Reset(until(now, next.Sub(now), unit))
	}
}

// Every calls f at multiples of interval until stop is closed, together with the watches of the
// process. Calls that f misses because it is slow are left out.
func Every(stop <-chan struct{}, interval time.Duration, f func()) {
	first := true // Watch looks at once
	Watch(stop, interval, func(now time.Time) time.Time {
		if !first {
			f()
		}
		first = false
		return now
	})
}

// Next returns the first multiple of interval after now, at which Every would call.
func Next(now time.Time, interval time.Duration) time.Time {
	return now.Add(until(now, 0, interval))
}

// Beat returns when a heartbeat is due: at every after the last output, or, when that was a
// heartbeat too, at the next multiple of every. So the heartbeats of quiet connections, also
// those of the other processes of a machine, share moments, and wake a process together. The
// times have one unit and one begin, such as Of.
func Beat(last, every int64, wasBeat bool) int64 {
	if wasBeat {
		return (last + every) / every * every
	}
	return last + every
}

// Unit returns the unit of a Watch, given the shortest time that it watches: a fifth of that, a
// second at most and 10 ms at least.
func Unit(shortest time.Duration) time.Duration {
	return max(10*time.Millisecond, min(shortest/5, time.Second))
}

// until returns the time from now to the first multiple of unit that is later than now and
// not before now+d.
func until(now time.Time, d, unit time.Duration) time.Duration {
	at := Of(now) + max(int64(d), 1) + int64(unit) - 1
	return time.Duration(at - at%int64(unit) - Of(now))
}
