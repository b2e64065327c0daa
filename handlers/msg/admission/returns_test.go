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
	if n := r.users.Len(); n != maxReturns {
		t.Errorf("%d users", n)
	}
}
