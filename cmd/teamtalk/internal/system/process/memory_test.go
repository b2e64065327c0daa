package process

import (
	"testing"
	"time"
)

// TestWorthTrimming: memory is returned after a burst, when enough of it is free.
func TestWorthTrimming(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		name      string
		use       heapUse
		allocated uint64 // since the previous look
		want      bool
	}{
		{"after a storm", heapUse{live: 20 * mb, objects: 30 * mb, free: 12 * mb}, 0, true},
		{"garbage alone", heapUse{live: 20 * mb, objects: 30 * mb}, 100, true},
		{"in a storm", heapUse{live: 20 * mb, objects: 30 * mb, free: 12 * mb}, 5 * mb, false},
		{"heartbeats only", heapUse{live: 200 * mb, objects: 300 * mb, free: 100 * mb}, 20 * mb,
			true},
		{"nothing to give", heapUse{live: 100 * mb, objects: 110 * mb, free: 5 * mb}, 0, false},
		{"small", heapUse{live: 2 * mb, objects: 4 * mb, free: mb}, 0, false},
		{"collected since", heapUse{live: 30 * mb, objects: 20 * mb, free: mb}, 0, false},
	} {
		before := heapUse{allocated: 1000}
		c.use.allocated = before.allocated + c.allocated
		if got := c.use.worthTrimming(before); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestLooksGetRareWithoutWork: a burst makes them frequent again at once.
func TestLooksGetRareWithoutWork(t *testing.T) {
	every, want := trimInterval, []time.Duration{4, 5, 5, 5, 5, 2, 4}
	for i, w := range want {
		if every = nextLook(every, i != 5); every != w*time.Second {
			t.Errorf("look %d: %v, want %v", i, every, w*time.Second)
		}
	}
}
