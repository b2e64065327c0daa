package session

import (
	"testing"
	"time"

	"teamtalk/core/mono"
)

// TestSteppedClockChangesNoDeadline steps the wall clock. A session that is heard stays, its
// age is right, and limits pass after their real time.
func TestSteppedClockChangesNoDeadline(t *testing.T) {
	for _, d := range []time.Duration{200 * time.Second, 900 * time.Second, -2 * time.Hour} {
		b := newBench(t, &role{}, LoopOptions{})
		real := time.Now()
		b.clock.t, b.Loop.begun = real, real // with monotonic readings
		after := func(since time.Duration) {
			b.clock.t = mono.Step(real.Add(since), d)
			b.Tick()
		}
		w, idle := b.connect(), b.connect()
		w.s.SetDeadline(15 * time.Second)
		idle.s.SetIdleLimit(120 * time.Second)
		after(10 * time.Second)
		if w.closes+idle.closes > 0 {
			t.Errorf("step of %v: sessions closed", d)
		}
		if age := b.Now().Sub(w.s.Opened()).Round(time.Millisecond); age != 10*time.Second {
			t.Errorf("step of %v: age %v after 10 s", d, age)
		}
		after(16 * time.Second)
		if w.s.closeErr != ErrLoginDeadline {
			t.Errorf("step of %v: no login deadline after 16 s", d)
		}
		after(126 * time.Second)
		if idle.s.closeErr != ErrIdle {
			t.Errorf("step of %v: not idle after 126 s of silence", d)
		}
	}
}
