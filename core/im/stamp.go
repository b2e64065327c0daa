package im

import "sync"

// Stamps assigns times of change to the entries of a list. Readers of the list ask for
// the changes since a time. So no change may become visible with a time that the store
// may already have reported to a reader as complete. The zero value is ready. Any
// goroutine; the caller must not allow another change between the read of the newest time
// and the commit.
type Stamps struct {
	mu  sync.Mutex
	own int64 // first time assigned since the clock fell behind; 0: it is not behind
}

// Next returns the time of a change, in unix seconds. It is now, unless newest, the
// newest time in the list, is later: another server's clock is ahead, or the clock was
// set back. Then readers may already have been told that newest is complete, so the first
// change gets a later time. The changes after it share that time, so that times do not
// run away from the clock.
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
