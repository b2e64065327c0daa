package peering

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/link"
	"teamtalk/core/registry"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// stand is a server that says in its answers which one it is.
type stand struct {
	*router.Router[*session.Link]
	name string
	addr string
	got  chan struct{} // receives a value for each request that waits

	away bool // it withdraws on each connection

	mu     sync.Mutex
	held   chan struct{} // not nil: an answer waits until it is closed
	opened int           // connections
	open   int
	last   *session.Link
}

func newStand(name string) *stand {
	s := &stand{name: name, got: make(chan struct{}, 10),
		Router: router.New[*session.Link](router.Options{Role: "stand"})}
	router.Handle(s.Router, router.Public, router.Ignore[*pb.IMHeartBeat])
	router.Handle(s.Router, router.Public, router.Ignore[*pb.IMRoleSet])
	router.Handle(s.Router, router.Public, func(l *session.Link, seq uint16,
		m *pb.IMFileTransferReq) error {
		answer := func() error {
			return l.Send(seq, pb.IMFileTransferRsp_builder{TaskId: &s.name,
				ResultCode: proto.Uint32(0), FromUserId: proto.Uint32(1),
				ToUserId: proto.Uint32(1), AttachData: m.GetAttachData()}.Build())
		}
		s.mu.Lock()
		held := s.held
		s.mu.Unlock()
		if held == nil {
			return answer()
		}
		s.got <- struct{}{}
		go func() {
			<-held
			_ = answer()
		}()
		return nil
	})
	return s
}

// listen opens the port of the server, until the end of the test.
func (s *stand) listen(t *testing.T) *stand {
	t.Helper()
	e, err := engine.Start(engine.Options{Name: s.name, Addr: "127.0.0.1:0", Loops: 1, Links: s})
	if err != nil {
		t.Fatal(err)
	}
	s.addr = e.Addr().String()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Open counts a connection.
func (s *stand) Open(l *session.Link) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = l
	s.opened++
	s.open++
	if s.away {
		return l.Send(0, pb.IMStopReceivePacket_builder{Result: proto.Uint32(0),
			MayReturn: proto.Bool(true)}.Build())
	}
	return nil
}

// Close counts its end.
func (s *stand) Close(*session.Link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

// hold lets answers wait until the returned function is called.
func (s *stand) hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(chan struct{})
	s.held = held
	return sync.OnceFunc(func() { close(held) })
}

// links returns the connections so far, and those that are open.
func (s *stand) links() (opened, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened, s.open
}

// node returns the server as it registers under a name.
func (s *stand) node(role, name string) registry.Node {
	return registry.Node{Role: role, Name: name, Addr: s.addr}
}

// eventually polls until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond) // polls connections, which send no event
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

// newLinker returns a Linker with settings, the node "me" and a view.
func newLinker(t *testing.T, log *lines, env ...string) (*Linker, *registry.View) {
	t.Helper()
	cfg, err := config.Load(config.Sources{Env: env})
	if err != nil {
		t.Fatal(err)
	}
	if log == nil {
		log = &lines{}
	}
	v := registry.NewView()
	return New(Options{Config: cfg, View: v, Node: "me", MaxFrame: 1 << 20,
		Answers: link.NewAnswers(1 << 20), Metrics: link.NewMetrics(nil),
		Log: slog.New(slog.NewTextHandler(log, nil))}), v
}

// open opens links until the end of the test.
func open(t *testing.T, l *Linker, p Peers) *link.Group {
	t.Helper()
	g, end, err := l.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// ask sends a request, and returns the name of the server that answers.
func ask(g *link.Group, key uint64) <-chan string {
	got := make(chan string, 1)
	req := pb.IMFileTransferReq_builder{FromUserId: proto.Uint32(1), ToUserId: proto.Uint32(1),
		FileName: proto.String(""), FileSize: proto.Uint32(1),
		TransMode: pb.TransferFileType_FILE_TYPE_OFFLINE.Enum()}.Build()
	g.Call(nil, key, 0, req, func(m pb.Message, err error) {
		if err != nil {
			got <- err.Error()
			return
		}
		got <- m.(*pb.IMFileTransferRsp).GetTaskId()
	})
	return got
}

// owners returns the servers of the keys 0 to 99.
func owners(g *link.Group) (list []string) {
	for key := range uint64(100) {
		list = append(list, <-ask(g, key))
	}
	return list
}

// up waits until n connections of a group are up.
func up(t *testing.T, g *link.Group, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d links", n), func() bool {
		all := g.Peers()
		return len(all) == n && !slices.ContainsFunc(all, func(p link.Peer) bool { return !p.Up() })
	})
}

// TestFollow follows the registered servers: two join, one moves to another address and keeps its
// keys, one leaves and gives its answer that is due.
func TestFollow(t *testing.T) {
	a, b, moved := newStand("a").listen(t), newStand("b").listen(t), newStand("b").listen(t)
	log := &lines{}
	l, v := newLinker(t, log)
	g := open(t, l, Peers{Role: "dbproxy"})
	if err := l.Check(g); err == nil || err.Error() != "no dbproxy server is registered" {
		t.Errorf("without servers: %v", err)
	}
	v.Update([]registry.Node{a.node("dbproxy", "a"), b.node("dbproxy", "b"), a.node("push", "p"),
		{Role: "dbproxy", Name: "noport"}}, true)
	up(t, g, 2)
	if err := l.Check(g); err != nil {
		t.Error(err)
	}
	eventually(t, "the link's line in the log", func() bool {
		return strings.Contains(log.String(), "node=a role=dbproxy peer="+a.addr)
	})
	before := owners(g)
	if !slices.Contains(before, "a") || !slices.Contains(before, "b") {
		t.Errorf("the keys are at %q", before)
	}

	v.Update([]registry.Node{a.node("dbproxy", "a"), moved.node("dbproxy", "b")}, true)
	eventually(t, "the move", func() bool {
		_, old := b.links()
		_, now := moved.links()
		return old == 0 && now == 1
	})
	up(t, g, 2)
	if got := owners(g); !slices.Equal(got, before) {
		t.Errorf("the keys of the server that moved are at %q, want %q", got, before)
	}
	if n, _ := a.links(); n != 1 {
		t.Errorf("the server that stayed has %d connections", n)
	}

	release := moved.hold()
	key := uint64(slices.Index(before, "b"))
	due := ask(g, key)
	<-moved.got
	v.Update([]registry.Node{a.node("dbproxy", "a")}, true)
	up(t, g, 1)
	if got := <-ask(g, key+1000); got != "a" {
		t.Errorf("a request went to %q", got)
	}
	release()
	if got := <-due; got != "b" {
		t.Errorf("the answer that was due: %q", got)
	}
	eventually(t, "the end of the link", func() bool { _, n := moved.links(); return n == 0 })
}

// TestCheckWithdrawn: the state tells servers that drain by order, which are used all the same,
// from those whose stores fail.
func TestCheckWithdrawn(t *testing.T) {
	a, b := newStand("a"), newStand("b")
	a.away, b.away = true, true
	nodes := []registry.Node{a.listen(t).node("dbproxy", "a"),
		b.listen(t).node("dbproxy", "b")}
	l, v := newLinker(t, nil)
	g := open(t, l, Peers{Role: "dbproxy"})
	for _, x := range []struct {
		drain int // number of nodes that drain
		want  string
	}{
		{0, "the store of every dbproxy server fails, or it drains"},
		{1, "the store of every dbproxy server fails, or it drains"},
		{2, "degraded: every dbproxy server drains by order, and is used all the same"},
	} {
		list := slices.Clone(nodes)
		for i := range x.drain {
			list[i].Draining = true
		}
		v.Update(list, true)
		eventually(t, "the withdrawals", g.Withdrawn)
		if err := l.Check(g); err == nil || err.Error() != x.want {
			t.Errorf("%d drain: %v, want %q", x.drain, err, x.want)
		}
	}
}

// TestOwnServer: a server in this process that others reach is one of the registered ones under
// the name of the process, also while it is not registered. One without a port, or with a store
// of its own, is alone.
func TestOwnServer(t *testing.T) {
	own, other := newStand("own"), newStand("other").listen(t)
	nodes := []registry.Node{other.node("dbproxy", "other"), other.node("dbproxy", "me"),
		other.node("route", "other")}
	const port, sql = "TEAMTALK_DBPROXY_LISTEN=127.0.0.1:1", "TEAMTALK_STORE=mysql"
	for _, x := range []struct {
		what, role    string
		env           []string
		want, because string
	}{
		{"shared", "dbproxy", []string{port, sql}, "other own", ""},
		{"embedded store", "dbproxy", []string{port}, "own", "its store is embedded"},
		{"no port", "dbproxy", []string{sql}, "own", "no port for servers"},
		{"route", "route", []string{"TEAMTALK_ROUTE_LISTEN=127.0.0.1:1"}, "other own", ""},
		{"route without a port", "route", nil, "own", "no port for servers"},
	} {
		var log lines
		l, v := newLinker(t, &log, x.env...)
		g := open(t, l, Peers{Role: x.role, Here: own})
		if !g.Up() || <-ask(g, 1) != "own" {
			t.Errorf("%s: not up before the registry is read", x.what)
		}
		v.Update(nodes, true)
		up(t, g, 1+strings.Count(x.want, " "))
		got := owners(g)
		slices.Sort(got)
		if s := strings.Join(slices.Compact(got), " "); s != x.want {
			t.Errorf("%s: the keys are at %q, want %q", x.what, s, x.want)
		}
		if x.want == "own" {
			eventually(t, "the warning", func() bool {
				return strings.Contains(log.String(), x.because)
			})
		}
		v.Update(nil, true)
		v.Update(nodes, true)
		if n := strings.Count(log.String(), "uses its own alone"); n > 1 {
			t.Errorf("%s: %d warnings", x.what, n)
		}
	}
}

// TestSameServerForAll: processes with and without a server of their own, which know the servers
// in another order, agree on the server of each key.
func TestSameServerForAll(t *testing.T) {
	me, b, c := newStand("me").listen(t), newStand("b").listen(t), newStand("c").listen(t)
	with, v1 := newLinker(t, nil, "TEAMTALK_ROUTE_LISTEN=127.0.0.1:1")
	without, v2 := newLinker(t, nil)
	g1, g2 := open(t, with, Peers{Role: "route", Here: me}), open(t, without, Peers{Role: "route"})
	list := []registry.Node{me.node("route", "me"), b.node("route", "b"), c.node("route", "c")}
	v1.Update(list, true)
	slices.Reverse(list)
	v2.Update(list, true)
	up(t, g1, 3)
	up(t, g2, 3)
	if one, two := owners(g1), owners(g2); !slices.Equal(one, two) {
		t.Errorf("the keys are at %q and %q", one, two)
	}
}

// TestListWins: with addresses in the settings the registry is not used. The log says once that a
// registered server is not in the list.
func TestListWins(t *testing.T) {
	listed, other := newStand("listed").listen(t), newStand("other").listen(t)
	log := &lines{}
	l, v := newLinker(t, log)
	v.Update([]registry.Node{listed.node("route", "listed")}, true)
	g := open(t, l, Peers{Role: "route", Addrs: []string{listed.addr}, Conns: 2})
	up(t, g, 2)
	if got := owners(g); slices.Contains(got, "other") {
		t.Errorf("the keys are at %q", got)
	}
	const warning = "a registered server is not used"
	if strings.Contains(log.String(), warning) {
		t.Errorf("a warning of a server in the list:\n%s", log.String())
	}
	both := []registry.Node{listed.node("route", "listed"), other.node("route", "other")}
	v.Update(both, true)
	eventually(t, "the warning", func() bool {
		return strings.Contains(log.String(), warning) &&
			strings.Contains(log.String(), "node=other addr="+other.addr)
	})
	v.Update(both[:1], true)
	v.Update(both, true)
	if n := strings.Count(log.String(), warning); n > 1 {
		t.Errorf("%d warnings", n)
	}
}

// TestNoPlaintextBeyond: without TLS a registered address beyond this machine is not connected to,
// and the log and the state say with which settings it would be.
func TestNoPlaintextBeyond(t *testing.T) {
	var log lines
	l, v := newLinker(t, &log)
	v.Update([]registry.Node{{Role: "route", Name: "far", Addr: "192.0.2.1:8200"}}, true)
	g := open(t, l, Peers{Role: "route"})
	err := l.Check(g)
	if !g.Empty() || err == nil || !strings.Contains(err.Error(), "192.0.2.1:8200") ||
		!strings.Contains(log.String(), "link_tls.ca") {
		t.Errorf("%v, empty %v, log:\n%s", err, g.Empty(), &log)
	}
	v.Update(nil, true)
	eventually(t, "the state", func() bool {
		err := l.Check(g)
		return err != nil && err.Error() == "no route server is registered"
	})
	allowed, v := newLinker(t, nil, "TEAMTALK_LINK_TLS_PLAINTEXT_BEYOND_LOOPBACK=true")
	v.Update([]registry.Node{{Role: "route", Name: "far", Addr: "192.0.2.1:8200"}}, true)
	if g := open(t, allowed, Peers{Role: "route"}); g.Empty() {
		t.Error("not connected to although the setting allows it")
	}
}

// TestEach keeps a link of its own to each server. One that leaves gives its answer that is due,
// and is new when it returns.
func TestEach(t *testing.T) {
	a, b := newStand("a").listen(t), newStand("b").listen(t)
	l, v := newLinker(t, nil, "TEAMTALK_FILE_SERVER_LISTEN=127.0.0.1:1")
	events := make(chan string, 10)
	groups := make(chan *link.Group, 10)
	next := 0
	end := l.Each("file", true, func() Member {
		next++
		name := fmt.Sprint(next)
		return Member{Joined: func(g *link.Group) { groups <- g; events <- "joined " + name },
			Left: func() { events <- "left " + name }}
	})
	v.Update([]registry.Node{a.node("file", "a"), b.node("file", "b"), b.node("file", "me")}, true)
	want := func(what string) {
		t.Helper()
		if got := <-events; got != what {
			t.Errorf("%q, want %q", got, what)
		}
	}
	want("joined 1")
	want("joined 2")
	first, second := <-groups, <-groups
	up(t, first, 1)
	up(t, second, 1)
	if <-ask(first, 1) != "a" || <-ask(second, 1) != "b" {
		t.Error("the links are mixed up")
	}
	release := a.hold()
	due := ask(first, 1)
	<-a.got
	v.Update([]registry.Node{b.node("file", "b")}, true)
	want("left 1")
	if first.Up() {
		t.Error("the link to the server that left is up")
	}
	release()
	if got := <-due; got != "a" {
		t.Errorf("the answer that was due: %q", got)
	}
	v.Update([]registry.Node{a.node("file", "a"), b.node("file", "b")}, true)
	want("joined 3")
	up(t, <-groups, 1)
	if err := end(); err != nil {
		t.Error(err)
	}
	eventually(t, "the end of all links", func() bool {
		_, n := a.links()
		_, m := b.links()
		return n+m == 0
	})
	if err := second.Send(1, 0, &pb.IMHeartBeat{}); err == nil {
		t.Error("a link is open after the end")
	}
}
