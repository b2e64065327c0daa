package rediswhereabouts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"teamtalk/core/whereabouts"
	"teamtalk/core/whereabouts/whereaboutstest"
	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/store/redisconn"
)

// options returns options whose times decide nothing.
func options(i redisconn.Instance) Options {
	return Options{Redis: i, Timeout: time.Minute, Poll: time.Millisecond}
}

// open opens a store until the end of the test.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	s := Open(o)
	t.Cleanup(func() { s.Close() })
	return s
}

// single returns the instance of one server.
func single(s *dbtest.RedisServer) redisconn.Instance {
	return redisconn.Instance{Addrs: []string{s.Addr()}}
}

// cluster returns the instance of a cluster.
func cluster(c *dbtest.RedisShards) redisconn.Instance {
	return redisconn.Instance{Addrs: c.Addrs(), Cluster: true}
}

var (
	phone = whereabouts.Device{Client: pb.ClientType_CLIENT_TYPE_IOS, Acks: true}
	node  = whereabouts.Node{Name: "a", Epoch: 7}
)

// updates returns updates for one device of each of the users.
func updates(users ...uint32) []whereabouts.Update {
	var list []whereabouts.Update
	for _, u := range users {
		list = append(list, whereabouts.Update{User: u, Devices: []whereabouts.Device{phone}})
	}
	return list
}

// apply makes one update, which must succeed.
func apply(t testing.TB, s *Store, by whereabouts.Node, u whereabouts.Update) whereabouts.Result {
	t.Helper()
	r := s.Apply(t.Context(), by, []whereabouts.Update{u})[0]
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return r
}

// want looks a user up and compares the names of the nodes found.
func want(t testing.TB, s *Store, user uint32, what, nodes string) {
	t.Helper()
	f := s.Lookup(t.Context(), []uint32{user})[0]
	if f.Err != nil {
		t.Fatalf("%s: %v", what, f.Err)
	}
	var names []string
	for _, e := range f.Entries {
		names = append(names, e.Name)
	}
	if got := strings.Join(names, " "); got != nodes {
		t.Errorf("%s: user %d is at %q, want %q", what, user, got, nodes)
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

// TestStore runs the suite of all stores on each kind of Redis.
func TestStore(t *testing.T) {
	t.Parallel()
	suite := func(t *testing.T, i redisconn.Instance, servers ...*dbtest.RedisServer) {
		whereaboutstest.Run(t, func(t *testing.T) whereabouts.Store {
			for _, s := range servers {
				s.FlushAll()
				s.Do("SCRIPT FLUSH") // each test begins with servers that know no script
			}
			return open(t, options(i))
		})
	}
	t.Run("server", func(t *testing.T) {
		s := dbtest.Redis(t)
		suite(t, single(s), s)
	})
	t.Run("sentinel", func(t *testing.T) {
		s := dbtest.RedisSentinelOf(t)
		suite(t, redisconn.Instance{Addrs: []string{s.Sentinel.Addr()},
			MasterName: dbtest.SentinelMaster}, s.Servers[0])
	})
	t.Run("cluster", func(t *testing.T) {
		c := dbtest.RedisShardsOf(t)
		suite(t, cluster(c), c.Masters...)
	})
}

// TestKey looks at what a user leaves in Redis: a hash in the slot of the unread counts while a
// device is connected, and nothing after that.
func TestKey(t *testing.T) {
	t.Parallel()
	r := dbtest.RedisCluster(t)
	s := open(t, options(redisconn.Instance{Addrs: []string{r.Addr()}, Cluster: true}))
	apply(t, s, node, updates(5)[0])
	if got := r.Do("HGET teamtalk:where:{unread_5} a"); got != "7:17a" {
		t.Errorf("the value is %q", got)
	}
	if a, b := r.Do("CLUSTER KEYSLOT "+Key(5)), r.Do("CLUSTER KEYSLOT unread_5"); a != b {
		t.Errorf("slots %s and %s", a, b)
	}
	if got := r.Do("TTL " + Key(5)); got != "-1" {
		t.Errorf("lifetime %s", got)
	}
	apply(t, s, node, whereabouts.Update{User: 5})
	if got := r.Do("DBSIZE"); got != "0" {
		t.Errorf("%s keys are left", got)
	}
	apply(t, s, node, updates(5)[0])
	if err := s.Remove(t.Context(), 5, []whereabouts.Node{node}); err != nil {
		t.Fatal(err)
	}
	if got := r.Do("DBSIZE"); got != "0" {
		t.Errorf("%s keys are left after a removal", got)
	}
}

// trips is a hook of a client that counts pipelines, and passes no other command.
type trips struct{ n atomic.Int64 }

// DialHook changes nothing.
func (*trips) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook refuses a command.
func (*trips) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(context.Context, redis.Cmder) error { return errors.New("not in a pipeline") }
}

// ProcessPipelineHook counts a pipeline.
func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmds)
	}
}

// TestRoundTrips counts the pipelines of a call for some users.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	s := open(t, options(single(dbtest.Redis(t))))
	apply(t, s, node, updates(5)[0]) // the server knows the script from now on
	var c trips
	s.client.AddHook(&c)
	for users, want := range map[int]int64{1: 1, 32: 1, 2000: 1, 2001: 2} {
		list := make([]uint32, users)
		for i := range list {
			list[i] = uint32(i)
		}
		err := s.Apply(t.Context(), node, updates(list...))[0].Err
		if n := c.n.Swap(0); err != nil || n != want {
			t.Errorf("update of %d users: %d pipelines, %v", users, n, err)
		}
		err = s.Lookup(t.Context(), list)[0].Err
		if n := c.n.Swap(0); err != nil || n != want {
			t.Errorf("look-up of %d users: %d pipelines, %v", users, n, err)
		}
	}
}

// TestVersions lets the clock of Redis be behind: after a failover to another machine, say.
func TestVersions(t *testing.T) {
	t.Parallel()
	r := dbtest.Redis(t)
	a, b := open(t, options(single(r))), open(t, options(single(r)))
	const ahead = 4e15 // microseconds, in the year 2096
	r.Do(fmt.Sprintf("HSET %s b 3:17a # %d", Key(5), int64(ahead)))
	if v := apply(t, a, node, updates(5)[0]).Version; v != ahead+1 {
		t.Errorf("version %d with the hash", v)
	}
	r.Do("DEL " + Key(5))
	if v := apply(t, a, node, updates(5)[0]).Version; v != ahead+2 {
		t.Errorf("version %d of a process that has seen the last one", v)
	}
	r.Do("DEL " + Key(5))
	if v := apply(t, b, node, updates(5)[0]).Version; v >= ahead ||
		v < uint64(time.Now().Add(-time.Hour).UnixMicro()) {
		t.Errorf("version %d of a process that has seen none, which is the time", v)
	}
	for _, v := range []string{"-1", "inf", "nonsense", "9000000000000000", "1e300",
		strings.Repeat("9", 300)} {
		r.Do(fmt.Sprintf("HSET %s # %s", Key(5), v))
		if v := apply(t, b, node, updates(5)[0]).Version; v >= ahead {
			t.Errorf("version %d", v)
		}
	}
}

// crowd puts 100,000 fields into the hash of a user.
func crowd(r *dbtest.RedisServer, user uint32) {
	r.Do(`EVAL "for i = 1, 100000 do redis.call('HSET', KEYS[1], 'x' .. i, '1:1') end" 1 ` +
		Key(user))
}

// TestOthersValues puts values of other programs into hashes. They harm no other user, and each
// is counted and told.
func TestOthersValues(t *testing.T) {
	t.Parallel()
	r := dbtest.Redis(t)
	log, reg := &lines{}, prometheus.NewRegistry()
	o := options(single(r))
	o.Log, o.Registerer = slog.New(slog.NewTextHandler(log, nil)), reg
	s := open(t, o)
	r.Do("HSET " + Key(5) + " b 1:1 c nonsense d/e 1:1 a 7,1")
	r.Do("HSET " + Key(5) + " long " + strings.Repeat("x", maxValue+1))
	r.Do("HSET " + Key(5) + " " + strings.Repeat("x", 100) + " 1:1")
	want(t, s, 5, "nonsense", "b")
	if got := apply(t, s, node, updates(5)[0]); len(got.Others) != 1 || got.Before != nil {
		t.Errorf("others %v, before %v", got.Others, got.Before)
	}
	refused := func(reason string) float64 {
		return testutil.ToFloat64(s.metrics.refused.WithLabelValues(reason))
	}
	if a, b := refused("malformed"), refused("too_long"); a != 3+3 || b != 2+2 {
		t.Errorf("%v malformed, %v too long", a, b)
	}
	if got := log.String(); !strings.Contains(got, "values that are none") ||
		!strings.Contains(got, Key(5)) {
		t.Errorf("the log: %s", got)
	}
	apply(t, s, node, whereabouts.Update{User: 5})
	want(t, s, 5, "nonsense stays", "b")

	r.Do("SET " + Key(6) + " text")
	crowd(r, 7)
	results := s.Apply(t.Context(), node, updates(6, 7, 8))
	found := s.Lookup(t.Context(), []uint32{6, 7, 8})
	for i, text := range []string{"written the key " + Key(6) + ": delete it: WRONGTYPE",
		"fields and may have 1024"} {
		for _, err := range []error{results[i].Err, found[i].Err} {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("user %d: %v", 6+i, err)
			}
		}
	}
	if err := s.Remove(t.Context(), 6, []whereabouts.Node{node}); err == nil ||
		!strings.Contains(err.Error(), "delete it: WRONGTYPE") {
		t.Errorf("removal: %v", err)
	}
	if results[2].Err != nil || found[2].Err != nil || len(found[2].Entries) != 1 {
		t.Errorf("the user behind them: %+v, %+v", results[2], found[2])
	}
	if r.Do("HLEN "+Key(7)) != "100000" {
		t.Error("the hash of too many fields was written")
	}
	if err := s.health.Errs()[opApply]; err != nil {
		t.Errorf("the state is that of one user: %v", err)
	}
	if n := testutil.ToFloat64(s.metrics.failures.WithLabelValues(opApply)); n != 2 {
		t.Errorf("%v failures", n)
	}
}

// TestAnswerSize bounds what a look-up reads of a hash with 100,000 fields.
func TestAnswerSize(t *testing.T) {
	t.Parallel()
	r := dbtest.Redis(t)
	crowd(r, 7)
	s := open(t, options(single(r)))
	pairs, _, err := s.client.HScan(t.Context(), Key(7), 0, "", maxFields).Result()
	if err != nil || len(pairs) > 4*maxFields {
		t.Errorf("%d fields and values: %v", len(pairs), err)
	}
}

// TestOutage calls without a Redis. Each user has an error, and the state says it until all works
// again.
func TestOutage(t *testing.T) {
	t.Parallel()
	r := dbtest.Redis(t)
	log := &lines{}
	o := options(single(r))
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	s := open(t, o)
	if s.State() != errStarting {
		t.Errorf("at the begin: %v", s.State())
	}
	s.note(opWatch, nil)
	apply(t, s, node, updates(5)[0])
	if s.State() != nil {
		t.Error(s.State())
	}
	r.Stop()
	results, found := s.Apply(t.Context(), node, updates(5, 6)), s.Lookup(t.Context(),
		[]uint32{5, 6})
	for i := range 2 {
		if results[i].Err == nil || found[i].Err == nil {
			t.Errorf("user %d: no error", 5+i)
		}
	}
	if err := s.Remove(t.Context(), 5, []whereabouts.Node{node}); err == nil {
		t.Error("a removal without Redis")
	}
	if err := s.State(); err == nil || !strings.Contains(err.Error(), "have not worked") {
		t.Errorf("state: %v", err)
	}
	r.Start()
	apply(t, s, node, updates(5)[0])
	want(t, s, 5, "back", "a")
	if s.State() == nil {
		t.Error("the removal has not worked yet")
	}
	if err := s.Remove(t.Context(), 5, []whereabouts.Node{node}); err != nil || s.State() != nil {
		t.Error(err, s.State())
	}
	for _, text := range []string{"do not work", "work again"} {
		if n := strings.Count(log.String(), text); n != 1 {
			t.Errorf("%d lines %q:\n%s", n, text, log)
		}
	}
}

// TestNoAnswer bounds a pipeline. The error says for how long it waited.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	s := open(t, options(single(dbtest.Redis(t))))
	s.opt.Timeout = -1
	for what, err := range map[string]error{
		opApply:  s.Apply(t.Context(), node, updates(5))[0].Err,
		opLookup: s.Lookup(t.Context(), []uint32{5})[0].Err,
		opRemove: s.Remove(t.Context(), 5, []whereabouts.Node{node}),
	} {
		if err == nil || !strings.Contains(err.Error(), "no answer of Redis within -1ns") {
			t.Errorf("%s within no time: %v", what, err)
		}
	}
	ended, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	for state, s := range map[int]*Store{1: open(t, options(s.opt.Redis)), 4: s} {
		if r := s.Apply(ended, node, updates(5)); r[0].Err == nil ||
			len(s.health.Errs()) != state {
			t.Errorf("the caller gave up: %v, state %v", r[0].Err, s.health.Errs())
		}
	}
}

// TestParts of a cluster: one master is down, and the users of the others are written and found.
func TestParts(t *testing.T) {
	t.Parallel()
	c := dbtest.RedisShardsOf(t)
	s := open(t, options(cluster(c)))
	var users []uint32
	for u := range uint32(30) {
		users = append(users, u+1)
	}
	for _, r := range s.Apply(t.Context(), node, updates(users...)) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	served := map[uint32]bool{}
	for _, u := range users {
		var slot int
		fmt.Sscan(c.Masters[0].Do("CLUSTER KEYSLOT "+Key(u)), &slot)
		served[u] = slot > 5461
	}
	c.Masters[0].Stop()
	results, found := s.Apply(t.Context(), node, updates(users...)), s.Lookup(t.Context(), users)
	for i, u := range users {
		if (results[i].Err == nil) != served[u] || (found[i].Err == nil) != served[u] {
			t.Errorf("user %d, served %v: %v, %v", u, served[u], results[i].Err, found[i].Err)
		}
	}
	if s.State() == nil {
		t.Error("the state does not say it")
	}
}

// TestMovingSlot calls while the slot of a user moves, and after that.
func TestMovingSlot(t *testing.T) {
	t.Parallel()
	c := dbtest.RedisShardsOf(t)
	s := open(t, options(cluster(c)))
	from, to := c.Masters[0], c.Masters[1]
	user, slot := uint32(0), ""
	for u := uint32(1); slot == ""; u++ {
		var n int
		if fmt.Sscan(from.Do("CLUSTER KEYSLOT "+Key(u)), &n); n <= 5461 {
			user, slot = u, fmt.Sprint(n)
		}
	}
	dbtest.OpenSlot(from, to, slot)
	apply(t, s, node, updates(user)[0]) // a key that does not exist belongs to the other master
	want(t, s, user, "in an open slot", "a")
	if got := to.Do("CLUSTER COUNTKEYSINSLOT " + slot); got != "1" {
		t.Errorf("%s keys at the other master", got)
	}
	for _, m := range []*dbtest.RedisServer{to, from} {
		m.Do("CLUSTER SETSLOT " + slot + " NODE " + to.ID())
	}
	b := whereabouts.Node{Name: "b", Epoch: 1}
	if r := apply(t, s, b, updates(user)[0]); len(r.Others) != 1 {
		t.Errorf("after the move: %+v", r)
	}
	want(t, s, user, "after the move", "a b")
	if err := s.Remove(t.Context(), user, []whereabouts.Node{node}); err != nil {
		t.Fatal(err)
	}
	want(t, s, user, "after a removal", "b")
}
