package rediswhereabouts

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/whereabouts"
	"teamtalk/sql/dbtest"
)

// marked marks a group for nodes, at a version, and returns the answer.
func marked(t testing.TB, s *Store, group, version uint32,
	nodes ...whereabouts.Node) whereabouts.Group {
	t.Helper()
	return s.Mark(t.Context(), []whereabouts.Mark{{Group: group, Nodes: nodes,
		Version: version}})[0]
}

// foundGroup returns what a look-up finds of a group.
func foundGroup(t testing.TB, s *Store, group uint32) whereabouts.Group {
	t.Helper()
	_, groups := s.LookupAll(t.Context(), nil, []uint32{group})
	return groups[0]
}

// TestGroupKey looks at what a group leaves in Redis: a hash while it has a mark, which is kept for
// a day without one.
func TestGroupKey(t *testing.T) {
	t.Parallel()
	r := dbtest.Redis(t)
	s := open(t, options(single(r)))
	lifetime := func(want string) {
		t.Helper()
		if got := r.Do("TTL " + GroupKey(5)); got != want {
			t.Errorf("lifetime %s, want %s", got, want)
		}
	}
	marked(t, s, 5, 3)
	if got := r.Do("HGET teamtalk:where:{group_5} #"); got != "3" {
		t.Errorf("the version is %q", got)
	}
	lifetime(fmt.Sprint(unusedLife))
	marked(t, s, 5, 0, node)
	if got := r.Do("HGET teamtalk:where:{group_5} a"); got != "7" {
		t.Errorf("the mark is %q", got)
	}
	lifetime("-1")
	for _, err := range s.Unmark(t.Context(), []whereabouts.Unmark{{Group: 5, Node: node,
		Version: 3}}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := r.Do("DBSIZE"); got != "0" {
		t.Errorf("%s keys are left", got)
	}
}

// TestOneRoundTrip counts the pipelines of calls for groups.
func TestOneRoundTrip(t *testing.T) {
	t.Parallel()
	s := open(t, options(single(dbtest.Redis(t))))
	marked(t, s, 5, 1, node)
	s.Unmark(t.Context(), []whereabouts.Unmark{{Group: 5, Node: node, Version: 1}})
	var c trips
	s.client.AddHook(&c)
	users, groups := make([]uint32, 1500), make([]uint32, 500)
	found, of := s.LookupAll(t.Context(), users, groups)
	if n := c.n.Swap(0); n != 1 || found[0].Err != nil || of[499].Err != nil {
		t.Errorf("look-up: %d pipelines", n)
	}
	_, of = s.LookupAll(t.Context(), users, make([]uint32, 501))
	if n := c.n.Swap(0); n != 2 || of[500].Err != nil {
		t.Errorf("look-up of one more: %d pipelines", n)
	}
	if s.Mark(t.Context(), make([]whereabouts.Mark, 2000)); c.n.Swap(0) != 1 {
		t.Error("marks: not one pipeline")
	}
	if s.Unmark(t.Context(), make([]whereabouts.Unmark, 2000)); c.n.Swap(0) != 1 {
		t.Error("marks removed: not one pipeline")
	}
}

// TestOthersMarks puts values of other programs into the hashes of groups.
func TestOthersMarks(t *testing.T) {
	t.Parallel()
	r := dbtest.Redis(t)
	s := open(t, options(single(r)))
	r.Do("HSET " + GroupKey(5) + " b 1 c nonsense d/e 1 f 7:1 # x" + " " +
		strings.Repeat("x", 100) + " 1 long " + strings.Repeat("1", maxValue+1))
	for _, g := range []whereabouts.Group{foundGroup(t, s, 5), marked(t, s, 5, 2)} {
		if g.Err != nil || len(g.Nodes) != 1 || g.Nodes[0].Name != "b" ||
			g.Version != 0 && g.Version != 2 {
			t.Errorf("%+v", g)
		}
	}
	refused := func(reason string) float64 {
		return testutil.ToFloat64(s.metrics.refused.WithLabelValues(reason))
	}
	// the version is overwritten, and the script leaves out what is too long
	if a, b := refused("malformed"), refused("too_long"); a != 4+3 || b != 2 {
		t.Errorf("%v malformed, %v too long", a, b)
	}
	r.Do("SET " + GroupKey(6) + " text")
	r.Do(`EVAL "for i = 1, 100000 do redis.call('HSET', KEYS[1], 'x' .. i, '1') end" 1 ` +
		GroupKey(7))
	got := s.Mark(t.Context(), []whereabouts.Mark{{Group: 6, Version: 1}, {Group: 7, Version: 1},
		{Group: 8, Version: 1}})
	_, found := s.LookupAll(t.Context(), nil, []uint32{6, 7, 8})
	for i, text := range []string{"written the key " + GroupKey(6) + ": delete it: WRONGTYPE",
		"fields and may have 1024"} {
		for _, err := range []error{got[i].Err, found[i].Err} {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("group %d: %v", 6+i, err)
			}
		}
	}
	if got[2].Err != nil || found[2].Err != nil || found[2].Version != 1 {
		t.Errorf("the group behind them: %+v, %+v", got[2], found[2])
	}
	if r.Do("HLEN "+GroupKey(7)) != "100000" {
		t.Error("the hash of too many fields was written")
	}
	if err := s.health.Errs()[opMark]; err != nil {
		t.Errorf("the state is that of one group: %v", err)
	}
}

// FuzzGroupOf reads any fields and values.
func FuzzGroupOf(f *testing.F) {
	f.Add("a", "7", "#", "3")
	f.Add("a", "7", "a", "8")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		var refused Refused
		g := groupOf("key", []string{a, b, c, d}, &refused)
		left := refused.Long + refused.Malformed
		if n := len(g.Nodes); n > 2-left || g.Version == 0 && g.Err != nil {
			t.Errorf("%+v, %d left out", g, left)
		}
		for i, n := range g.Nodes {
			if i > 0 && n.Name <= g.Nodes[i-1].Name || n.Epoch == 0 {
				t.Errorf("%+v", g)
			}
		}
	})
}

// BenchmarkMark marks so many groups in one pipeline, each for one node.
func BenchmarkMark(b *testing.B) {
	eachGroups(b, func(s *Store, groups []uint32) error {
		marks := make([]whereabouts.Mark, len(groups))
		for i, g := range groups {
			marks[i] = whereabouts.Mark{Group: g, Nodes: []whereabouts.Node{node}}
		}
		for _, g := range s.Mark(b.Context(), marks) {
			if g.Err != nil {
				return g.Err
			}
		}
		return nil
	})
}

// BenchmarkLookupGroups looks up so many groups in one pipeline, each marked for 4 nodes.
func BenchmarkLookupGroups(b *testing.B) {
	eachGroups(b, func(s *Store, groups []uint32) error {
		_, of := s.LookupAll(b.Context(), nil, groups)
		for _, g := range of {
			if g.Err != nil {
				return g.Err
			}
		}
		return nil
	})
}

// eachGroups measures do for 1, 32 and 1,000 groups.
func eachGroups(b *testing.B, do func(s *Store, groups []uint32) error) {
	s := open(b, options(single(dbtest.Redis(b))))
	for _, n := range []int{1, 32, 1000} {
		groups := make([]uint32, n)
		for i := range groups {
			groups[i] = uint32(i)
			for j := range 4 {
				marked(b, s, groups[i], 1, whereabouts.Node{Name: fmt.Sprint("n", j), Epoch: 1})
			}
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if err := do(s, groups); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
