package sessions

import (
	"testing"
	"time"
)

// rig is a store with a clock.
type rig struct {
	*Store
	now time.Time
}

func newRig() *rig {
	r := &rig{now: time.Unix(1e9, 0)}
	r.Store = New(func() time.Time { return r.now })
	return r
}

// TestEnds: a session ends when it is idle, after its longest time, and when it is closed.
func TestEnds(t *testing.T) {
	r := newRig()
	one, secret := r.Open(Key{1})
	if found, ok := r.Find(secret); !ok || found.Token != (Key{1}) || !found.Proves(one.CSRF) ||
		found.Proves("") || found.Proves(one.CSRF+"x") || secret == one.CSRF {
		t.Errorf("found %v %v", found, ok)
	}
	if _, ok := r.Find(one.CSRF); ok {
		t.Error("the text against forged calls opens the session")
	}
	r.now = r.now.Add(Idle - 1)
	if _, ok := r.Find(secret); !ok {
		t.Error("a session that was not idle has ended")
	}
	r.now = r.now.Add(Idle)
	if _, ok := r.Find(secret); ok || r.Len() != 0 {
		t.Error("an idle session is open")
	}
	_, secret = r.Open(Key{1})
	for end := r.now.Add(Longest); r.now.Before(end); r.now = r.now.Add(Idle / 2) {
		if _, ok := r.Find(secret); !ok {
			t.Fatalf("ended %v before its time", end.Sub(r.now))
		}
	}
	if _, ok := r.Find(secret); ok {
		t.Error("a session is open after its longest time")
	}
	_, secret = r.Open(Key{1})
	r.Close(secret)
	if _, ok := r.Find(secret); ok {
		t.Error("a closed session is open")
	}
}

// TestBounded: a sign-in beyond the bounds ends the session that has been idle longest, of the
// same token first.
func TestBounded(t *testing.T) {
	r := newRig()
	_, other := r.Open(Key{2})
	var mine []string
	for range MaxOfToken + 1 {
		r.now = r.now.Add(time.Second)
		_, secret := r.Open(Key{1})
		mine = append(mine, secret)
	}
	if _, ok := r.Find(mine[0]); ok || r.Len() != MaxOfToken+1 {
		t.Errorf("%d sessions, the oldest is open: %v", r.Len(), ok)
	}
	if _, ok := r.Find(mine[1]); !ok {
		t.Error("a newer session has ended")
	}
	if _, ok := r.Find(other); !ok {
		t.Error("the session of another token has ended")
	}
	for i := range 2 * Max {
		r.now = r.now.Add(time.Millisecond)
		r.Open(Key{3, byte(i), byte(i >> 8)})
	}
	if r.Len() != Max {
		t.Errorf("%d sessions, want %d", r.Len(), Max)
	}
}
