package admission

import (
	"testing"
	"time"
)

// TestReturnsAreBounded: more users than are remembered.
func TestReturnsAreBounded(t *testing.T) {
	r, now := newReturns(), time.Now()
	for i := range 2 * maxReturns {
		if !r.take(uint32(i), 0, now) {
			t.Fatalf("user %d waits", i)
		}
	}
	if n := r.users.Len(); n > 2*maxReturns {
		t.Errorf("%d users", n)
	}
}

// TestReturnsAreCounted: a user has its burst at once, then its rate, and its burst again when it
// was away for long enough.
func TestReturnsAreCounted(t *testing.T) {
	r, now := newReturns(), time.Now()
	logins := func() (n int) {
		for r.take(7, 1, now) {
			n++
		}
		return n
	}
	if n := logins(); n != returnBurst {
		t.Errorf("%d logins at once", n)
	}
	if !r.take(7, 2, now) || !r.take(8, 1, now) {
		t.Error("another class or user waits")
	}
	now = now.Add(returnFull - time.Second)
	r.take(9, 1, now) // what is remembered may be sorted out then
	if n := logins(); n != returnBurst-returnRate {
		t.Errorf("%d logins a second too early", n)
	}
	now = now.Add(3 * returnFull)
	r.take(9, 1, now)
	if n := logins(); n != returnBurst {
		t.Errorf("%d logins later", n)
	}
}
