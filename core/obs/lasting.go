package obs

import (
	"log/slog"
	"sync"
	"time"
)

// Lasting limits a log line about failures that may last, such as those of a full disk: a line
// with a new reason is logged, at most one a second, and a line with a reason of the last minute is
// counted. The zero value is ready. Any goroutine.
type Lasting struct {
	mu     sync.Mutex
	last   time.Time // of the last line
	held   int64     // lines suppressed without a place in recent
	recent [8]reason
}

// reason is a reason whose line was logged.
type reason struct {
	text string
	at   time.Time // zero: a free place
	held int64     // lines suppressed since then
}

// Allow reports whether a line with a reason may be logged at now. held is the number of lines
// suppressed since the last one with it.
func (l *Lasting) Allow(now time.Time, text string) (held int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	place := &l.recent[0]
	for i := range l.recent {
		r := &l.recent[i]
		if r.text == text && !r.at.IsZero() {
			if now.Sub(r.at) < repeatAfter {
				r.held++
				return 0, false
			}
			place = r
			break
		}
		if r.at.Before(place.at) {
			place = r
		}
	}
	if !l.last.IsZero() && now.Sub(l.last) < time.Second {
		if place.text == text {
			place.held++
		} else {
			l.held++
		}
		return 0, false
	}
	held = place.held + l.held
	*place, l.last, l.held = reason{text: text, at: now}, now, 0
	return held, true
}

// Warn logs text with err, which is the reason, and args at level warn, unless the line is
// suppressed. It adds the number of lines suppressed since the last one, as "held".
func (l *Lasting) Warn(log *slog.Logger, now time.Time, text string, err error, args ...any) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	if held, ok := l.Allow(now, why); ok {
		log.Warn(text, append(args, "err", err, "held", held)...)
	}
}
