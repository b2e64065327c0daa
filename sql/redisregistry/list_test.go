package redisregistry

import (
	"strings"
	"testing"

	"teamtalk/sql/dbtest"
)

// TestListWritesNothing lists the nodes while Redis is full, and while it is a replica. A reading
// of a process advances the clock, and fails then.
func TestListWritesNothing(t *testing.T) {
	t.Parallel()
	s := dbtest.Redis(t)
	r := open(t, options(server(s)))
	renew(t, r, msg("a"))
	before := s.Do("HGETALL " + Key)
	for what, c := range map[string]struct{ begin, end, err string }{
		"full":      {"CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM"},
		"a replica": {"REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY"},
	} {
		s.Do(c.begin)
		list, err := r.List(t.Context())
		if err != nil || len(list) != 1 || list[0].Name != "a" || list[0].Left <= 0 {
			t.Errorf("%s: %+v, %v", what, list, err)
		}
		if err := r.poll(t.Context()); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: a reading with the clock: %v", what, err)
		}
		s.Do(c.end)
	}
	if after := s.Do("HGETALL " + Key); after != before {
		t.Errorf("the registry was\n%s\nand is\n%s", before, after)
	}
}
