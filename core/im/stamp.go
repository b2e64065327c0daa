package im

import "sync"

// Stamps gives the times of change of a list whose readers ask for what has changed since
// a time. No change may become visible with a time that a reader may already have been
// told as settled. The zero value is ready. Any goroutine; the caller lets no other
// change come in between the read of the newest time and the commit.
type Stamps struct {
	mu  sync.Mutex
	own int64 // the first time given since the clock fell behind; 0: it is not behind
}

// Next returns the time of a change, in unix seconds, where newest is the newest time
// there is: now, unless newest is later, because another server's clock is ahead or the
// clock was set back. Then readers may have been told that newest has settled, so the
// first change gets a later time. The changes behind it share that time, so that times do
// not run away from the clock.
func (s *Stamps) Next(newest, now int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case newest <= now:
		s.own = 0
		return now
	case s.own == 0 || newest < s.own:
		s.own = newest + 1
		return s.own
	}
	return newest
}
