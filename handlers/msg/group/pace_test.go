package group

import (
	"testing"
	"time"
)

// TestPacedAreBounded: more users than are remembered.
func TestPacedAreBounded(t *testing.T) {
	var p pace
	now := time.Now()
	for i := range uint32(2 * maxPaced) {
		if wait, n := p.begin(i, now); wait != 0 || n != 0 {
			t.Fatalf("user %d waits for %v", i, wait)
		}
		p.end(i, 0, 4000)
	}
	if n := p.users.Len(); n != maxPaced {
		t.Errorf("%d users", n)
	}
}
