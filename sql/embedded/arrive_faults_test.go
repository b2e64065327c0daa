package embedded

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

// TestOtherProcessSeenTwice: a transaction that learns of another process's messages, and is rolled
// back, does not hide them from the next one.
func TestOtherProcessSeenTwice(t *testing.T) {
	s := held(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	other := open(t, Options{Dir: s.dir, Admin: true})
	defer other.Close()
	u := people(t, s, 3)
	g := newGroup(t, s, u...)
	for range 2 * stepOf { // the oldest ones, which are written first
		add(t, s, message(u[0], u[2], "x"))
	}
	add(t, s, message(u[0], u[1], "1"), groupMessage(u[0], g, "1"))
	add(t, other, message(u[0], u[1], "2"), groupMessage(u[0], g, "2"))
	stop := errors.New("stop")
	err := s.run(context.Background(), transaction{}, func(*writer) error { return stop })
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	add(t, s, message(u[0], u[1], "3"), groupMessage(u[0], g, "3"))
	history, err := s.History(context.Background(), u[0], u[1], 0, 10)
	if got := ids(t, history, err); got != "3 2 1" {
		t.Errorf("messages %s, want 3 2 1", got)
	}
	history, err = s.GroupHistory(context.Background(), u[0], g, 0, 10)
	if got := ids(t, history, err); got != "3 2 1" {
		t.Errorf("messages %s of the group, want 3 2 1", got)
	}
}
