package obs

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestOftenAllowsOneLineASecond(t *testing.T) {
	var o Often
	at := time.Unix(1_700_000_000, 0)
	for i, step := range []struct {
		after time.Duration
		held  int64
		ok    bool
	}{
		{0, 0, true},
		{0, 0, false},
		{999 * time.Millisecond, 0, false},
		{time.Millisecond, 2, true}, // the next second
		{0, 0, false},
		{-5 * time.Second, 1, true}, // a clock that is set back does not silence the log
	} {
		at = at.Add(step.after)
		if held, ok := o.Allow(at); held != step.held || ok != step.ok {
			t.Errorf("step %d: Allow = %d, %v, want %d, %v", i, held, ok, step.held, step.ok)
		}
	}
}

func TestOftenFromManyGoroutines(t *testing.T) {
	var o Often
	var lines, told atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if held, ok := o.Allow(time.Unix(1, 0)); ok {
					lines.Add(1)
					told.Add(held)
				}
			}
		})
	}
	wg.Wait()
	if lines.Load() != 1 {
		t.Errorf("%d lines in one second, want 1", lines.Load())
	}
	// A line that is held back after the first line has taken the second and before it
	// reads the count is reported with the first line. No line is reported twice, and
	// none is lost.
	held, ok := o.Allow(time.Unix(2, 0))
	if told.Load()+held != 7999 || !ok {
		t.Errorf(
			"held back: %d reported with the first line, %d with the next (%v), want 7999 together",
			told.Load(), held, ok)
	}
}

// TestRepeated tries to log the state of each step, some time after the step before.
func TestRepeated(t *testing.T) {
	var r Repeated
	var out bytes.Buffer
	log, at := slog.New(slog.NewTextHandler(&out, nil)), time.Unix(1_700_000_000, 0)
	for i, step := range []struct {
		after  time.Duration
		reason string
		want   string // in the line; empty: none
	}{
		{0, "refused", "err=refused held=0"},
		{2 * time.Second, "refused", ""},
		{57 * time.Second, "refused", ""},
		{time.Second, "refused", "err=refused held=2"},
		{900 * time.Millisecond, "timeout", ""}, // reasons that alternate fill no log
		{100 * time.Millisecond, "timeout", "err=timeout held=1"},
		{time.Second, "refused", "err=refused held=0"},
	} {
		at = at.Add(step.after)
		out.Reset()
		r.Warn(log, at, "cannot connect", errors.New(step.reason))
		if got := out.String(); (got == "") != (step.want == "") ||
			!strings.Contains(got, step.want) {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
}
