package whereaboutstest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"teamtalk/core/registry"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

// Run runs the tests that every store passes. open returns an empty store that lives until the
// end of the test.
func Run(t *testing.T, open func(t *testing.T) whereabouts.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s whereabouts.Store)
	}{
		{"Steps", steps},
		{"Versions", versions},
		{"Replaced", replaced},
		{"ManyUsers", manyUsers},
		{"ManyNodes", manyNodes},
		{"Race", race},
		{"EndOfContext", endOfContext},
		{"AsInMemory", asInMemory},
		{"GroupSteps", groupSteps},
		{"ManyGroups", manyGroups},
		{"GroupRace", groupRace},
		{"EndForGroups", endForGroups},
		{"GroupsAsInMemory", groupsAsInMemory},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// The devices of the tests.
var (
	windows = whereabouts.Device{Client: pb.ClientType_CLIENT_TYPE_WINDOWS}
	ios     = whereabouts.Device{Client: pb.ClientType_CLIENT_TYPE_IOS, Acks: true}
)

// node returns a process.
func node(name string, epoch uint64) whereabouts.Node {
	return whereabouts.Node{Name: name, Epoch: epoch}
}

// entriesText returns entries as "node@epoch:devices", separated by spaces.
func entriesText(entries []whereabouts.Entry) string {
	var parts []string
	for _, e := range entries {
		_, devices, _ := strings.Cut(whereabouts.Encode(e.Epoch, e.Devices), ":")
		parts = append(parts, fmt.Sprintf("%s@%d:%s", e.Name, e.Epoch, devices))
	}
	return strings.Join(parts, " ")
}

// apply makes one update, which must succeed.
func apply(t *testing.T, s whereabouts.Store, by whereabouts.Node, user uint32,
	devices ...whereabouts.Device) whereabouts.Result {
	t.Helper()
	r := s.Apply(t.Context(), by, []whereabouts.Update{{User: user, Devices: devices}})
	if len(r) != 1 || r[0].Err != nil {
		t.Fatalf("update of user %d by %v: %+v", user, by, r)
	}
	return r[0]
}

// lookup returns the entries of a user as a text. Looking must succeed.
func lookup(t *testing.T, s whereabouts.Store, user uint32) string {
	t.Helper()
	f := s.Lookup(t.Context(), []uint32{user})
	if len(f) != 1 || f[0].Err != nil {
		t.Fatalf("look-up of user %d: %+v", user, f)
	}
	return entriesText(f[0].Entries)
}

// step is a change to a user's entries: an update, or a removal.
type step struct {
	what    string
	by      whereabouts.Node
	devices []whereabouts.Device
	remove  []whereabouts.Node // instead of an update
	before  []whereabouts.Device
	others  string
	after   string // what a look-up finds
}

// allSteps returns changes that follow each other.
func allSteps() []step {
	one := func(d ...whereabouts.Device) []whereabouts.Device { return d }
	var many []whereabouts.Device
	for i := range 2 * whereabouts.MaxDevices {
		many = append(many, whereabouts.Device{Client: pb.ClientType(i)})
	}
	largest := whereabouts.Encode(registry.MaxEpoch, many)
	return []step{
		{what: "first", by: node("b", 7), devices: one(windows), after: "b@7:1"},
		{what: "repeated", by: node("b", 7), devices: one(windows), before: one(windows),
			after: "b@7:1"},
		{what: "second node", by: node("a", 3), devices: one(ios, windows), others: "b@7:1",
			after: "a@3:1,17a b@7:1"},
		{what: "changed", by: node("b", 7), devices: one(ios), before: one(windows),
			others: "a@3:1,17a", after: "a@3:1,17a b@7:17a"},
		{what: "a type twice", by: node("b", 7), devices: one(ios, windows, windows),
			before: one(ios), others: "a@3:1,17a", after: "a@3:1,17a b@7:1,17a"},
		{what: "no device", by: node("a", 3), before: one(windows, ios), others: "b@7:1,17a",
			after: "b@7:1,17a"},
		{what: "no device, again", by: node("a", 3), others: "b@7:1,17a", after: "b@7:1,17a"},
		{what: "restarted", by: node("b", 9), devices: one(windows), after: "b@9:1"},
		{what: "restarted without devices", by: node("b", 10)},
		{what: "nobody", by: node("b", 10)},
		{what: "back", by: node("b", 10), devices: one(windows), after: "b@10:1"},
		{what: "another", by: node("c", 2), devices: one(ios), others: "b@10:1",
			after: "b@10:1 c@2:17a"},
		{what: "removal of earlier processes", remove: []whereabouts.Node{node("b", 9),
			node("c", 1), node("d", 4)}, after: "b@10:1 c@2:17a"},
		{what: "removal of a later process", remove: []whereabouts.Node{node("b", 11)},
			after: "b@10:1 c@2:17a"},
		{what: "removal", remove: []whereabouts.Node{node("x", 1), node("b", 10)},
			after: "c@2:17a"},
		{what: "removal again", remove: []whereabouts.Node{node("b", 10)}, after: "c@2:17a"},
		{what: "removal of none", remove: []whereabouts.Node{}, after: "c@2:17a"},
		{what: "removal of the last", remove: []whereabouts.Node{node("c", 2)}},
		{what: "the largest entry", by: node("A-z_0.9", registry.MaxEpoch), devices: many,
			after: "A-z_0.9@" + largest},
	}
}

// steps makes one change after the other to a user, and looks at each.
func steps(t *testing.T, s whereabouts.Store) {
	const user = 5
	for _, c := range allSteps() {
		if c.remove != nil {
			if err := s.Remove(t.Context(), user, c.remove); err != nil {
				t.Fatalf("%s: %v", c.what, err)
			}
		} else {
			r := apply(t, s, c.by, user, c.devices...)
			if !slices.Equal(r.Before, c.before) || entriesText(r.Others) != c.others {
				t.Errorf("%s: before %v, others %q, want %v and %q", c.what, r.Before,
					entriesText(r.Others), c.before, c.others)
			}
		}
		if got := lookup(t, s, user); got != c.after {
			t.Fatalf("%s: found %q, want %q", c.what, got, c.after)
		}
		if got := lookup(t, s, user+1); got != "" {
			t.Fatalf("%s: another user is at %q", c.what, got)
		}
	}
}

// versions looks whether the versions of a user grow, also after everybody has left.
func versions(t *testing.T, s whereabouts.Store) {
	var last uint64
	for i, c := range []struct {
		by      whereabouts.Node
		devices []whereabouts.Device
	}{
		{node("a", 1), []whereabouts.Device{windows}},
		{node("a", 1), []whereabouts.Device{windows}},
		{node("b", 2), []whereabouts.Device{ios}},
		{node("a", 1), nil},
		{node("b", 2), nil}, // the last one leaves
		{node("b", 2), nil},
		{node("b", 2), []whereabouts.Device{ios}},
		{node("c", 3), []whereabouts.Device{ios}},
	} {
		r := apply(t, s, c.by, 5, c.devices...)
		if r.Version <= last {
			t.Errorf("step %d: version %d after %d", i, r.Version, last)
		}
		last = r.Version
	}
}

// replaced lets a process write after a later process of its node.
func replaced(t *testing.T, s whereabouts.Store) {
	apply(t, s, node("b", 2), 5, ios)
	apply(t, s, node("a", 7), 5, windows)
	for _, devices := range [][]whereabouts.Device{{ios}, nil} {
		r := s.Apply(t.Context(), node("a", 6), []whereabouts.Update{{User: 4, Devices: devices},
			{User: 5, Devices: devices}, {User: 6, Devices: devices}})
		e := new(whereabouts.ReplacedError)
		if len(r) != 3 || r[0].Err != nil || r[2].Err != nil || !errors.As(r[1].Err, &e) {
			t.Fatalf("the replaced process wrote: %+v", r)
		}
		if *e != (whereabouts.ReplacedError{Node: node("a", 6), By: 7}) {
			t.Errorf("%+v", e)
		}
		if r[1].Before != nil || r[1].Others != nil || r[1].Version != 0 {
			t.Errorf("the replaced process was told %+v", r[1])
		}
		if got := lookup(t, s, 5); got != "a@7:1 b@2:17a" {
			t.Errorf("found %q", got)
		}
	}
}

// manyUsers writes more users than one pipeline takes, and looks them up in another order.
func manyUsers(t *testing.T, s whereabouts.Store) {
	const users = 5000
	var updates []whereabouts.Update
	var backwards []uint32
	for u := range uint32(users) {
		d := windows
		if u%3 == 0 {
			d = ios
		}
		updates = append(updates, whereabouts.Update{User: u, Devices: []whereabouts.Device{d}})
		backwards = append(backwards, users-u) // the first one is not known
	}
	for _, again := range []bool{false, true} {
		for i, r := range s.Apply(t.Context(), node("a", 1), updates) {
			if r.Err != nil || (r.Before != nil) != again || r.Others != nil {
				t.Fatalf("user %d: %+v", i, r)
			}
		}
	}
	for i, f := range s.Lookup(t.Context(), backwards) {
		want := "a@1:1"
		switch u := backwards[i]; {
		case u == users:
			want = ""
		case u%3 == 0:
			want = "a@1:17a"
		}
		if got := entriesText(f.Entries); f.Err != nil || got != want {
			t.Fatalf("user %d: %v, %q, want %q", backwards[i], f.Err, got, want)
		}
	}
	if got := s.Apply(t.Context(), node("a", 1), nil); len(got) != 0 {
		t.Errorf("no updates: %v", got)
	}
	if got := s.Lookup(t.Context(), nil); len(got) != 0 {
		t.Errorf("no users: %v", got)
	}
	if got := s.Lookup(t.Context(), []uint32{3, 3}); len(got) != 2 ||
		entriesText(got[0].Entries) != entriesText(got[1].Entries) {
		t.Errorf("a user twice: %v", got)
	}
}

// manyNodes has one user on many nodes.
func manyNodes(t *testing.T, s whereabouts.Store) {
	const nodes = 200
	var want []string
	for i := range nodes {
		n := node(fmt.Sprintf("msg-%03d", i), uint64(i+1))
		if got := apply(t, s, n, 5, ios); len(got.Others) != i {
			t.Fatalf("node %d found %d others", i, len(got.Others))
		}
		want = append(want, fmt.Sprintf("%s@%d:17a", n.Name, n.Epoch))
	}
	if got := lookup(t, s, 5); got != strings.Join(want, " ") {
		t.Errorf("found %q", got)
	}
}

// race lets several nodes write a user at once. Each update is atomic: they are in some order, in
// which each one finds those before it, and their versions are in that order.
func race(t *testing.T, s whereabouts.Store) {
	const nodes, rounds = 4, 25
	for user := range uint32(rounds) {
		results := make([]whereabouts.Result, nodes)
		var all sync.WaitGroup
		for i := range nodes {
			all.Go(func() {
				results[i] = s.Apply(t.Context(), node(fmt.Sprint("n", i), 1),
					[]whereabouts.Update{{User: user, Devices: []whereabouts.Device{ios}}})[0]
			})
		}
		all.Wait()
		slices.SortFunc(results, func(a, b whereabouts.Result) int {
			return len(a.Others) - len(b.Others)
		})
		for i, r := range results {
			if r.Err != nil || len(r.Others) != i || (i > 0 && r.Version <= results[i-1].Version) {
				t.Fatalf("user %d, update %d: %+v", user, i, results)
			}
		}
	}
}

// endOfContext calls after the end of the context.
func endOfContext(t *testing.T, s whereabouts.Store) {
	apply(t, s, node("a", 1), 5, ios)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := s.Apply(ctx, node("a", 1), []whereabouts.Update{{User: 5}, {User: 6}})
	f := s.Lookup(ctx, []uint32{5, 6})
	if len(r) != 2 || len(f) != 2 {
		t.Fatal(r, f)
	}
	for i := range 2 {
		if r[i].Err == nil || f[i].Err == nil {
			t.Errorf("user %d: no error", 5+i)
		}
	}
	if s.Remove(ctx, 5, []whereabouts.Node{node("a", 1)}) == nil {
		t.Error("removal: no error")
	}
	if got := lookup(t, s, 5); got != "a@1:17a" {
		t.Errorf("found %q", got)
	}
}

// asInMemory makes random calls, and compares the answers with those of a Memory.
func asInMemory(t *testing.T, s whereabouts.Store) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	model := NewMemory()
	anyNode := func() whereabouts.Node {
		return node(string(rune('a'+random.IntN(3))), 1+random.Uint64N(4))
	}
	anyDevices := func() []whereabouts.Device {
		all := []whereabouts.Device{windows, ios, {Client: ios.Client}}
		return all[random.IntN(2) : 1+random.IntN(3)]
	}
	for step := range 400 {
		ctx, users := t.Context(), random.Perm(4)
		var what string
		var got, want any
		switch random.IntN(3) {
		case 0:
			by, u := anyNode(), uint32(users[0])
			ended := []whereabouts.Node{by, anyNode()}
			what = fmt.Sprint("remove ", u, ended)
			got, want = s.Remove(ctx, u, ended), model.Remove(ctx, u, ended)
		case 1:
			by := anyNode()
			var updates []whereabouts.Update
			for _, u := range users[:random.IntN(4)] {
				updates = append(updates, whereabouts.Update{User: uint32(u),
					Devices: anyDevices()})
			}
			what = fmt.Sprint("apply ", by, updates)
			results, model := s.Apply(ctx, by, updates), model.Apply(ctx, by, updates)
			for i := range results { // how large versions are differs
				results[i].Version, model[i].Version = 0, 0
			}
			got, want = results, model
		case 2:
			list := []uint32{uint32(users[0]), uint32(users[1])}
			what = fmt.Sprint("look up ", list)
			got, want = s.Lookup(ctx, list), model.Lookup(ctx, list)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d, step %d: %s: %+v, want %+v", seed, step, what, got, want)
		}
	}
}
