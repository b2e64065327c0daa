package store

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/store/database"
)

// TestFreshPairsFromBothSides runs two processes without the unique keys. Each pair of
// users must get one relation, and one session row per side.
func TestFreshPairsFromBothSides(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(*testing.T) *env{"finalized": newEnvT,
		"unfinalized": unfinalized} {
		t.Run(name, func(t *testing.T) {
			e := make(t)
			s := []*Store{e.store(t), e.store(t)}
			u := users(t, s[0], 21)
			var pairs [][2]uint32
			for i := range u {
				for j := range i {
					pairs = append(pairs, [2]uint32{u[i], u[j]})
				}
			}
			pairs = pairs[:200]
			start := sync.WaitGroup{}
			start.Add(1)
			done := sync.WaitGroup{}
			for side := range 2 {
				for worker := range 4 {
					done.Go(func() {
						start.Wait()
						for i := worker; i < len(pairs); i += 4 {
							p := pairs[i]
							m := text(p[side], p[1-side], "hello")
							if s[side].AppendMessages(context.Background(),
								[]*im.Message{m}); m.Err != nil {
								t.Errorf("%d to %d: %v", m.From, m.To, m.Err)
							}
						}
					})
				}
			}
			start.Done()
			done.Wait()
			for query, want := range map[string]int{
				"SELECT COUNT(*) " +
					"FROM IMRelationShip": 200,
				"SELECT COUNT(DISTINCT smallId, bigId) " +
					"FROM IMRelationShip": 200,
				"SELECT COUNT(*) " +
					"FROM IMRecentSession": 400,
				"SELECT COUNT(DISTINCT userId, peerId) FROM IMRecentSession " +
					"WHERE type=1 AND status=0": 400,
			} {
				var n int
				if err := e.db.QueryRow(query).Scan(&n); err != nil || n != want {
					t.Errorf("%s: %d, %v, want %d", query, n, err, want)
				}
			}
			for _, p := range pairs {
				wantIDs(t, s[0], p[0], p[1], 1, 2)
			}
		})
	}
}

// TestCrash crashes a process between the commit and the count, and between the count and
// the end of its outbox row.
func TestCrash(t *testing.T) {
	t.Parallel()
	for name, point := range map[string]func(*database.Hooks){
		"not counted": func(h *database.Hooks) {
			h.AfterCommit = func() error { return errCrash }
		},
		"counted, row there": func(h *database.Hooks) {
			h.AfterCount = func() error { return errCrash }
		},
	} {
		for _, cluster := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, cluster %v", name, cluster), func(t *testing.T) {
				e := newEnv(t)
				if cluster {
					e.onCluster(t)
				}
				s := e.open(t)
				u := users(t, s, 3)
				send(t, s, texts(u[0], u[1], 2)...)
				point(&s.db.Hooks)
				send(t, s, append(texts(u[0], u[1], 3), texts(u[2], u[1], 1)...)...)
				if n := e.outboxRows(t); n == 0 {
					t.Fatal("nothing in the outbox")
				}
				s.Close()
				for range 2 { // recovering twice counts once
					s = e.open(t)
					if a, b := unreadOf(t, s, u[1], u[0]), unreadOf(t, s, u[1], u[2]); a != 5 ||
						b != 1 {
						t.Errorf("unread %d and %d, want 5 and 1", a, b)
					}
					if n := e.outboxRows(t); n != 0 {
						t.Errorf("%d rows are left in the outbox", n)
					}
					s.Close()
				}
			})
		}
	}
}

// TestRedisGoneBetweenCommitAndCount requires that the message is stored and acked, and
// counted when Redis is available again.
func TestRedisGoneBetweenCommitAndCount(t *testing.T) {
	e := newEnv(t)
	e.o.Housekeeping = 20 * time.Millisecond
	s := e.store(t)
	u := users(t, s, 2)
	send(t, s, texts(u[0], u[1], 2)...)
	e.redis.Save()
	s.db.Hooks.AfterCommit = func() error { e.redis.Stop(); return nil }
	send(t, s, texts(u[0], u[1], 3)...)
	s.db.Hooks.AfterCommit = nil
	e.redis.Start()
	awaitRedis(t, s)
	// housekeeping counts it; the test's timeout bounds the loop
	for unreadOf(t, s, u[1], u[0]) != 5 {
		time.Sleep(10 * time.Millisecond)
	}
	send(t, s, texts(u[0], u[1], 1)...)
	if n := unreadOf(t, s, u[1], u[0]); n != 6 {
		t.Errorf("unread %d, want 6", n)
	}
	wantIDs(t, s, u[0], u[1], 1, 6)
}

// TestOtherProcessTakesOver requires that a process recovers the old outbox rows of a
// crashed process, and that the counts of a slow process are not applied by both.
func TestOtherProcessTakesOver(t *testing.T) {
	e := newEnv(t)
	slow, other := e.store(t), e.store(t)
	u := users(t, slow, 2)
	slow.db.Hooks.AfterCommit = func() error {
		if n, err := other.outbox.Recover(context.Background(), time.Hour); n != 0 || err != nil {
			t.Errorf("recovered %d rows that are not old, %v", n, err)
		}
		if n, err := other.outbox.Recover(context.Background(), 0); n != 1 || err != nil {
			t.Errorf("recovered %d rows, %v, want 1", n, err)
		}
		return nil // then the slow process counts
	}
	send(t, slow, texts(u[0], u[1], 3)...)
	if n := unreadOf(t, other, u[1], u[0]); n != 3 {
		t.Errorf("unread %d, want 3", n)
	}
}

func TestRedisDown(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 2)
	send(t, s, texts(u[0], u[1], 2)...)
	e.redis.Stop()
	batch := texts(u[0], u[1], 3)
	s.AppendMessages(context.Background(), batch)
	for _, m := range batch {
		if im.KindOf(m.Err) != im.Unavailable || m.Err == nil {
			t.Errorf("without Redis: %v, want kind unavailable", m.Err)
		}
	}
	if err := s.db.Ping(context.Background()); im.KindOf(err) != im.Unavailable || err == nil {
		t.Errorf("Ping: %v, want kind unavailable", err)
	}
	wantIDs(t, s, u[0], u[1], 1, 2)
	e.redis.Start() // without data
	awaitRedis(t, s)
	send(t, s, batch...)
	wantIDs(t, s, u[0], u[1], 1, 5)
}

// awaitRedis waits until a store uses a Redis server that was started again. After some
// failures the client of Redis returns the last error without an attempt, and tries the
// server once a second. The test's timeout bounds the loop.
func awaitRedis(t *testing.T, s *Store) {
	t.Helper()
	for s.db.Ping(t.Context()) != nil {
		time.Sleep(10 * time.Millisecond)
	}
}
