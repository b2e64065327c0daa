package redisregistry

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"teamtalk/core/registry"
	"teamtalk/sql/dbtest"
)

// TestOrders orders a node to drain and to serve again. Its process is told once for each
// change. An order ends with the process, in each way in which that can end.
func TestOrders(t *testing.T) {
	t.Parallel()
	s := dbtest.Redis(t)
	var told []string
	process := func() *Registry {
		o := options(server(s))
		o.Ordered = func(keys []registry.Key) { told = append(told, fmt.Sprint(keys)) }
		return open(t, o)
	}
	a, b, operator := process(), process(), open(t, options(server(s)))
	wantTold := func(what, want string) {
		t.Helper()
		if got := strings.Join(told, " "); got != want {
			t.Errorf("%s: the process was told %q, want %q", what, got, want)
		}
		told = nil
	}
	give := func(drain bool, nodes ...string) error {
		var keys []registry.Key
		for _, n := range nodes {
			role, name, _ := strings.Cut(n, "/")
			keys = append(keys, registry.Key{Role: role, Name: name})
		}
		return operator.Order(t.Context(), keys, drain)
	}
	order := func(drain bool, nodes ...string) {
		t.Helper()
		if err := give(drain, nodes...); err != nil {
			t.Fatal(err)
		}
	}
	renew(t, a, msg("a"), push("a"))
	renew(t, b, msg("b"))
	wantTold("no order", "")
	order(true, "msg/a")
	renew(t, a, msg("a"), push("a"))
	renew(t, a, msg("a"), push("a"))
	renew(t, b, msg("b"))
	wantTold("drain", "[msg/a]")
	order(true, "push/a")
	renew(t, a, msg("a"), push("a"))
	order(false, "msg/a", "push/a")
	renew(t, a, msg("a"), push("a"))
	wantTold("the other, and none", "[msg/a push/a] []")

	if err := give(true, "msg/a", "msg/c"); !errors.Is(err, ErrUnknown) ||
		!strings.HasSuffix(err.Error(), ": msg/c") {
		t.Errorf("of a node that is not registered: %v", err)
	}
	renew(t, a, msg("a"), push("a"))
	wantTold("a refused order", "")

	order(true, "msg/a", "msg/b")
	restarted := process()
	renew(t, restarted, msg("a"))
	wantTold("a restarted process", "")
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	orders(t, operator, "stopped")
	order(true, "msg/a")
	orders(t, operator, "ordered", "drain:msg:a")
	advance(t, operator, 2*lease)
	want(t, operator, "its lease ended", "")
	orders(t, operator, "its lease ended")
	if err := give(true, "msg/a"); !errors.Is(err, ErrUnknown) {
		t.Errorf("of a node whose lease has ended: %v", err)
	}
}

// orders compares the orders that Redis holds.
func orders(t *testing.T, r *Registry, what string, want ...string) {
	t.Helper()
	fields, err := r.client.HKeys(t.Context(), Key).Result()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range fields {
		if strings.HasPrefix(f, "drain:") {
			got = append(got, f)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: the orders %v, want %v", what, got, want)
	}
}
