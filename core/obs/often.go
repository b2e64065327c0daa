package obs

import (
	"sync/atomic"
	"time"
)

// Often keeps a line that may come thousands of times a second from flooding the log: it lets one a second through and counts the others. The
// metrics, not the log, say how many there were. The zero value is ready; it may be used from anywhere.
type Often struct {
	second atomic.Int64 // unix second of the last line let through
	held   atomic.Int64 // since then
}

// Allow reports whether a line may be logged at now, and how many were held back since the last one that was.
func (o *Often) Allow(now time.Time) (held int64, ok bool) {
	second := now.Unix()
	if last := o.second.Load(); last == second || !o.second.CompareAndSwap(last, second) {
		o.held.Add(1)
		return 0, false
	}
	return o.held.Swap(0), true
}
