package redisregistry

import (
	"strings"
	"testing"
	"time"

	"teamtalk/core/registry"
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

// TestLate: a node is late when its renewal is overdue by a quarter, by the clock of Redis.
func TestLate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		renew int64
		age   time.Duration
		want  bool
	}{{0, time.Hour, false}, {2000, 2500 * time.Millisecond, false},
		{2000, 2501 * time.Millisecond, true}} {
		e := Entry{Node: registry.Node{Renew: c.renew}, Age: c.age}
		if got := e.late(); got != c.want {
			t.Errorf("after %v, to be renewed within %d ms: %v", c.age, c.renew, got)
		}
	}
	r := open(t, options(server(dbtest.Redis(t))))
	soon, hour, old := msg("a"), msg("b"), msg("c")
	soon.Renew, hour.Renew = 1, 3600_000
	renew(t, r, soon, hour, old)
	for deadline := time.Now().Add(time.Minute); ; {
		if err := r.poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		nodes, _ := r.View().Nodes("msg")
		if len(nodes) != 3 || nodes[1].Late || nodes[2].Late || time.Now().After(deadline) {
			t.Fatalf("%+v", nodes)
		}
		if nodes[0].Late {
			return // the clock of Redis has advanced by 2 ms
		}
	}
}
