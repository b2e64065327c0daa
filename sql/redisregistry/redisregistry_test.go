package redisregistry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"teamtalk/core/registry"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/store/redisconn"
)

// lease is the lease of the tests. They advance the registry's clock themselves, so it is long.
const lease = time.Minute

// options returns the options of a process of a test.
func options(i redisconn.Instance) Options {
	return Options{Redis: i, Lease: lease, Renew: lease / 3, Poll: lease / 3,
		Roles: []string{"msg", "push"}}
}

// open opens a registry until the end of the test.
func open(t *testing.T, o Options) *Registry {
	t.Helper()
	r := Open(o)
	t.Cleanup(func() { r.Close() })
	return r
}

// server returns the instance of one server.
func server(s *dbtest.RedisServer) redisconn.Instance {
	return redisconn.Instance{Addrs: []string{s.Addr()}}
}

// msg returns a message server.
func msg(name string) registry.Node {
	return registry.Node{Role: "msg", Name: name, Addr: "10.0.0.5:8000", Capacity: 100,
		Version: "v1"}
}

// push returns a push server.
func push(name string) registry.Node {
	return registry.Node{Role: "push", Name: name, Addr: "10.0.0.5:8500"}
}

// renew renews the lease of nodes, which must succeed.
func renew(t *testing.T, r *Registry, nodes ...registry.Node) {
	t.Helper()
	if _, err := r.renew(t.Context(), nodes); err != nil {
		t.Fatal(err)
	}
}

// known reads the nodes, and returns the names and epochs of the message servers that a
// process knows.
func known(t *testing.T, r *Registry) string {
	t.Helper()
	if err := r.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	return names(r)
}

// names returns the names and epochs of the message servers that a process knows.
func names(r *Registry) string {
	list, _ := r.View().Nodes("msg")
	var all []string
	for _, n := range list {
		all = append(all, fmt.Sprintf("%s@%d", n.Name, n.Epoch))
	}
	return strings.Join(all, " ")
}

// want compares what a process knows.
func want(t *testing.T, r *Registry, what, nodes string) {
	t.Helper()
	if got := known(t, r); got != nodes {
		t.Errorf("%s: the message servers %q, want %q", what, got, nodes)
	}
}

// advance advances the registry's clock by d.
func advance(t *testing.T, r *Registry, d time.Duration) {
	t.Helper()
	if err := r.client.HIncrBy(t.Context(), Key, "clock", d.Milliseconds()).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestLifeOfNodes registers two processes on each kind of Redis, and lets one restart and stop.
func TestLifeOfNodes(t *testing.T) {
	t.Parallel()
	sentinel := func(t *testing.T) redisconn.Instance {
		return redisconn.Instance{Addrs: []string{dbtest.RedisSentinelOf(t).Sentinel.Addr()},
			MasterName: dbtest.SentinelMaster}
	}
	for kind, instance := range map[string]func(t *testing.T) redisconn.Instance{
		"server":   func(t *testing.T) redisconn.Instance { return server(dbtest.Redis(t)) },
		"sentinel": sentinel,
		"cluster": func(t *testing.T) redisconn.Instance {
			return redisconn.Instance{Addrs: dbtest.RedisShardsOf(t).Addrs(), Cluster: true}
		},
	} {
		t.Run(kind, func(t *testing.T) { lifeOfNodes(t, instance(t)) })
	}
}

// lifeOfNodes is TestLifeOfNodes on one Redis.
func lifeOfNodes(t *testing.T, i redisconn.Instance) {
	a, b, reader := open(t, options(i)), open(t, options(i)), open(t, options(i))
	want(t, reader, "nothing", "")
	advance(t, a, lease) // the registry is complete
	renew(t, a, msg("a"), push("a"))
	renew(t, b, msg("b"))
	want(t, reader, "two", "a@1 b@2")
	if n := reader.View().Count("push"); n != 1 || a.Epoch() != 1 || b.Epoch() != 2 {
		t.Errorf("%d push servers, epochs %d and %d", n, a.Epoch(), b.Epoch())
	}
	busy := msg("b")
	busy.Load = registry.Load{Connections: 7, Users: 5}
	renew(t, b, busy)
	want(t, reader, "renewed", "a@1 b@2")
	if list, _ := reader.View().Nodes("msg"); list[1].Load != busy.Load {
		t.Errorf("load %v, want %v", list[1].Load, busy.Load)
	}
	if err := a.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, reader, "a left", "b@2")
	restarted := open(t, options(i))
	renew(t, restarted, msg("a"))
	want(t, reader, "a restarted", "a@3 b@2")
	if err := a.Leave(t.Context()); err != nil { // late: the node is another's
		t.Fatal(err)
	}
	want(t, reader, "late leave", "a@3 b@2")
	list, err := reader.List(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	if e := list[1]; e.Name != "b" || e.Left <= 0 || e.Left > lease || e.Age > time.Minute {
		t.Errorf("listed: %+v", e)
	}
}

// TestEndOfLease lets a lease end on the registry's clock. The process registers again, with its
// epoch.
func TestEndOfLease(t *testing.T) {
	t.Parallel()
	s := dbtest.Redis(t)
	a, b := open(t, options(server(s))), open(t, options(server(s)))
	renew(t, a, msg("a"))
	renew(t, b, msg("b"))
	advance(t, a, lease/2)
	renew(t, b, msg("b"))
	want(t, b, "half of the lease", "a@1 b@2")
	advance(t, a, lease/2)
	want(t, b, "end of one lease", "b@2")
	if got := s.Do("HEXISTS " + Key + " msg/a"); got != "0" {
		t.Errorf("the record of a node without a lease remains: %s", got)
	}
	renew(t, a, msg("a"))
	want(t, b, "registered again", "a@1 b@2")
}

// TestReplaced starts a second process with the name of a first one, and ends it again.
func TestReplaced(t *testing.T) {
	t.Parallel()
	s := dbtest.Redis(t)
	log := &lines{}
	o := options(server(s))
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	a, b := open(t, options(server(s))), open(t, o)
	other := msg("a")
	other.Addr = "10.0.0.9:8000"
	renew(t, a, push("a"), msg("a"))
	renew(t, b, other)
	if n := log.count("level=WARN msg=\"another process has had"); n != 1 ||
		log.count("node=msg/a addr=10.0.0.5:8000") != 1 {
		t.Errorf("%d warnings of the later one:\n%s", n, log)
	}
	final, err := a.renew(t.Context(), []registry.Node{push("a"), msg("a")})
	replaced := new(ReplacedError)
	if !errors.As(err, &replaced) || !final {
		t.Fatalf("the replaced process may continue: %v", err)
	}
	if *replaced != (ReplacedError{Node: "msg/a", Epoch: 1, By: 2, Addr: other.Addr}) {
		t.Errorf("%+v", replaced)
	}
	for _, part := range []string{"at 10.0.0.9:8000 has registered as msg/a with epoch 2",
		"this one with epoch 1", "a name of its own"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
	want(t, b, "the later process has the node", "a@2")
	// The later one is gone, and the earlier one was stopped meanwhile: nothing speaks against it.
	advance(t, a, lease)
	renew(t, a, msg("a"))
	want(t, a, "the other has no lease any more", "a@1")
	renew(t, b, other)
	want(t, a, "the other is back", "a@2")
	if _, err := a.renew(t.Context(), []registry.Node{msg("a")}); !errors.As(err, &replaced) {
		t.Errorf("replaced again: %v", err)
	}
}

// TestClockOfRedis steps the clock of Redis by what a script sees of it: the time at which the
// registry's clock was read last. Neither an outage of an hour nor a step of the clock ends a
// lease.
func TestClockOfRedis(t *testing.T) {
	t.Parallel()
	s := dbtest.Redis(t)
	a := open(t, options(server(s)))
	renew(t, a, msg("a"))
	clock := func() int64 {
		n, err := strconv.ParseInt(s.Do("HGET "+Key+" clock"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		before := clock()
		s.Do(fmt.Sprintf("HINCRBY %s time %d", Key, -step.Milliseconds()))
		want(t, a, "clock stepped by "+step.String(), "a@1")
		passed := time.Duration(clock()-before) * time.Millisecond
		if passed < 0 || passed > lease/3+time.Minute/2 || step > 0 && passed < lease/3 {
			t.Errorf("step of %v: the registry's clock moved by %v", step, passed)
		}
		renew(t, a, msg("a"))
	}
	s.Do("HSET " + Key + " clock inf time -1 epoch nonsense") // written by another program
	want(t, a, "nonsense", "a@1")
	later := open(t, options(server(s)))
	renew(t, later, msg("a")) // the epoch in the record counts
	want(t, a, "a later process", "a@2")
}

// TestLostContents empties Redis. The nodes stay known until each had the time to register
// again, and epochs continue to grow.
func TestLostContents(t *testing.T) {
	t.Parallel()
	s := dbtest.Redis(t)
	a, b := open(t, options(server(s))), open(t, options(server(s)))
	reader := open(t, options(server(s)))
	renew(t, a, msg("a"))
	renew(t, b, msg("b"))
	advance(t, a, lease)
	renew(t, a, msg("a"))
	renew(t, b, msg("b"))
	want(t, reader, "before", "a@1 b@2")
	s.FlushAll()
	want(t, reader, "empty", "a@1 b@2")
	renew(t, b, msg("b"))
	want(t, reader, "one is back", "a@1 b@2")
	advance(t, a, lease-time.Second)
	renew(t, b, msg("b"))
	advance(t, a, time.Second)
	want(t, reader, "the other did not return", "b@2")
	later := open(t, options(server(s)))
	renew(t, later, msg("b"))
	want(t, reader, "a later process", "b@3")
	// Redis lost the last epoch as well, and a later process got a smaller one: the larger
	// epoch has the node, so that the two do not take it from each other for ever.
	s.FlushAll()
	small := open(t, options(server(s)))
	renew(t, small, msg("b"))
	renew(t, later, msg("b"))
	want(t, reader, "the larger epoch", "b@3")
	if _, err := small.renew(t.Context(), []registry.Node{msg("b")}); err == nil {
		t.Error("the smaller epoch was not replaced")
	}
	third := open(t, options(server(s)))
	renew(t, third, msg("b"))
	want(t, reader, "its restart", "b@4")
	// A renewal gives Redis the last epoch back, so it is known after the node has left.
	s.FlushAll()
	renew(t, third, msg("b"))
	if err := third.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	fourth := open(t, options(server(s)))
	renew(t, fourth, msg("b"))
	want(t, reader, "the restart of one that left", "b@5")
}

// TestOthersValues puts values of other programs into the registry. They harm no node.
func TestOthersValues(t *testing.T) {
	t.Parallel()
	s := dbtest.Redis(t)
	lines := &lines{}
	o := options(server(s))
	o.Log = slog.New(slog.NewTextHandler(lines, nil))
	a := open(t, o)
	renew(t, a, msg("a"))
	s.Do("HSET " + Key + ` msg/b nonsense msg/c "99999999999 1 ab 1 {}" msg/d "1 2"`)
	s.Do("HSET " + Key + " msg/long " + strings.Repeat("x", maxValue+1))
	s.Do("HSET " + Key + " " + strings.Repeat("x/", 100) + " y")
	for range 3 {
		want(t, a, "other values", "a@1")
	}
	if n := lines.count("values that are no servers"); n != 1 {
		t.Errorf("%d lines about them:\n%s", n, lines)
	}
	if lines.count(`field \"msg/`) != 1 {
		t.Errorf("no field is named:\n%s", lines)
	}
	renew(t, open(t, o), msg("b")) // takes the place of one of them
	want(t, a, "one more", "a@1 b@2")
	s.Do("DEL " + Key)
	s.Do("SET " + Key + " text")
	if err := a.poll(t.Context()); err == nil || a.State() == nil ||
		!strings.Contains(err.Error(), "written the key "+Key+": delete it: WRONGTYPE") {
		t.Errorf("a key of another type: %v, state %v", err, a.State())
	}
	if got := names(a); got != "a@1 b@2" {
		t.Errorf("the nodes were not kept: %q", got)
	}
}

// TestLargestEpoch lets another program set the last epoch. A process does not take one that the
// scripts cannot read, and begins anew.
func TestLargestEpoch(t *testing.T) {
	t.Parallel()
	s := dbtest.Redis(t)
	s.Do("HSET " + Key + " epoch " + strconv.Itoa(registry.MaxEpoch))
	a := open(t, options(server(s)))
	if _, err := a.renew(t.Context(), []registry.Node{msg("a")}); err == nil || a.Epoch() != 0 {
		t.Errorf("registered with epoch %d: %v", a.Epoch(), err)
	}
	want(t, a, "an epoch that is too large", "")
	renew(t, a, msg("a"))
	want(t, a, "the next attempt", "a@1")
}

// TestNoAnswer bounds a call to Redis. The error says for how long it waited.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	a := open(t, options(server(dbtest.Redis(t))))
	a.timeout = -1
	if _, err := a.List(t.Context()); err == nil ||
		!strings.Contains(err.Error(), "no answer within -1ns (registry.renew)") {
		t.Errorf("read within no time: %v", err)
	}
	ended, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	if _, err := a.List(ended); err == nil || strings.Contains(err.Error(), "registry.renew") {
		t.Errorf("read after the time of the caller: %v", err)
	}
}

// TestFull fills the registry. Those that are registered renew their leases, and no other
// registers until the leases of the others have ended.
func TestFull(t *testing.T) {
	t.Parallel()
	s := dbtest.Redis(t)
	a, b := open(t, options(server(s))), open(t, options(server(s)))
	renew(t, a, msg("a"))
	s.Do(fmt.Sprintf(`EVAL "for i = 2, %d do redis.call('HSET', KEYS[1], 'msg/x' .. i, `+
		`'5000 1 ab 1 {}') end" 1 %s`, maxNodes, Key))
	if _, err := b.renew(t.Context(), []registry.Node{msg("b")}); err == nil ||
		!strings.Contains(err.Error(), "4100 fields and may have 4099") || b.State() == nil {
		t.Errorf("registered in a full registry: %v", err)
	}
	s.Do("HSET " + Key + " msg/more nonsense")
	renew(t, a, msg("a"))
	advance(t, a, 5*time.Second)
	want(t, a, "the others ended", "a@1")
	renew(t, b, msg("b"))
	s.Do(fmt.Sprintf(`EVAL "for i = 1, %d do redis.call('HSET', KEYS[1], 'x' .. i, 1) end" 1 %s`,
		maxRead, Key))
	if err := a.poll(t.Context()); err == nil || !strings.Contains(err.Error(), "other program") {
		t.Errorf("read a registry of too many fields: %v", err)
	}
}

// TestInvalidNode ends Run, because waiting would not help.
func TestInvalidNode(t *testing.T) {
	t.Parallel()
	a := open(t, options(server(dbtest.Redis(t))))
	err := a.Run(t.Context(), func() []registry.Node { return []registry.Node{msg("a/b")} })
	if err == nil || !strings.Contains(err.Error(), "a/b") {
		t.Errorf("got %v", err)
	}
}

// lines is a log that several goroutines write.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write adds a line.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns all lines.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// count returns how often the log has a text.
func (l *lines) count(text string) int { return strings.Count(l.String(), text) }

// await polls until ok returns true.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond) // polls another goroutine, which sends no event
	}
}

// TestRun runs two processes through an outage of Redis, and then one more with the name of the
// first.
func TestRun(t *testing.T) {
	t.Parallel()
	s := dbtest.Redis(t)
	log := &lines{}
	o := options(server(s))
	o.Renew, o.Poll = 200*time.Millisecond, 100*time.Millisecond
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	run := func(name string) (*Registry, chan error) {
		r, ended := open(t, o), make(chan error, 1)
		r.timeout = time.Minute
		ctx, cancel := context.WithCancel(context.Background())
		var both sync.WaitGroup
		both.Go(func() { r.Watch(ctx) })
		both.Go(func() {
			ended <- r.Run(ctx, func() []registry.Node { return []registry.Node{msg(name)} })
		})
		t.Cleanup(func() { cancel(); both.Wait() })
		return r, ended
	}
	a, aEnded := run("a")
	await(t, "the first one", func() bool { return names(a) == "a@1" && a.State() == nil })
	b, bEnded := run("b")
	await(t, "both", func() bool { return names(a) == "a@1 b@2" && b.State() == nil })
	s.Save()
	s.Stop()
	await(t, "the outage", func() bool { // of renewals and of readings
		return len(a.health.Errs()) == 2 && len(b.health.Errs()) == 2
	})
	if got := names(a); got != "a@1 b@2" {
		t.Errorf("known while Redis is away: %q", got)
	}
	s.Start()
	await(t, "the return", func() bool { return a.State() == nil && b.State() == nil })
	if got := names(a); got != "a@1 b@2" || a.Epoch() != 1 {
		t.Errorf("known after the return: %q", got)
	}
	for _, text := range []string{"does not work", "works again"} {
		if n := log.count(text); n != 2 { // one of each process
			t.Errorf("%d lines %q:\n%s", n, text, log)
		}
	}
	run("a")
	replaced := new(ReplacedError)
	await(t, "the end of the first one", func() bool { return len(aEnded) > 0 })
	if err := <-aEnded; !errors.As(err, &replaced) {
		t.Errorf("the first one ended with %v", err)
	}
	await(t, "its successor", func() bool { return names(b) == "a@3 b@2" })
	if len(bEnded) > 0 || b.State() != nil {
		t.Errorf("the other ended as well: %v", b.State())
	}
	if n := log.count("level=INFO msg=\"another process has had this node"); n != 1 {
		t.Errorf("%d lines of the successor:\n%s", n, log)
	}
}
