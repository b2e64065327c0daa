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

// repeatAfter is how long Repeated keeps a line from being logged again.
const repeatAfter = time.Minute

// Repeated limits a line about a state that lasts, such as a server that cannot be reached: it is
// logged when its reason changes, at most once a second, and otherwise once a minute. The zero
// value is ready. One goroutine.
type Repeated struct {
	reason string
	at     time.Time // of the last line; zero: none
	held   int64     // lines suppressed since then
}

// Warn logs text with err at level warn, unless the line is suppressed. It adds the number of
// lines suppressed since the last one, as "held".
func (r *Repeated) Warn(log *slog.Logger, now time.Time, text string, err error) {
	wait := repeatAfter
	if err.Error() != r.reason {
		wait = time.Second
	}
	if !r.at.IsZero() && now.Sub(r.at) < wait {
		r.held++
		return
	}
	log.Warn(text, "err", err, "held", r.held)
	*r = Repeated{reason: err.Error(), at: now}
}
