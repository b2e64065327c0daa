package embedded

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
)

// add stores messages that must all be stored, and returns the last id.
func add(t *testing.T, s *Store, batch ...*im.Message) uint32 {
	t.Helper()
	s.AppendMessages(context.Background(), batch)
	for _, m := range batch {
		if m.Err != nil || m.Duplicate {
			t.Fatalf("%d to %d: duplicate %v, %v", m.From, m.To, m.Duplicate, m.Err)
		}
	}
	return batch[len(batch)-1].ID
}

// TestCacheAgrees requires that ordinary batches succeed at the first try. Nothing else
// would show a stale cache: the database rejects the id that it leads to, and the batch
// is then stored again with the right one.
func TestCacheAgrees(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data"), Metrics: reg})
	defer s.Close()
	u := people(t, s, 3)
	for range 3 {
		add(t, s, message(u[0], u[1], "x"), message(u[1], u[0], "y"), message(u[0], u[2], "z"))
	}
	refuse(t, s, "refused")
	s.AppendMessages(context.Background(), []*im.Message{message(u[0], u[1], "x"),
		message(u[0], u[1], "refused"), message(u[1], u[0], "y")})
	if got := gather(t, reg)["bisects_total"]; got != 1 {
		t.Fatalf("%v batches done again, want the one with a refused message", got)
	}
	if id := add(t, s, message(u[0], u[1], "x")); id != 9 {
		t.Errorf("id %d, want 9", id)
	}
	if got := gather(t, reg)["bisects_total"]; got != 1 {
		t.Errorf("%v batches done again, the last without need", got)
	}
}

// TestAbandoned rolls back a transaction that has run up to its commit.
func TestAbandoned(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 3)
	add(t, s, message(u[0], u[1], "x"))
	todo := []pending{
		{m: message(u[0], u[1], "taken back"), small: u[0], big: u[1]},
		{m: message(u[0], u[2], "taken back"), small: u[0], big: u[2]},
	}
	stop := errors.New("stop")
	err := s.transact(context.Background(), func(w *writer) error {
		if err := s.appendAll(w, todo); err != nil {
			t.Error(err)
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = s.transact(ctx, func(w *writer) error {
		cancel()
		return s.appendAll(w, todo)
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if id := add(t, s, message(u[1], u[0], "y")); id != 2 {
		t.Errorf("id %d, want 2", id)
	}
	if id := add(t, s, message(u[0], u[2], "y")); id != 1 {
		t.Errorf("id %d in a conversation that was taken back, want 1", id)
	}
	checkWhole(t, s)
}

// TestOtherWriter waits for another process's transaction until the caller's context or
// Options.BusyTimeout ends, and no longer.
func TestOtherWriter(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data"), BusyTimeout: time.Hour})
	defer s.Close()
	u := people(t, s, 2)
	other := open(t, Options{Dir: s.dir, Admin: true})
	defer other.Close()
	hasty := open(t, Options{Dir: s.dir, Admin: true, BusyTimeout: time.Millisecond})
	defer hasty.Close()
	err := other.transact(context.Background(), func(*writer) error {
		m := message(u[0], u[1], "hasty")
		hasty.AppendMessages(context.Background(), []*im.Message{m})
		wantError(t, m.Err, "another process")
		if im.KindOf(m.Err) != im.Unavailable {
			t.Errorf("kind %v", im.KindOf(m.Err))
		}
		ctx, cancel := context.WithCancel(context.Background())
		go cancel()
		m = message(u[0], u[1], "given up")
		s.AppendMessages(ctx, []*im.Message{m})
		if !errors.Is(m.Err, context.Canceled) {
			t.Errorf("given up: %v", m.Err)
		}
		if _, err := s.LatestID(context.Background(), u[0], u[1]); err != nil {
			t.Errorf("a read waits for the writer: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, store := range []*Store{s, hasty, other} {
		if id := add(t, store, message(u[0], u[1], "x")); int(id) != i+1 {
			t.Errorf("id %d, want %d", id, i+1)
		}
	}
}

// TestPanic uses the store after a panic in a transaction.
func TestPanic(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 2)
	func() {
		defer func() { _ = recover() }()
		_ = s.transact(context.Background(), func(*writer) error { panic("a fault of ours") })
	}()
	if id := add(t, s, message(u[0], u[1], "x")); id != 1 {
		t.Errorf("id %d, want 1", id)
	}
}

// TestRemovedSession requires that a message lists a removed session again and a
// duplicate does not, and that a message of an earlier time does not decrease its time.
func TestRemovedSession(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 2)
	first := message(u[0], u[1], "x")
	first.ClientID = []byte("k")
	add(t, s, first)
	settle(t, s)
	if err := s.writer.exec("update IMRelationShip set statusBig = 1"); err != nil {
		t.Fatal(err)
	}
	sessions := func(user uint32) []im.RecentSession {
		r, err := s.RecentSessions(context.Background(), user, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	again := *first
	s.AppendMessages(context.Background(), []*im.Message{&again})
	if !again.Duplicate || len(sessions(u[0])) != 1 || len(sessions(u[1])) != 0 {
		t.Errorf("after a duplicate: %v and %v, want the first one's only", sessions(u[0]),
			sessions(u[1]))
	}
	before := sessions(u[0])[0].Updated
	earlier := message(u[0], u[1], "y")
	earlier.Created -= 100
	add(t, s, earlier)
	if got := sessions(u[1]); len(got) != 1 || got[0].Updated < before ||
		got[0].Latest.ID != 2 {
		t.Errorf("after a message: %+v", got)
	}
}

// TestClearOutlivesCaller requires that a clear whose caller has returned is done before
// Close returns.
func TestClearOutlivesCaller(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Dir: dir})
		u := people(t, s, 2)
		add(t, s, message(u[0], u[1], "x"))
		s.slot <- struct{}{} // the writer is busy
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			if err := s.ClearUnread(ctx, u[1], u[0]); im.KindOf(err) != im.Unavailable {
				t.Errorf("ClearUnread given up: %v", err)
			}
		}()
		synctest.Wait() // waits until the clear waits for the writer
		cancel()
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- s.Close() }()
		synctest.Wait()
		if len(closed) != 0 {
			t.Error("Close has not waited for the clear")
		}
		<-s.slot
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
	s := open(t, Options{Dir: dir})
	defer s.Close()
	users, err := s.ListUsers(context.Background(), 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range users {
		if counts, _, err := s.UnreadCounts(context.Background(), u.ID, 1<<20); err != nil ||
			len(counts) != 0 {
			t.Errorf("user %d has unread %v, %v", u.ID, counts, err)
		}
	}
}

// TestClientIDsAreForgotten requires that the number of client_msg_ids stays at those of
// one day.
func TestClientIDsAreForgotten(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data"), Now: c.now})
	defer s.Close()
	u := people(t, s, 2)
	n := 0
	add := func(count int) {
		batch := make([]*im.Message, count)
		for i := range batch {
			batch[i] = message(u[0], u[1], "x")
			batch[i].ClientID = fmt.Appendf(nil, "%d", n)
			n++
		}
		s.AppendMessages(context.Background(), batch)
		for _, m := range batch {
			if m.Err != nil || m.Duplicate {
				t.Fatal(m.Duplicate, m.Err)
			}
		}
	}
	remembered := func() (rows int) {
		settle(t, s)
		if err := s.readers.QueryRow("select count(*) from ClientMessage").Scan(&rows); err != nil {
			t.Fatal(err)
		}
		return rows
	}
	add(100)
	c.seconds.Add(im.ClientIDTTL / 2)
	add(50)
	if got := remembered(); got != 150 {
		t.Fatalf("%d rows, want 150: too early to forget", got)
	}
	c.seconds.Add(im.ClientIDTTL/2 + 1)
	add(10)
	if got := remembered(); got != 140 {
		t.Errorf("%d rows, want 160 less twice the 10 that came", got)
	}
	add(60)
	if got := remembered(); got != 120 {
		t.Errorf("%d rows, want 120: all of the first hundred gone, none of the rest", got)
	}
	c.seconds.Add(2 * im.ClientIDTTL)
	add(200)
	if got := remembered(); got != 200 {
		t.Errorf("%d rows, want the last 200", got)
	}
}
