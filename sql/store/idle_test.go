package store

import (
	"testing"

	"teamtalk/sql/store/database"
	"teamtalk/sql/store/use"
)

// TestPeriodicWorkDoesNotKeepItselfBusy does the periodic work of a store once, with groups to
// synchronise. It must not count as a use, which would make all of it due again.
func TestPeriodicWorkDoesNotKeepItselfBusy(t *testing.T) {
	e := newEnv(t)
	e.o.NoRebuild, e.o.hooks = false, database.Hooks{}
	s := e.store(t)
	s.stop() // ends the periodic work, which the test does itself
	s.running.Wait()
	u := users(t, s, 3)
	g := newGroup(t, s, u...)
	send(t, s, groupText(u[0], g, "x"))
	uses := s.db.Uses
	used := func() bool {
		a, b := uses.Housekeeping.Due(), uses.Sync.Due()
		uses.Housekeeping.Use() // both rest from now on
		uses.Sync.Use()
		uses.Housekeeping.Due()
		uses.Sync.Due()
		return a || b
	}
	if !used() || used() {
		t.Error("a message does not count as a use, or all the time")
	}
	ctx := use.Periodic(t.Context())
	for _, work := range []struct {
		name string
		do   func() error
	}{
		{"sync", func() error {
			uses.Sync.Use()
			n, err := s.SyncSessions(t.Context())
			if n != 2 {
				t.Errorf("%d lists synchronised, want 2", n)
			}
			return err
		}},
		{"clock", func() error { return s.db.ReadClock(ctx, false) }},
		{"counts", func() error { return s.outbox.Watch(ctx) }},
		{"rebuild", func() error { return s.rebuild.Check(ctx) }},
		{"outbox", func() error { return second(s.outbox.Recover(ctx, s.o.OutboxAge)) }},
		{"kept", func() error { return s.outbox.ForgetKept(ctx) }},
		{"ids", func() error { return s.messages.ForgetClientIDs(ctx) }},
		{"mark", func() error { return s.PayMark(ctx) }},
		{"eviction", func() error { s.db.CheckEviction(ctx); return nil }},
	} {
		if err := work.do(); err != nil {
			t.Errorf("%s: %v", work.name, err)
		}
		if used() {
			t.Errorf("%s counts as a use", work.name)
		}
	}
	if _, err := s.Users(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if !used() {
		t.Error("a read of a user does not count as a use")
	}
}

// second returns an error without the value before it.
func second[T any](_ T, err error) error { return err }
