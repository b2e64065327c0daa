package schema

import (
	"context"
	"errors"
	"os"
	"testing"
)

// stride returns the distance between the steps at which a test kills: few when the machine has
// little time. make nightly takes every step.
func stride(few int) int {
	if os.Getenv("TEAMTALK_TEST_LONG") != "" {
		return 1
	}
	return few
}

// TestMigrateResumesAfterAKillAtAnyStep kills Migrate after a change, and runs it again.
func TestMigrateResumesAfterAKillAtAnyStep(t *testing.T) {
	for _, file := range []string{"", "testdata/cpp.sql"} {
		for steps := 1; ; steps += stride(7) {
			db := database(t, file)
			ctx, kill := context.WithCancel(t.Context())
			left := steps
			err := Migrate(ctx, db, Options{Progress: func(string) {
				if left--; left == 0 {
					kill()
				}
			}})
			kill()
			if err == nil {
				break // all steps were tried
			}
			migrate(t, db)
			if s := status(t, db); len(s.Pending) > 0 || s.Finalized != (file == "") {
				t.Fatalf("killed after %d steps, then run again: %+v", steps, s)
			}
		}
	}
}

// TestFinalizeResumesAfterAKillAtAnyStep kills Finalize after each change, and between
// raising a counter and the commit. Each kind of change is made for eight tables or for several
// conversations: every third step shows all kinds.
func TestFinalizeResumesAfterAKillAtAnyStep(t *testing.T) {
	for steps := 1; ; steps += stride(3) {
		db := doubled(t)
		before := messages(t, db, "IMMessage_", "relateId")
		ctx, kill := context.WithCancel(t.Context())
		left := steps
		step := func() error {
			if left--; left == 0 {
				kill()
				return errors.New("killed")
			}
			return nil
		}
		err := Finalize(ctx, db, Options{Progress: func(string) { step() },
			RaiseCounter: func(context.Context, Conversation, uint32) error { return step() }})
		kill()
		if err == nil {
			break
		}
		if n := len(messages(t, db, "IMMessage_", "relateId")); n != len(before) {
			t.Fatalf("killed at step %d: %d messages of %d", steps, n, len(before))
		}
		if err := Finalize(t.Context(), db, Options{}); err != nil {
			t.Fatalf("killed at step %d, then: %v", steps, err)
		}
		checkFinalized(t, db, before)
		if t.Failed() {
			t.Fatalf("killed at step %d", steps)
		}
	}
}
