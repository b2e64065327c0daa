package mono

import (
	"testing"
	"time"
)

// reference is a clock that a test steps, and a process whose own clock steps too.
type reference struct {
	now time.Time // of the process
	off time.Duration
}

// pass lets d pass.
func (r *reference) pass(d time.Duration) { r.now = r.now.Add(d) }

// read gives a reading to s.
func (r *reference) read(s *Steady) { s.Set(r.now, r.time()) }

// time returns the time of the reference.
func (r *reference) time() time.Time { return r.now.Round(0).Add(r.off) }

func TestSteadyFollowsTheReference(t *testing.T) {
	r := &reference{now: time.Now(), off: 7 * time.Second}
	var s Steady
	if got := s.Now(r.now); !got.Equal(r.now) {
		t.Errorf("before the first reading: %v, want %v", got, r.now)
	}
	r.read(&s)
	r.pass(time.Minute)
	if got := s.Now(r.now); !got.Equal(r.time()) {
		t.Errorf("between two readings: %v, want %v", got, r.time())
	}
	for _, d := range []time.Duration{200 * time.Second, -time.Hour} {
		own := Step(r.now, d)
		if got := s.Now(own); !got.Equal(r.time()) {
			t.Errorf("own clock stepped by %v: %v, want %v", d, got, r.time())
		}
	}
}

// TestSteadyDoesNotGoBack steps the reference back. The clock runs at half speed until the
// reference has caught up.
func TestSteadyDoesNotGoBack(t *testing.T) {
	r := &reference{now: time.Now()}
	var s Steady
	r.read(&s)
	last := s.Now(r.now)
	r.off = -time.Hour
	for n := range 7200 {
		r.pass(time.Second)
		r.read(&s)
		got := s.Now(r.now)
		if got.Sub(last) != time.Second/2 && n > 0 && n < 7199 || !got.After(last) {
			t.Fatalf("%d s after the step: %v after %v", n+1, got, last)
		}
		if early := s.Earliest(r.now); !early.Equal(got) {
			t.Fatalf("earliest %v, want %v", early, got)
		}
		last = got
	}
	r.pass(time.Second)
	if got := s.Now(r.now); !got.Equal(r.time()) {
		t.Errorf("after two hours: %v, want %v", got, r.time())
	}
	r.off -= 3 * time.Hour
	r.read(&s)
	if got := s.Now(r.now); !got.Equal(r.time()) {
		t.Errorf("a step of three hours: %v, want %v", got, r.time())
	}
}

// TestSteadyWithoutReadings: the clock catches up with the reference between readings too.
func TestSteadyWithoutReadings(t *testing.T) {
	r := &reference{now: time.Now()}
	var s Steady
	r.read(&s)
	r.off = -10 * time.Second
	r.read(&s)
	r.pass(time.Minute)
	if got := s.Now(r.now); !got.Equal(r.time()) {
		t.Errorf("%v, want %v", got, r.time())
	}
	// A test's clock without a monotonic reading, which goes back itself.
	r.read(&s)
	past := r.now.Round(0).Add(-time.Hour)
	s.Set(past, past)
	if got, want := s.Now(past), r.time(); got.Before(want) {
		t.Errorf("%v after %v", got, want)
	}
}

// TestEarliestWaitsForAStep: another process may notice a step forward later, so Earliest
// does not show it for a while.
func TestEarliestWaitsForAStep(t *testing.T) {
	r := &reference{now: time.Now()}
	var one, other Steady
	r.read(&one)
	r.read(&other)
	for _, step := range []time.Duration{time.Hour, 10 * time.Second, 0} {
		r.off += step
		r.read(&one)
		if got := one.Now(r.now); !got.Equal(r.time()) {
			t.Errorf("%v, want %v", got, r.time())
		}
		if early := one.Earliest(r.now); early.After(other.Now(r.now)) {
			t.Errorf("earliest %v, after the time %v of another process", early,
				other.Now(r.now))
		}
		r.pass(time.Second)
	}
	r.read(&other)
	r.pass(Settled)
	if early := one.Earliest(r.now); !early.Equal(r.time()) {
		t.Errorf("later: earliest %v, want %v", early, r.time())
	}
}
