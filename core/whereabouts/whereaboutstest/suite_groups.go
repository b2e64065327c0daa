package whereaboutstest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"teamtalk/core/registry"
	"teamtalk/core/whereabouts"
)

// groupText returns what a store has of a group as "node@epoch node@epoch version".
func groupText(g whereabouts.Group) string {
	var parts []string
	for _, n := range g.Nodes {
		parts = append(parts, fmt.Sprintf("%s@%d", n.Name, n.Epoch))
	}
	return strings.Join(append(parts, fmt.Sprint(g.Version)), " ")
}

// lookupGroup returns what is found of a group as a text. Looking must succeed.
func lookupGroup(t *testing.T, s whereabouts.Store, group uint32) string {
	t.Helper()
	found, groups := s.LookupAll(t.Context(), nil, []uint32{group})
	if len(found) != 0 || len(groups) != 1 || groups[0].Err != nil {
		t.Fatalf("look-up of group %d: %+v, %+v", group, found, groups)
	}
	return groupText(groups[0])
}

// groupSteps makes one change after the other to a group, and looks at each.
func groupSteps(t *testing.T, s whereabouts.Store) {
	const group = 5
	a, b, later := node("a", 3), node("b", 7), node("b", 9)
	largest := node("A-z_0.9", registry.MaxEpoch)
	mark := func(version, since uint32, nodes ...whereabouts.Node) any {
		return whereabouts.Mark{Group: group, Nodes: nodes, Version: version, Since: since}
	}
	unmark := func(version uint32, n whereabouts.Node) any {
		return whereabouts.Unmark{Group: group, Node: n, Version: version}
	}
	for i, c := range []struct {
		do   any
		want string
	}{
		{unmark(0, a), "0"},
		{mark(0, 0, b), "b@7 0"},
		{mark(0, 0, b), "b@7 0"},
		{mark(5, 4, a), "a@3 b@7 0"}, // the changes before it are not settled
		{mark(4, 0), "a@3 b@7 4"},
		{mark(6, 5), "a@3 b@7 4"},
		{mark(5, 4, later), "a@3 b@9 5"},
		{mark(5, 4, b), "a@3 b@9 5"}, // the mark of a later process stays
		{mark(4, 0, a), "a@3 b@9 5"},
		{unmark(4, a), "a@3 b@9 5"}, // the group has changed since
		{unmark(5, node("a", 2)), "a@3 b@9 5"},
		{unmark(5, b), "a@3 b@9 5"},
		{unmark(5, a), "b@9 5"},
		{unmark(9, node("c", 1)), "b@9 5"},
		{mark(1<<32-1, 0, largest), "A-z_0.9@999999999999999 b@9 4294967295"},
		{unmark(5, largest), "A-z_0.9@999999999999999 b@9 4294967295"},
		{unmark(whereabouts.EveryVersion, largest), "b@9 4294967295"},
		{unmark(whereabouts.EveryVersion, later), "0"}, // the version goes with the last mark
		{mark(3, 0), "3"}, // nobody is online
		{mark(0, 0, a), "a@3 3"},
	} {
		got := ""
		switch do := c.do.(type) {
		case whereabouts.Mark:
			g := s.Mark(t.Context(), []whereabouts.Mark{do})
			if len(g) != 1 || g[0].Err != nil {
				t.Fatalf("step %d: %+v", i, g)
			}
			if got = groupText(g[0]); do.Version == 0 {
				got = c.want // no answer is wanted
			}
		case whereabouts.Unmark:
			if err := s.Unmark(t.Context(), []whereabouts.Unmark{do}); len(err) != 1 ||
				err[0] != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			got = c.want
		}
		if found := lookupGroup(t, s, group); found != c.want || got != c.want {
			t.Fatalf("step %d: answer %q, found %q, want %q", i, got, found, c.want)
		}
		if got := lookupGroup(t, s, group+1); got != "0" {
			t.Fatalf("step %d: another group has %q", i, got)
		}
	}
}

// manyGroups marks more groups than one pipeline takes, and looks them up with users.
func manyGroups(t *testing.T, s whereabouts.Store) {
	const n = 5000
	var marks []whereabouts.Mark
	var unmarks []whereabouts.Unmark
	var ids []uint32
	for g := range uint32(n) {
		marks = append(marks, whereabouts.Mark{Group: g,
			Nodes: []whereabouts.Node{node("a", 1)}, Version: g})
		if g%3 == 0 {
			unmarks = append(unmarks, whereabouts.Unmark{Group: g, Node: node("a", 1), Version: g})
		}
		ids = append(ids, n-1-g)
	}
	for i, g := range s.Mark(t.Context(), marks) {
		if g.Err != nil || g.Version != uint32(i) {
			t.Fatalf("group %d: %+v", i, g)
		}
	}
	for i, err := range s.Unmark(t.Context(), unmarks) {
		if err != nil {
			t.Fatalf("unmark %d: %v", i, err)
		}
	}
	apply(t, s, node("b", 2), 17, windows)
	found, groups := s.LookupAll(t.Context(), []uint32{17, 18, 17}, ids)
	if len(found) != 3 || len(groups) != n {
		t.Fatalf("%d users and %d groups", len(found), len(groups))
	}
	for i, want := range []string{"b@2:1", "", "b@2:1"} {
		if got := entriesText(found[i].Entries); got != want || found[i].Err != nil {
			t.Errorf("user %d: %q, %v, want %q", i, got, found[i].Err, want)
		}
	}
	for i, g := range groups {
		want := fmt.Sprintf("a@1 %d", ids[i])
		if ids[i]%3 == 0 {
			want = "0"
		}
		if got := groupText(g); got != want || g.Err != nil {
			t.Fatalf("group %d: %q, %v, want %q", ids[i], got, g.Err, want)
		}
	}
}

// groupRace lets several nodes mark a group at once. Nothing is lost.
func groupRace(t *testing.T, s whereabouts.Store) {
	const nodes, rounds = 4, 25
	for group := range uint32(rounds) {
		var all sync.WaitGroup
		for i := range uint32(nodes) {
			all.Go(func() {
				m := whereabouts.Mark{Group: group, Version: i + 1, Since: i,
					Nodes: []whereabouts.Node{node(fmt.Sprint("n", i), 1)}}
				for s.Mark(t.Context(), []whereabouts.Mark{m})[0].Version < i+1 {
				}
			})
		}
		all.Wait()
		if got := lookupGroup(t, s, group); got != "n0@1 n1@1 n2@1 n3@1 4" {
			t.Fatalf("group %d has %q", group, got)
		}
	}
}

// endForGroups calls after the end of the context.
func endForGroups(t *testing.T, s whereabouts.Store) {
	mark := []whereabouts.Mark{{Group: 5, Nodes: []whereabouts.Node{node("a", 1)}, Version: 1}}
	s.Mark(t.Context(), mark)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	found, groups := s.LookupAll(ctx, []uint32{5}, []uint32{5})
	marked := s.Mark(ctx, mark)
	errs := s.Unmark(ctx, []whereabouts.Unmark{{Group: 5, Node: node("a", 1), Version: 1}})
	if found[0].Err == nil || groups[0].Err == nil || marked[0].Err == nil || errs[0] == nil {
		t.Errorf("no error: %+v, %+v, %+v, %v", found, groups, marked, errs)
	}
	if got := lookupGroup(t, s, 5); got != "a@1 1" {
		t.Errorf("the group has %q", got)
	}
}

// groupsAsInMemory makes random calls, and compares the answers with those of a Memory.
func groupsAsInMemory(t *testing.T, s whereabouts.Store) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	model := NewMemory()
	anyNode := func() whereabouts.Node {
		return node(string(rune('a'+random.IntN(3))), 1+random.Uint64N(4))
	}
	for step := range 400 {
		ctx, group := t.Context(), random.Uint32N(3)
		var what, got, want any
		switch random.IntN(3) {
		case 0:
			m := whereabouts.Mark{Group: group, Version: random.Uint32N(6)}
			m.Since = random.Uint32N(m.Version + 1)
			for range random.IntN(3) {
				m.Nodes = append(m.Nodes, anyNode())
			}
			what = m
			got = s.Mark(ctx, []whereabouts.Mark{m, m})
			want = model.Mark(ctx, []whereabouts.Mark{m, m})
		case 1:
			m := whereabouts.Unmark{Group: group, Node: anyNode(), Version: random.Uint32N(6)}
			what = m
			got = s.Unmark(ctx, []whereabouts.Unmark{m})
			want = model.Unmark(ctx, []whereabouts.Unmark{m})
		case 2:
			what = group
			_, g := s.LookupAll(ctx, nil, []uint32{group, 1, 2})
			_, w := model.LookupAll(ctx, nil, []uint32{group, 1, 2})
			for i := range w {
				g[i].Nodes, w[i].Nodes = slices.Clip(g[i].Nodes), slices.Clip(w[i].Nodes)
			}
			got, want = g, w
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d, step %d: %+v: %+v, want %+v", seed, step, what, got, want)
		}
	}
}
