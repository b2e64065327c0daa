package outgoing

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/registry"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

// mesh is the mesh that owns the links of a test, with a clock that the test moves.
type mesh struct {
	*Links
	t      *testing.T
	mu     sync.Mutex
	now    time.Time
	dialed []*wire
	lost   int
	missed []time.Duration
	kicks  []pb.Message
}

// wire is a link that a mesh has dialed.
type wire struct {
	m       *mesh
	to      registry.Node
	handler session.LinkHandler
	full    bool
	sent    []pb.Message
	closed  chan struct{}
}

// Send records a message unless the link is full.
func (w *wire) Send(_ uint64, _ uint16, m pb.Message) error {
	if w.full {
		return errors.New("full")
	}
	w.sent = append(w.sent, m)
	return nil
}

// Close records the end of the link.
func (w *wire) Close() error {
	close(w.closed)
	return nil
}

// answer answers the introduction as a message server.
func (w *wire) answer(name string, epoch uint64) *carrier {
	c := &carrier{}
	w.handler.Message(session.NewLink(session.NextID(), name, c), 0, pb.IMRoleSet_builder{
		Node: &name, Epoch: &epoch}.Build())
	return c
}

// open answers the introduction as the message server that is meant.
func (w *wire) open() { w.answer(w.to.Name, w.to.Epoch) }

// ids returns the ids of the texts that were sent.
func (w *wire) ids() (ids []uint32) {
	for _, m := range w.sent {
		if m, ok := m.(*pb.MsgData); ok {
			ids = append(ids, m.MsgID)
		}
	}
	return ids
}

// carrier is the connection of a session.Link.
type carrier struct {
	sent   []pb.Message
	closed bool
}

// SendMessage records a message.
func (c *carrier) SendMessage(_ uint16, m pb.Message) error {
	c.sent = append(c.sent, m)
	return nil
}

// Close records the end of the connection.
func (c *carrier) Close(error) { c.closed = true }

// newMesh returns a mesh that knows the message servers with these names, each with epoch 1.
func newMesh(t *testing.T, names ...string) *mesh {
	m := &mesh{t: t, now: time.Unix(1000, 0)}
	m.Links = New(Options{Lock: &m.mu, Idle: 5 * time.Minute, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return m.now },
		Dial: func(n registry.Node, h session.LinkHandler) Link {
			w := &wire{m: m, to: n, handler: h, closed: make(chan struct{})}
			m.dialed = append(m.dialed, w)
			return w
		},
		Introduce: func(to whereabouts.Node) *pb.IMRoleSet {
			return pb.IMRoleSet_builder{Node: proto.String("self"), ToNode: &to.Name}.Build()
		},
		Lost: func() {
			m.wantLocked()
			m.lost++
		},
		Missed: func(_ *Peer, missed time.Duration) {
			m.wantLocked()
			m.missed = append(m.missed, missed)
		},
		LateKicks: func(time.Duration) []pb.Message {
			m.wantLocked()
			return m.kicks
		},
		Drops: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "drops"}, []string{"reason"}),
	})
	m.list(names...)
	return m
}

// wantLocked checks that the lock of the mesh is held.
func (m *mesh) wantLocked() {
	m.t.Helper()
	if m.mu.TryLock() {
		m.mu.Unlock()
		m.t.Error("the mesh is called without its lock")
	}
}

// list sets the message servers that are alive, each with epoch 1 and its name as the address.
func (m *mesh) list(names ...string) (gone []whereabouts.Node) {
	var list []registry.Node
	for _, name := range names {
		list = append(list, registry.Node{Name: name, Epoch: 1, Addr: name})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.SetNodes(list, func(n whereabouts.Node) bool {
		return n.Name != "unknown" && !slices.Contains(names, n.Name)
	})
}

// peer returns a message server with epoch 1.
func (m *mesh) peer(name string) *Peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Peer(whereabouts.Node{Name: name, Epoch: 1})
}

// text sends a text to a message server.
func (m *mesh) text(to string, id uint32) { m.peer(to).Send(&pb.MsgData{MsgID: id}) }

// spread sends a text to all message servers.
func (m *mesh) spread(id uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Spread(&pb.MsgData{MsgID: id})
}

// pass lets some time pass, and looks at what has waited too long.
func (m *mesh) pass(d time.Duration) {
	m.now = m.now.Add(d)
	m.Check()
}

// unreachable reports whether a message server acknowledges nothing.
func (m *mesh) unreachable(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Unreachable(whereabouts.Node{Name: name, Epoch: 1}, m.now)
}

// link returns the link that was dialed as the given one, from 0 on.
func (m *mesh) link(i int) *wire {
	m.t.Helper()
	if len(m.dialed) <= i {
		m.t.Fatalf("%d links were dialed", len(m.dialed))
	}
	return m.dialed[i]
}

// wantDrops checks how many messages were dropped for a reason.
func (m *mesh) wantDrops(reason string, want int) {
	m.t.Helper()
	if n := testutil.ToFloat64(m.opt.Drops.WithLabelValues(reason)); n != float64(want) {
		m.t.Errorf("%v messages were dropped as %s, want %d", n, reason, want)
	}
}

// wantIDs checks the ids of texts.
func wantIDs(t *testing.T, got []uint32, want ...uint32) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("the texts are %v, want %v", got, want)
	}
}

// TestMessagesWaitForTheAnswer: a message server is dialed with the first message. Messages are
// sent in their order, and only after it has answered the introduction as the one that is meant.
func TestMessagesWaitForTheAnswer(t *testing.T) {
	m := newMesh(t, "a", "b")
	if len(m.dialed) > 0 {
		t.Fatal("a link was dialed without a message")
	}
	m.text("b", 1)
	m.text("b", 2)
	w := m.link(0)
	c := &carrier{}
	if err := w.handler.Open(session.NewLink(1, "b", c)); err != nil {
		t.Fatal(err)
	}
	if len(c.sent) != 1 || c.sent[0].(*pb.IMRoleSet).GetToNode() != "b" {
		t.Errorf("the introduction is %v", c.sent)
	}
	for _, other := range []*carrier{w.answer("a", 1), w.answer("b", 2)} {
		if !other.closed {
			t.Error("a link to another message server stays open")
		}
	}
	wantIDs(t, w.ids())
	w.open()
	m.text("b", 3)
	wantIDs(t, w.ids(), 1, 2, 3)
	if n := testutil.ToFloat64(m.open); n != 1 || len(m.dialed) != 1 || len(m.missed) > 0 {
		t.Errorf("%v links are open, %d were dialed, missed: %v", n, len(m.dialed), m.missed)
	}
	if n := testutil.ToFloat64(m.sent.WithLabelValues(pb.CmdMsgData.String())); n != 3 {
		t.Errorf("%v texts are counted", n)
	}
}

// TestWaitingIsBounded: messages wait for a link up to a number and a time. The others are dropped
// and counted, and the mesh is told when the link is open.
func TestWaitingIsBounded(t *testing.T) {
	m := newMesh(t, "a", "c")
	for i := range uint32(maxWaiting + 100) {
		m.text("a", i)
	}
	m.wantDrops("link_full", 100)
	m.text("c", 1)
	m.text("unknown", 1)
	m.pass(WaitLasts - 1)
	m.wantDrops("unreachable", 0)
	m.pass(1)
	m.wantDrops("unreachable", maxWaiting+1)
	m.wantDrops("unknown_node", 1)
	for i := range 2 {
		m.link(i).open()
		wantIDs(t, m.link(i).ids())
	}
	if !slices.Equal(m.missed, []time.Duration{WaitLasts, WaitLasts}) {
		t.Errorf("the mesh was told that it missed %v", m.missed)
	}
	large := make([]byte, maxWaitingBytes/4)
	m.list("a", "b", "c")
	for range 6 {
		m.peer("b").Send(&pb.MsgData{Data: large})
	}
	m.wantDrops("link_full", 102)
	if gone := m.list("a", "c"); len(gone) != 1 || gone[0].Name != "b" {
		t.Errorf("%v have ended", gone)
	}
	<-m.link(2).closed
	m.Close()
	m.wantDrops("ended", 4)
}

// TestLostLink: the mesh is told at once when a link is lost, and when it is open again, of the
// time that counts. Until then the message server is unreachable.
func TestLostLink(t *testing.T) {
	m := newMesh(t, "a")
	m.text("a", 1)
	w := m.link(0)
	m.now = m.now.Add(slowLink - 1)
	if m.unreachable("a") {
		t.Error("a link that was dialed a moment ago counts as broken")
	}
	m.now = m.now.Add(1)
	if !m.unreachable("a") {
		t.Error("a link that does not open does not count as broken")
	}
	w.open()
	if m.unreachable("a") || m.lost > 0 {
		t.Error("an open link counts as broken")
	}
	w.handler.Close(nil, nil)
	w.handler.Close(nil, nil)
	if !m.unreachable("a") || m.lost != 1 {
		t.Errorf("after the loss of a link the mesh was told of %d", m.lost)
	}
	m.kicks = []pb.Message{&pb.IMServerKickUser{}}
	m.now = m.now.Add(time.Second)
	m.text("a", 2)
	before := len(w.sent)
	w.open()
	if m.unreachable("a") || !slices.Equal(m.missed, []time.Duration{BrokenLasts + time.Second}) {
		t.Errorf("the mesh was told that it missed %v", m.missed)
	}
	if len(w.sent) != before+3 || !w.sent[before+1].(*pb.IMRoleSet).GetLost() ||
		w.sent[before+2] != m.kicks[0] {
		t.Errorf("after the loss %v were sent", w.sent[before:])
	}
}

// TestFullLink: what a link does not take is dropped. The mesh is told when the link is looked at,
// and not again for some seconds.
func TestFullLink(t *testing.T) {
	m := newMesh(t, "a")
	m.text("a", 1)
	w := m.link(0)
	w.open()
	w.full = true
	m.text("a", 2)
	m.wantDrops("link_full", 1)
	w.full = false
	for _, c := range []struct {
		after time.Duration
		told  int
	}{{time.Second, 1}, {recoverEvery - 1, 1}, {1, 2}} {
		m.pass(c.after)
		if len(m.missed) != c.told {
			t.Errorf("after %v the mesh was told %d times, want %d", c.after, len(m.missed), c.told)
		}
		if c.told == 1 {
			w.full = true
			m.text("a", 3)
			w.full = false
		}
	}
}

// TestLateServer: a message server that is found gets what was sent to all a moment ago, and a link
// when kicks wait for it.
func TestLateServer(t *testing.T) {
	m := newMesh(t)
	m.spread(1)
	m.now = m.now.Add(1)
	m.spread(2)
	m.now = m.now.Add(RecentLasts)
	m.list("a")
	m.link(0).open()
	wantIDs(t, m.link(0).ids(), 2)
	m.now = m.now.Add(1)
	m.list("a", "b")
	if len(m.dialed) != 1 {
		t.Error("a message server for which nothing waits was dialed")
	}
	for i := range uint32(maxRecent + 1) {
		m.spread(i)
	}
	if len(m.recent) != maxRecent || m.bytes != maxRecent*SizeOf(&pb.MsgData{}) {
		t.Errorf("%d messages of %d bytes are kept", len(m.recent), m.bytes)
	}
	m.now = m.now.Add(RecentLasts + 1)
	m.kicks = []pb.Message{&pb.IMServerKickUser{}}
	m.list("a", "b", "c")
	w := m.link(2)
	w.open()
	if w.to.Name != "c" || !slices.Equal(w.sent, m.kicks) || m.recent != nil {
		t.Errorf("%s got %v", w.to.Name, w.sent)
	}
}

// TestUnusedLink: a link without messages is closed, which is no loss. The next message dials.
func TestUnusedLink(t *testing.T) {
	m := newMesh(t, "a")
	m.text("a", 1)
	old := m.link(0)
	old.open()
	m.pass(m.opt.Idle - 1)
	if n := testutil.ToFloat64(m.open); n != 1 {
		t.Fatalf("%v links are open", n)
	}
	m.pass(1)
	<-old.closed
	old.handler.Close(nil, nil)
	m.text("a", 2)
	old.open() // it comes late
	wantIDs(t, old.ids(), 1)
	wantIDs(t, m.link(1).ids())
	m.link(1).open()
	wantIDs(t, m.link(1).ids(), 2)
	if n := testutil.ToFloat64(m.open); n != 1 || m.lost > 0 || len(m.missed) > 0 {
		t.Errorf("%v links are open, %d losses, missed: %v", n, m.lost, m.missed)
	}
}

// TestMovedServer: a message server has another address. Its link is closed, and dialed there.
func TestMovedServer(t *testing.T) {
	m := newMesh(t, "a")
	m.text("a", 1)
	m.mu.Lock()
	m.SetNodes([]registry.Node{{Name: "a", Epoch: 1, Addr: "moved"}},
		func(whereabouts.Node) bool { return false })
	m.mu.Unlock()
	<-m.link(0).closed
	m.link(0).open()
	wantIDs(t, m.link(0).ids())
	m.link(1).open()
	wantIDs(t, m.link(1).ids(), 1)
	if addr := m.link(1).to.Addr; addr != "moved" {
		t.Errorf("%s was dialed", addr)
	}
}
