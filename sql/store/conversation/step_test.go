package conversation

import (
	"testing"
	"time"

	"teamtalk/core/mono"
	"teamtalk/sql/store/database"

	lru "github.com/hashicorp/golang-lru/v2"
)

// TestSteppedClockExpiresRelations steps the wall clock after a relation was cached.
func TestSteppedClockExpiresRelations(t *testing.T) {
	for _, d := range []time.Duration{200 * time.Second, 900 * time.Second, -2 * time.Hour} {
		cache, err := lru.New[uint64, *Conversation](10)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		s := &Cache{cache: cache,
			db: &database.DB{ProcessTime: func() time.Time { return now }}}
		s.remember(1<<32|2, Thread{ID: 3})
		cached := now
		now = mono.Step(cached.Add(relationTTL-time.Second), d)
		if s.Cached(1<<32|2) == nil {
			t.Errorf("step of %v: the relation expired early", d)
		}
		now = mono.Step(cached.Add(relationTTL+time.Second), d)
		if s.Cached(1<<32|2) != nil {
			t.Errorf("step of %v: the relation did not expire", d)
		}
	}
}
