package redisregistry

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"teamtalk/core/registry"
	"teamtalk/sql/dbtest"
)

// ordering is processes that are ordered to drain.
type ordering struct {
	t        *testing.T
	redis    *dbtest.RedisServer
	operator *Registry
	told     []string // what the processes were told
}

func newOrdering(t *testing.T) *ordering {
	o := &ordering{t: t, redis: dbtest.Redis(t)}
	o.operator = open(t, options(server(o.redis)))
	return o
}

// process returns a process.
func (o *ordering) process() *Registry {
	opt := options(server(o.redis))
	opt.Ordered = func(keys []registry.Key) { o.told = append(o.told, fmt.Sprint(keys)) }
	return open(o.t, opt)
}

// give gives an order to nodes.
func (o *ordering) give(drain bool, nodes ...string) error {
	var keys []registry.Key
	for _, n := range nodes {
		role, name, _ := strings.Cut(n, "/")
		keys = append(keys, registry.Key{Role: role, Name: name})
	}
	return o.operator.Order(o.t.Context(), keys, drain)
}

// order gives an order that must be accepted.
func (o *ordering) order(drain bool, nodes ...string) {
	o.t.Helper()
	if err := o.give(drain, nodes...); err != nil {
		o.t.Fatal(err)
	}
}

// wantTold compares what the processes were told since the last call.
func (o *ordering) wantTold(what, want string) {
	o.t.Helper()
	if got := strings.Join(o.told, " "); got != want {
		o.t.Errorf("%s: the process was told %q, want %q", what, got, want)
	}
	o.told = nil
}

// want compares the orders that Redis holds.
func (o *ordering) want(what string, orders ...string) {
	o.t.Helper()
	fields, err := o.operator.client.HKeys(o.t.Context(), Key).Result()
	if err != nil {
		o.t.Fatal(err)
	}
	fields = slices.DeleteFunc(fields, func(f string) bool {
		return !strings.HasPrefix(f, "drain:")
	})
	if fmt.Sprint(fields) != fmt.Sprint(orders) {
		o.t.Errorf("%s: the orders %v, want %v", what, fields, orders)
	}
}

// TestOrders orders nodes to drain and to serve again. Their process is told once for each
// change.
func TestOrders(t *testing.T) {
	t.Parallel()
	o := newOrdering(t)
	a, b := o.process(), o.process()
	renew(t, a, msg("a"), push("a"))
	renew(t, b, msg("b"))
	o.wantTold("no order", "")
	o.order(true, "msg/a")
	renew(t, a, msg("a"), push("a"))
	renew(t, a, msg("a"), push("a"))
	renew(t, b, msg("b"))
	o.wantTold("drain", "[msg/a]")
	o.order(true, "push/a")
	renew(t, a, msg("a"), push("a"))
	o.order(false, "msg/a", "push/a")
	renew(t, a, msg("a"), push("a"))
	o.wantTold("the other, and none", "[msg/a push/a] []")
	if err := o.give(true, "msg/a", "msg/c"); !errors.Is(err, ErrUnknown) ||
		!strings.HasSuffix(err.Error(), ": msg/c") {
		t.Errorf("of a node that is not registered: %v", err)
	}
	renew(t, a, msg("a"), push("a"))
	o.wantTold("a refused order", "")
}

// TestOrdersEndWithTheProcess orders nodes to drain whose processes then end, in each way in
// which that can be.
func TestOrdersEndWithTheProcess(t *testing.T) {
	t.Parallel()
	o := newOrdering(t)
	a, b := o.process(), o.process()
	renew(t, a, msg("a"))
	renew(t, b, msg("b"))
	o.order(true, "msg/a", "msg/b")
	restarted := o.process()
	renew(t, restarted, msg("a"))
	o.wantTold("a restarted process", "")
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.want("stopped")
	o.order(true, "msg/a")
	o.want("ordered", "drain:msg:a")
	advance(t, o.operator, 2*lease)
	want(t, o.operator, "its lease ended", "")
	o.want("its lease ended")
	if err := o.give(true, "msg/a"); !errors.Is(err, ErrUnknown) {
		t.Errorf("of a node whose lease has ended: %v", err)
	}
}

// TestOrdersOutliveRedis lets Redis lose the orders, and the lease of a drained process end. The
// process drains on, and Redis has its order again. A process that takes its place serves.
func TestOrdersOutliveRedis(t *testing.T) {
	t.Parallel()
	o := newOrdering(t)
	a := o.process()
	nodes := []registry.Node{msg("a"), push("a")}
	renew(t, a, nodes...)
	o.order(true, "msg/a")
	renew(t, a, nodes...)
	o.wantTold("drain", "[msg/a]")
	for what, lose := range map[string]func(){
		"Redis was emptied": o.redis.FlushAll,
		"its lease ended": func() {
			advance(t, o.operator, 2*lease)
			want(t, o.operator, "its lease ended", "")
			o.want("its lease ended")
		},
	} {
		lose()
		renew(t, a, nodes...)
		renew(t, a, nodes...)
		o.wantTold(what, "")
		o.want(what, "drain:msg:a")
	}
	o.order(false, "msg/a")
	renew(t, a, nodes...)
	o.wantTold("the end of the order", "[]")
	o.order(true, "msg/a")
	renew(t, a, nodes...)
	o.wantTold("drain again", "[msg/a]")
	o.redis.FlushAll()
	renew(t, o.process(), msg("a"))
	o.wantTold("another process", "")
	o.want("another process")
}
