package store

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"teamtalk/core/im"
	"teamtalk/sql/schema"
	"teamtalk/sql/store/conversation"
)

// TestNoIDTwice loses the counters in Redis in every way, with another process on the
// same database.
func TestNoIDTwice(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(*testing.T) *env{"finalized": newEnvT,
		"unfinalized": unfinalized} {
		t.Run(name, func(t *testing.T) {
			e := make(t)
			a, b := e.store(t), e.store(t)
			u := users(t, a, 2)
			last := uint32(0)
			step := func(what string, s *Store) {
				t.Helper()
				batch := texts(u[0], u[1], 3)
				send(t, s, batch...)
				for _, m := range batch {
					gap := m.ID - last
					if m.ID <= last || gap > 1 && (e.finalized(t) || gap > conversation.LostGap+1) {
						t.Fatalf("%s: id %d after %d", what, m.ID, last)
					}
					last = m.ID
				}
			}
			step("first", a)
			step("other process", b)
			e.redis.Save()
			step("after the snapshot", b)
			e.redis.Stop()
			e.redis.Start()
			step("old snapshot", a)
			step("old snapshot, other", b)
			step("ahead", b)
			e.redis.FlushAll()
			step("flushed", a) // a has not seen all ids that b gave
			step("flushed, other", b)
			e.redis.Stop()
			e.redis.Start() // with the old snapshot again
			step("old snapshot again", b)
			c := e.store(t)
			step("new process", c)
		})
	}
}

// finalized reports whether the unique keys exist.
func (e *env) finalized(t testing.TB) bool {
	t.Helper()
	state, err := schema.Status(t.Context(), e.db)
	if err != nil {
		t.Fatal(err)
	}
	return state.Finalized
}

// TestUniqueKeyStopsDoubleID sets a counter back in a way that no process can detect. The
// unique key rejects the ids.
func TestUniqueKeyStopsDoubleID(t *testing.T) {
	e := newEnv(t)
	a, b := e.store(t), e.store(t)
	u := users(t, a, 3)
	send(t, a, texts(u[0], u[1], 2)...)
	send(t, b, texts(u[1], u[0], 8)...)
	relate := a.conversations.Cached(im.ConversationKey(u[0], u[1])).Thread.ID
	e.redis.Do(fmt.Sprintf("SET msg_id_%d 5", relate))
	send(t, a, append(texts(u[0], u[1], 3), text(u[0], u[2], "beside"))...)
	wantIDs(t, a, u[0], u[1], 1, 13)
}

// TestClientIDTwoProcesses sends a message to a second process while the first one stores
// it.
func TestClientIDTwoProcesses(t *testing.T) {
	e := newEnv(t)
	s := []*Store{e.store(t), e.store(t)}
	u := users(t, s[0], 2)
	for round := range 30 {
		m := []*im.Message{text(u[0], u[1], "once"), text(u[0], u[1], "once")}
		var wg sync.WaitGroup
		for i := range s {
			m[i].ClientID = fmt.Appendf(nil, "id %d", round)
			wg.Go(func() {
				s[i].AppendMessages(context.Background(),
					[]*im.Message{m[i]})
			})
		}
		wg.Wait()
		if m[0].Err != nil || m[1].Err != nil || m[0].ID != m[1].ID ||
			m[0].Duplicate == m[1].Duplicate {
			t.Fatalf("round %d: %+v and %+v", round, *m[0], *m[1])
		}
	}
	list, err := s[0].History(context.Background(), u[0], u[1], 0, 1000)
	if err != nil || len(list) != 30 {
		t.Errorf("%d messages, %v, want 30", len(list), err)
	}
	if n := unreadOf(t, s[0], u[1], u[0]); n != 30 {
		t.Errorf("%d unread, want 30", n)
	}
}
