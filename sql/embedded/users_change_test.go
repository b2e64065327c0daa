package embedded

import (
	"path/filepath"
	"testing"
	"time"

	"teamtalk/core/im"
)

// TestUpdatedNeverGoesBack sets the clock back between two changes. A client that has the
// first change must get the second.
func TestUpdatedNeverGoesBack(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data"), Now: c.now})
	defer s.Close()
	ctx := t.Context()
	ids, err := s.CreateUsers(ctx, []im.Account{{User: im.User{Name: "a"}},
		{User: im.User{Name: "b"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateDepart(ctx, im.Depart{Name: "first"}); err != nil {
		t.Fatal(err)
	}
	_, since, err := s.UsersChangedSince(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.advance(-time.Hour)
	s.Now()
	c.advance(4 * time.Second)
	if err := s.SetSignInfo(ctx, ids[0], "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateUsers(ctx, []im.Account{{User: im.User{Name: "late"}}}); err != nil {
		t.Fatal(err)
	}
	// The second change must be after the time of the first, because that time was told
	// as complete.
	if list, _, err := s.UsersChangedSince(ctx, since+1); err != nil || len(list) != 2 {
		t.Errorf("after %d: %+v, %v; want the two changed then", since, list, err)
	}
	if _, err := s.CreateDepart(ctx, im.Depart{Name: "second"}); err != nil {
		t.Fatal(err)
	}
	if list, _, err := s.DepartsChangedSince(ctx, since+1); err != nil || len(list) != 1 {
		t.Errorf("after %d: %+v, %v; want the second department", since, list, err)
	}
}
