package obs

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// Often limits a log line that may be written thousands of times a second to one a
// second, and counts the others. Metrics report the total. The zero value is ready. Any
// goroutine.
type Often struct {
	second atomic.Int64 // unix second of the last line that was allowed
	held   atomic.Int64 // lines held back since then
}

// Allow reports whether a line may be logged at now. held is the number of lines held
// back since the last one that was allowed.
func (o *Often) Allow(now time.Time) (held int64, ok bool) {
	second := now.Unix()
	if last := o.second.Load(); last == second || !o.second.CompareAndSwap(last, second) {
		o.held.Add(1)
		return 0, false
	}
	return o.held.Swap(0), true
}

// Warn logs text and args at level warn unless a line was let through in the same second. It adds
// the number of lines suppressed since the last one, as "held". Any goroutine.
func (o *Often) Warn(log *slog.Logger, now time.Time, text string, args ...any) {
	if held, ok := o.Allow(now); ok {
		log.Warn(text, append(args, "held", held)...)
	}
}
