package store

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
	"teamtalk/sql/rediswhereabouts"
)

// asking returns a text with the question for the users' whereabouts.
func asking(from, to uint32, body string) *im.Message {
	m := text(from, to, body)
	m.WantWhereabouts = true
	return m
}

// connect writes that a user has a device on a message server.
func (e *env) connect(t testing.TB, user uint32, node string) {
	t.Helper()
	s := rediswhereabouts.Open(rediswhereabouts.Options{Redis: e.o.Redis.Unread,
		Timeout: time.Minute, Poll: time.Minute})
	defer s.Close()
	r := s.Apply(context.Background(), whereabouts.Node{Name: node, Epoch: 7},
		[]whereabouts.Update{{User: user, Devices: []whereabouts.Device{
			{Client: pb.ClientType_CLIENT_TYPE_IOS}}}})
	if r[0].Err != nil {
		t.Fatal(r[0].Err)
	}
}

// nodesOf returns the names of the nodes of a message's users, "receiver | sender", or "?" if they
// are not known.
func nodesOf(t testing.TB, m *im.Message) string {
	t.Helper()
	if m.Whereabouts == nil {
		return "?"
	}
	o, err := whereabouts.ParseOfMessage(m.Whereabouts)
	if err != nil {
		t.Fatal(err)
	}
	names := func(entries []whereabouts.Entry) string {
		var list []string
		for _, e := range entries {
			list = append(list, e.Name)
		}
		return strings.Join(list, " ")
	}
	return names(o.Receiver) + " | " + names(o.Sender)
}

// TestWhereabouts reads entries after the commit: also one that was written after it. The counts
// are in the same pipeline, so those are looked at as well.
func TestWhereabouts(t *testing.T) {
	t.Parallel()
	for kind, change := range map[string]func(testing.TB, *env){
		"server":  func(testing.TB, *env) {},
		"cluster": func(t testing.TB, e *env) { e.onCluster(t) },
	} {
		t.Run(kind, func(t *testing.T) {
			e := newEnvT(t)
			change(t, e)
			var then func()
			e.o.hooks.AfterCommit = func() error {
				if then != nil {
					then()
				}
				return nil
			}
			s := e.store(t)
			u := users(t, s, 3)
			a, b, c := u[0], u[1], u[2]
			e.connect(t, a, "msg-1")
			want := func(what string, m *im.Message, nodes string) {
				t.Helper()
				if got := nodesOf(t, m); got != nodes {
					t.Errorf("%s: %q, want %q", what, got, nodes)
				}
			}
			first, unasked := asking(a, b, "1"), text(a, b, "2")
			send(t, s, first, unasked)
			want("nowhere", first, " | msg-1")
			want("not asked", unasked, "?")

			then = func() { e.connect(t, b, "msg-2"); e.redis.Do("SCRIPT FLUSH") }
			late := asking(a, b, "3")
			send(t, s, late)
			want("connected after the commit", late, "msg-2 | msg-1")
			then = nil

			batch := []*im.Message{asking(a, b, "4"), asking(b, a, "5"), asking(c, a, "6")}
			send(t, s, batch...)
			want("one way", batch[0], "msg-2 | msg-1")
			want("back", batch[1], "msg-1 | msg-2")
			want("another", batch[2], "msg-1 | ")

			id := asking(a, b, "7")
			id.ClientID = []byte("id")
			again := *id
			send(t, s, id)
			want("with an id", id, "msg-2 | msg-1")
			again.Whereabouts = id.Whereabouts // the caller's rest
			send(t, s, &again)
			want("a repeat", &again, "?")
			if n := unreadOf(t, s, b, a); n != 5 || !again.Duplicate {
				t.Errorf("%d unread, duplicate %v", n, again.Duplicate)
			}
			if n := metric(t, s, "whereabouts_total", "found"); n != 6 {
				t.Errorf("found %v", n)
			}
		})
	}
}

// TestWhereaboutsNotKnown stores and counts messages although the whereabouts of a user cannot be
// read.
func TestWhereaboutsNotKnown(t *testing.T) {
	t.Parallel()
	e := newEnvT(t)
	var then func()
	e.o.hooks.AfterCommit = func() error {
		if then != nil {
			then()
		}
		return nil
	}
	s := e.store(t)
	u := users(t, s, 4)
	send(t, s, text(u[0], u[1], "first"), text(u[2], u[3], "first"))
	e.redis.Do("SET " + rediswhereabouts.Key(u[1]) + " text")
	e.redis.Do("HSET " + rediswhereabouts.Key(u[2]) + " b nonsense a 7:1")
	batch := []*im.Message{asking(u[0], u[1], "a"), asking(u[1], u[0], "b"),
		asking(u[2], u[3], "c")}
	send(t, s, batch...)
	for i, want := range []string{"?", "?", " | a"} {
		if got := nodesOf(t, batch[i]); got != want {
			t.Errorf("message %d: %q, want %q", i, got, want)
		}
	}
	if n := unreadOf(t, s, u[1], u[0]); n != 2 {
		t.Errorf("%d unread", n)
	}
	for what, want := range map[string]float64{"failed": 2, "found": 1, "refused": 1} {
		if n := metric(t, s, "whereabouts_total", what); n != want {
			t.Errorf("%s: %v, want %v", what, n, want)
		}
	}
	then = func() { e.redis.Save(); e.redis.Stop() }
	m := asking(u[2], u[3], "without Redis")
	send(t, s, m)
	if m.ID != 3 || m.Whereabouts != nil {
		t.Errorf("id %d, whereabouts %q", m.ID, m.Whereabouts)
	}
	then = nil
	e.redis.Start()
	if _, err := s.outbox.Recover(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if n := unreadOf(t, s, u[3], u[2]); n != 3 {
		t.Errorf("%d unread after the return", n)
	}
}

// trips is a hook of a client that counts round trips and commands.
type trips struct{ pipelines, commands, scans atomic.Int64 }

// DialHook changes nothing.
func (*trips) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return next(ctx, network, addr)
	}
}

// ProcessHook counts a command, which is a round trip.
func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.count(cmd)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook counts a pipeline.
func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.count(cmds...)
		return next(ctx, cmds)
	}
}

// count counts a round trip.
func (c *trips) count(cmds ...redis.Cmder) {
	c.pipelines.Add(1)
	c.commands.Add(int64(len(cmds)))
	for _, cmd := range cmds {
		if cmd.Name() == "hscan" {
			c.scans.Add(1)
		}
	}
}

// TestWhereaboutsRoundTrips counts the round trips to Redis of a batch: asking for whereabouts
// costs none, and one command for each user. Without the question nothing is read.
func TestWhereaboutsRoundTrips(t *testing.T) {
	t.Parallel()
	e := newEnvT(t)
	s := e.store(t)
	u := users(t, s, 3)
	g, err := s.CreateGroup(t.Context(), im.Group{Name: "group", Creator: u[0],
		Type: pb.GroupType_GROUP_TYPE_NORMAL, Members: u}, u[0])
	if err != nil {
		t.Fatal(err)
	}
	batch := func(want bool) (list []*im.Message) {
		for _, to := range []uint32{u[1], u[2], u[1], g.ID} {
			m := text(u[0], to, "text")
			if m.WantWhereabouts = want; to == g.ID {
				m.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
			}
			list = append(list, m)
		}
		return list
	}
	send(t, s, batch(false)...) // fills the caches
	var count trips
	for _, c := range s.db.Redis.All {
		c.AddHook(&count)
	}
	send(t, s, batch(false)...)
	pipelines, commands := count.pipelines.Swap(0), count.commands.Swap(0)
	if n := count.scans.Load(); n != 0 || pipelines == 0 {
		t.Errorf("without the question: %d reads, %d round trips", n, pipelines)
	}
	asked := batch(true)
	send(t, s, asked...)
	if n := count.pipelines.Load(); n != pipelines {
		t.Errorf("%d round trips, without the question %d", n, pipelines)
	}
	if n := count.commands.Load(); n != commands+3 || count.scans.Load() != 3 {
		t.Errorf("%d commands, without the question %d", n, commands)
	}
	if nodesOf(t, asked[3]) != "?" || nodesOf(t, asked[0]) != " | " {
		t.Errorf("group %q, user %q", nodesOf(t, asked[3]), nodesOf(t, asked[0]))
	}
}
