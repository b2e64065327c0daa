package session

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func sessionOf(user uint32) *Session { return &Session{id: NextID(), User: user} }

func TestRegistry(t *testing.T) {
	r := NewRegistry()
	want := func(users, count int) {
		t.Helper()
		if r.Users() != users || r.Count() != count {
			t.Errorf("%d users, %d sessions; want %d, %d", r.Users(), r.Count(), users, count)
		}
	}
	want(0, 0)
	// 7 and 71 share a shard.
	a, b, c, other := sessionOf(7), sessionOf(7), sessionOf(7), sessionOf(71)
	if old := r.Add(a); len(old) != 0 {
		t.Errorf("first of its user, but there was %v", old)
	}
	if old := r.Add(b); !slices.Equal(old, []*Session{a}) {
		t.Errorf("there was %v", old)
	}
	r.Add(other)
	early := r.Of(7)
	if old := r.Add(c); !slices.Equal(old, []*Session{a, b}) {
		t.Errorf("there was %v", old)
	}
	want(2, 4)
	if rest, ok := r.Remove(b); !ok || !slices.Equal(rest, []*Session{a, c}) {
		t.Errorf("left %v, %v", rest, ok)
	}
	if rest, ok := r.Remove(b); ok || !slices.Equal(rest, []*Session{a, c}) {
		t.Errorf("removed twice: %v, %v", rest, ok)
	}
	if !slices.Equal(early, []*Session{a, b}) || !slices.Equal(r.Of(7), []*Session{a, c}) {
		t.Errorf("earlier %v, now %v", early, r.Of(7))
	}
	want(2, 3)
	r.Remove(a)
	if rest, ok := r.Remove(c); !ok || len(rest) != 0 || len(r.Of(7)) != 0 {
		t.Errorf("left %v, %v", rest, ok)
	}
	want(1, 1)
	if rest, ok := r.Remove(a); ok || len(rest) != 0 {
		t.Errorf("removed from nothing: %v, %v", rest, ok)
	}
	want(1, 1)
}

func TestEachHoldsNoLock(t *testing.T) {
	r := NewRegistry()
	all := map[*Session]bool{}
	for user := range uint32(200) {
		for range user%3 + 1 {
			s := sessionOf(user)
			all[s] = true
			r.Add(s)
		}
	}
	r.Each(func(s *Session) {
		if !all[s] {
			t.Fatal("Each returned a session twice, or one that was never added")
		}
		delete(all, s)
		r.Remove(s) // would deadlock if Each held a lock
	})
	if len(all) > 0 || r.Count() != 0 || r.Users() != 0 {
		t.Errorf("%d left out, %d still in", len(all), r.Count())
	}
}

// TestRegistryIsSafeForConcurrentUse adds and removes sessions on several goroutines
// while others read. No session is lost, none is listed under another user, and the
// numbers are right at the end.
func TestRegistryIsSafeForConcurrentUse(t *testing.T) {
	const workers, rounds = 8, 300
	r := NewRegistry()
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for user := range uint32(4) {
					for _, s := range r.Of(user) {
						if s.User != user {
							t.Errorf("a session of %d among those of %d", s.User, user)
						}
					}
				}
				r.Each(func(*Session) {})
			}
		})
	}
	for w := range uint64(workers) {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(w, 0))
			var mine []*Session
			for range rounds {
				s := sessionOf(rnd.Uint32N(4))
				if slices.Contains(r.Add(s), s) {
					t.Error("the registry held the session before Add")
				}
				mine = append(mine, s)
				if i := rnd.IntN(len(mine)); rnd.IntN(2) == 0 {
					if _, ok := r.Remove(mine[i]); !ok {
						t.Error("the registry lost the session")
					}
					mine = slices.Delete(mine, i, i+1)
				}
			}
			for _, s := range mine {
				if rest, ok := r.Remove(s); !ok || slices.Contains(rest, s) {
					t.Error("the registry lost the session, or still holds it")
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	if r.Count() != 0 || r.Users() != 0 {
		t.Errorf("%d sessions, %d users left", r.Count(), r.Users())
	}
}

func BenchmarkRegistryOf(b *testing.B) {
	r := NewRegistry()
	for user := range uint32(10_000) {
		r.Add(sessionOf(user))
	}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for user := uint32(0); p.Next(); user++ {
			if len(r.Of(user%10_000)) != 1 {
				b.Error("not there")
			}
		}
	})
}
