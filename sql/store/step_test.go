package store

import (
	"testing"
	"time"

	"teamtalk/core/mono"

	lru "github.com/hashicorp/golang-lru/v2"
)

// TestSteppedClockExpiresRelations steps the wall clock after a relation was cached.
func TestSteppedClockExpiresRelations(t *testing.T) {
	for _, d := range []time.Duration{200 * time.Second, 900 * time.Second, -2 * time.Hour} {
		cache, err := lru.New[uint64, *conversation](10)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		s := &conversations{cache: cache,
			db: &databases{now: func() time.Time { return now }}}
		s.remember(1<<32|2, thread{id: 3})
		cached := now
		now = mono.Step(cached.Add(relationTTL-time.Second), d)
		if s.cached(1<<32|2) == nil {
			t.Errorf("step of %v: the relation expired early", d)
		}
		now = mono.Step(cached.Add(relationTTL+time.Second), d)
		if s.cached(1<<32|2) != nil {
			t.Errorf("step of %v: the relation did not expire", d)
		}
	}
}
