package use

import (
	"context"
	"testing"
)

// TestSeldom: work without use is due the first time and every sixth time, and after a use the
// next time.
func TestSeldom(t *testing.T) {
	var s Seldom
	got := ""
	for i := range 20 {
		if i == 9 {
			s.Use()
			s.Use()
		}
		if s.Due() {
			got += "x"
		} else {
			got += "-"
		}
	}
	if want := "x-----x--x-----x----"; got != want {
		t.Errorf("due: %s, want %s", got, want)
	}
}

// TestPeriodicWorkIsNoUse: the statements of periodic work do not make it due.
func TestPeriodicWorkIsNoUse(t *testing.T) {
	u := New()
	u.Sync.Due()
	ctx, cancel := context.WithCancel(Periodic(context.Background()))
	defer cancel()
	u.Note(ctx)
	if u.Sync.Due() {
		t.Error("a statement of periodic work was a use")
	}
	u.Note(context.Background())
	if !u.Sync.Due() || !u.Housekeeping.Due() {
		t.Error("another statement was none")
	}
}
