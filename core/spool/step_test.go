package spool

import (
	"strings"
	"testing"
	"time"

	"teamtalk/core/mono"
)

// TestSteppedClockKeepsFiles steps the wall clock by more than the time for which a file is
// kept, when the file was written by this process and by one before.
func TestSteppedClockKeepsFiles(t *testing.T) {
	now := time.Now()
	opt := Options{Dir: t.TempDir(), KeepWaiting: time.Hour, Now: func() time.Time { return now }}
	s := mustOpen(t, opt)
	must(t, s.Create(file(3)))
	must(t, s.Append(id, 0, []byte("abc")))
	must(t, s.Finish(id))
	for _, by := range []string{"this process", "a process before"} {
		began := now
		for _, d := range []time.Duration{2 * time.Hour, -2 * time.Hour} {
			now = mono.Step(began.Add(59*time.Minute), d)
			if n, err := s.Sweep(t.Context()); n != 0 || err != nil {
				t.Fatalf("%s, step of %v: %d files removed after 59 minutes, %v", by, d, n, err)
			}
			if list := s.Waiting(now.Add(-time.Hour)); len(list) != 0 {
				t.Errorf("%s, step of %v: older than an hour after 59 minutes", by, d)
			}
		}
		if now = began; strings.HasPrefix(by, "this") {
			must(t, s.Close())
			s = mustOpen(t, opt)
			continue
		}
		now = mono.Step(began.Add(61*time.Minute), -2*time.Hour)
		if n, err := s.Sweep(t.Context()); n != 1 || err != nil {
			t.Errorf("%s: %d files removed after an hour, %v", by, n, err)
		}
	}
}
