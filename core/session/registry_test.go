package session

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func sessionOf(user uint32) *Client { return &Client{Conn: Conn{id: NextID()}, User: user} }

// wantAdd adds s, and compares the sessions that its user had before.
func wantAdd(t *testing.T, r *Registry, s *Client, before ...*Client) {
	t.Helper()
	if old := r.Add(s); !slices.Equal(old, before) {
		t.Errorf("Add returned %v, want %v", old, before)
	}
}

// wantRemove removes s, and compares the result: whether r held s, and what is left.
func wantRemove(t *testing.T, r *Registry, s *Client, held bool, left ...*Client) {
	t.Helper()
	if rest, ok := r.Remove(s); ok != held || !slices.Equal(rest, left) {
		t.Errorf("Remove returned %v, %v; want %v, %v", rest, ok, left, held)
	}
}

// TestRegistryListsSessionsByUser adds and removes sessions in steps; each step builds on
// the earlier ones.
func TestRegistryListsSessionsByUser(t *testing.T) {
	r := NewRegistry()
	// Users 7 and 71 share a shard.
	a, b, c, other := sessionOf(7), sessionOf(7), sessionOf(7), sessionOf(71)
	var early []*Client
	for _, step := range []struct {
		name            string
		run             func(t *testing.T)
		users, sessions int
	}{
		{"empty", func(*testing.T) {}, 0, 0},
		{"Add returns the earlier sessions", func(t *testing.T) {
			wantAdd(t, r, a)
			wantAdd(t, r, b, a)
			wantAdd(t, r, other)
			early = r.Of(7)
			wantAdd(t, r, c, a, b)
		}, 2, 4},
		{"Remove returns the remaining sessions", func(t *testing.T) {
			wantRemove(t, r, b, true, a, c)
		}, 2, 3},
		{"a second Remove changes nothing", func(t *testing.T) {
			wantRemove(t, r, b, false, a, c)
		}, 2, 3},
		{"earlier slices stay as they were", func(t *testing.T) {
			if !slices.Equal(early, []*Client{a, b}) || !slices.Equal(r.Of(7), []*Client{a, c}) {
				t.Errorf("earlier %v, now %v", early, r.Of(7))
			}
		}, 2, 3},
		{"the last session takes the user along", func(t *testing.T) {
			wantRemove(t, r, a, true, c)
			wantRemove(t, r, c, true)
			if left := r.Of(7); len(left) != 0 {
				t.Errorf("left %v", left)
			}
		}, 1, 1},
		{"Remove for an absent user changes nothing", func(t *testing.T) {
			wantRemove(t, r, a, false)
		}, 1, 1},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			step.run(t)
			if r.Users() != step.users || r.Count() != step.sessions {
				t.Errorf("%d users, %d sessions; want %d, %d",
					r.Users(), r.Count(), step.users, step.sessions)
			}
		})
		if !ok {
			t.FailNow()
		}
	}
}

func TestEachHoldsNoLock(t *testing.T) {
	r := NewRegistry()
	all := map[*Client]bool{}
	for user := range uint32(200) {
		for range user%3 + 1 {
			s := sessionOf(user)
			all[s] = true
			r.Add(s)
		}
	}
	r.Each(func(s *Client) {
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
				r.Each(func(*Client) {})
			}
		})
	}
	for w := range uint64(workers) {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(w, 0))
			var mine []*Client
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
