package mono

import (
	"sync"
	"time"
)

// Steady is a wall clock that does not go back. It follows a reference, for example the
// clock of a database, and continues on the monotonic clock of this process between two
// readings of the reference. When the reference steps forward, Steady follows at once.
// When it steps back, Steady runs at half speed until the reference has caught up, so that
// its times still differ from second to second. A step back of more than maxBack corrects
// a clock that was wrong by hours, and Steady follows it back.
//
// The arguments now are times of this process, from time.Now. The zero value is the clock
// of this process until the first Set. Any goroutine.
type Steady struct {
	mu      sync.Mutex
	current course
	before  course // current, before the last step forward
	stepped int64  // Of the last step forward
}

// maxBack is the longest step of the reference that Steady does not follow back.
const maxBack = 2 * time.Hour

// minStep is the shortest step forward that Earliest waits for. Shorter ones are noise of
// the readings.
const minStep = time.Second

// Settled is the time after a step forward for which Earliest continues without it: within it,
// every other process has noticed the step, if it reads the same reference every 5 s or more
// often.
const Settled = 10 * time.Second

// course is a clock from one reading of the reference to the next.
type course struct {
	set   bool
	at    int64 // Of the reading
	wall  int64 // time of the clock then, in unix nanoseconds
	ahead int64 // nanoseconds by which it was ahead of the reference
}

// time returns the time of the clock at a number of Of.
func (c course) time(at int64) int64 {
	passed := max(at-c.at, 0)
	slow := min(passed, 2*c.ahead)
	return c.wall + passed - slow/2
}

// Set takes a reading of the reference: its time at now.
func (s *Steady) Set(now, reference time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, wall := Of(now), reference.UnixNano()
	next := course{set: true, at: at, wall: wall}
	if s.current.set {
		ahead := s.current.time(at) - wall
		if ahead > 0 && ahead <= int64(maxBack) {
			next.wall, next.ahead = wall+ahead, ahead
		}
		if -ahead >= int64(minStep) {
			if at-s.stepped >= int64(Settled) {
				s.before = s.current
			}
			s.stepped = at
		}
	}
	s.current = next
}

// Now returns the time.
func (s *Steady) Now(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.current.set {
		return now.Round(0)
	}
	return time.Unix(0, s.current.time(Of(now)))
}

// Earliest returns a time that is not after the clock of any other process with the same
// reference, apart from the noise of readings. For 10 s after a step forward it is the time
// without the step.
func (s *Steady) Earliest(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.current.set {
		return now.Round(0)
	}
	at := Of(now)
	earliest := s.current.time(at)
	if s.before.set && at-s.stepped < int64(Settled) {
		earliest = min(earliest, s.before.time(at))
	}
	return time.Unix(0, earliest)
}
