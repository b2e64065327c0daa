package lockout

import (
	"testing"
	"time"

	"teamtalk/core/mono"
)

// TestSteppedClockKeepsLocks steps the wall clock after wrong passwords.
func TestSteppedClockKeepsLocks(t *testing.T) {
	for _, d := range []time.Duration{200 * time.Second, 2 * time.Hour, -2 * time.Hour} {
		l, name, now := New(2, 30*time.Minute), Name{ID: 1}, time.Now()
		l.Fail(name, "a", now)
		l.Fail(name, "b", now)
		if !l.Locked(name, mono.Step(now.Add(29*time.Minute), d)) {
			t.Errorf("step of %v: not locked after 29 minutes", d)
		}
		if l.Locked(name, mono.Step(now.Add(30*time.Minute), d)) {
			t.Errorf("step of %v: locked after 30 minutes", d)
		}
	}
}
