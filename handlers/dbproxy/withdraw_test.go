package dbproxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/opt/opttest"
	"teamtalk/handlers/dbproxy"
	"teamtalk/pool"
	"teamtalk/proto/pb"
)

// features introduces a message server that understands refusals.
func features() *pb.IMRoleSet {
	return pb.IMRoleSet_builder{Master: proto.Uint32(0), Features: proto.Uint32(
		uint32(pb.ServerFeature_SERVER_FEATURE_REFUSALS))}.Build()
}

// called is a message of a caller that waits for an answer.
func called(body string) *pb.MsgData {
	m := sentBy(1, 0, text(1, 2, body))
	m.AttachData = []byte("way back")
	return m
}

var errNoStore = im.Errorf(im.Unavailable, "no store")

// watch runs Watch with the hook of the store as its ping.
func (h *house) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.server.Watch(ctx, func(context.Context) error { return h.store.before() })
	}()
	h.t.Cleanup(func() { cancel(); <-done })
}

// calls is the links of a message server to db_proxies.
func calls(t *testing.T, houses ...*house) *link.Group {
	t.Helper()
	c := config.Default()
	var servers []link.Server
	for i, h := range houses {
		name := fmt.Sprint("db", i)
		p := link.Dial(opttest.Fill(link.Options{Name: name,
			Addr: h.addr, Answers: link.NewAnswers(int(c.Link.MaxAnswer)),
			Features: uint32(pb.ServerFeature_SERVER_FEATURE_REFUSALS |
				pb.ServerFeature_SERVER_FEATURE_PARTS)},
			link.Options{DialTimeout: c.Link.DialTimeout, Heartbeat: c.Link.Heartbeat,
				IdleLimit: c.Link.Timeout, MaxBackoff: c.Link.BackoffMax,
				CallTimeout: c.Link.CallTimeout, MaxFrame: int(c.Link.MaxFrame)}))
		servers = append(servers, link.Server{Name: name, Conns: []link.Peer{p}})
	}
	g := link.NewGroup("dbproxy", nil, servers...)
	t.Cleanup(func() { g.Close() })
	for _, p := range g.Peers() {
		await(t, p.Up)
	}
	return g
}

// await waits until ok reports true.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	for !ok() {
		if t.Context().Err() != nil {
			t.Fatal("the test ended")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestStoreOfOneDies checks that messages are stored at another db_proxy, in the order of
// their sender, when the store of one fails. That one withdraws, and returns when its store
// works again.
func TestStoreOfOneDies(t *testing.T) {
	a, b := open(t, options{}), open(t, options{})
	a.watch()
	b.watch()
	g := calls(t, a, b)
	fails := func() error { return errNoStore }
	a.store.set(fails)
	b.store.set(fails)
	type result struct {
		m   pb.Message
		err error
	}
	send := func(n int, epoch uint32) (results []chan result) {
		for i := range n {
			c := make(chan result, 1)
			results = append(results, c)
			m := called(fmt.Sprint(i))
			m.Epoch = epoch
			if err := g.TryCall(0, uint16(i+1), m, func(m pb.Message, err error) {
				c <- result{m, err}
			}); err != nil {
				t.Fatal(err)
			}
		}
		return results
	}
	var refusal *link.Refusal
	if r := <-send(1, 0)[0]; !errors.As(r.err, &refusal) || !refusal.Elsewhere {
		t.Fatalf("with no store at all: %v, %v", r.m, r.err)
	}
	await(t, g.Withdrawn)
	b.store.set(nil)
	await(t, func() bool { return !g.Withdrawn() }) // b has returned
	// The link to a may still be used by a server that has not read the withdrawal.
	last := uint32(0)
	for i, c := range send(50, 1) {
		r := <-c
		m, ok := r.m.(*pb.MsgData)
		if r.err != nil || !ok || m.MsgID <= last {
			t.Fatalf("message %d: %+v, %v, after id %d", i, r.m, r.err, last)
		}
		last = m.MsgID
	}
	a.store.set(nil)
	await(t, func() bool { return !g.Peers()[0].Withdrawn() })
	if r := <-send(1, 1)[0]; r.err != nil || r.m.(*pb.MsgData).MsgID == 0 {
		t.Errorf("after the return: %v, %v", r.m, r.err)
	}
}

// TestWithdrawalOfStock checks that a message server that does not understand a withdrawal
// is told that this db_proxy stops, and that its link is closed on return.
func TestWithdrawalOfStock(t *testing.T) {
	h := open(t, options{})
	h.watch()
	stock, ours := h.dial(), h.dial()
	ours.send(0, features())
	ask[*pb.MsgData](ours, 1, text(1, 2, "a"))
	ask[*pb.MsgData](stock, 1, text(1, 2, "a"))
	h.store.set(func() error { return errNoStore })
	stock.send(2, text(1, 2, "b"))
	for refused, told := false, false; !refused || !told; { // in either order
		switch _, m, _ := stock.read(); m := m.(type) {
		case *pb.MsgData:
			if refused = true; m.MsgID != 0 {
				t.Errorf("stored as %d without a store", m.MsgID)
			}
		case *pb.IMStopReceivePacket:
			if told = true; m.HasMayReturn() {
				t.Errorf("a stock server was told %v", m)
			}
		}
	}
	if m := answer[*pb.IMStopReceivePacket](ours, 0); !m.GetMayReturn() {
		t.Errorf("our server was told %v", m)
	}
	late := h.dial() // it is told once it says that it understands
	late.send(0, features())
	if m := answer[*pb.IMStopReceivePacket](late, 0); !m.GetMayReturn() {
		t.Errorf("a new link was told %v", m)
	}
	h.store.set(nil)
	if m := answer[*pb.IMStopReceivePacket](ours, 0); !m.GetReturned() {
		t.Errorf("our server was told %v", m)
	}
	if _, err := io.Copy(io.Discard, stock.in); err != nil {
		t.Errorf("the link was not closed: %v", err)
	}
}

// TestDraining lets a db_proxy drain while another one serves, also while its own store fails
// and works again. It returns when both reasons are gone.
func TestDraining(t *testing.T) {
	h := open(t, options{})
	h.watch()
	ours := h.dial()
	ours.send(0, features())
	ask[*pb.MsgData](ours, 1, text(1, 2, "a"))
	h.server.SetDraining(true)
	if m := answer[*pb.IMStopReceivePacket](ours, 0); !m.GetMayReturn() {
		t.Errorf("the message server was told %v", m)
	}
	h.server.SetDraining(true)                    // once more
	ask[*pb.MsgData](ours, 2, text(1, 2, "late")) // it was on its way
	h.store.set(func() error { return errNoStore })
	ours.send(3, text(1, 2, "b"))
	if _, m, _ := ours.read(); m.Command() == pb.CmdStopReceivePacket {
		t.Errorf("the message server was told again: %v", m)
	}
	h.server.SetDraining(false)
	h.store.set(nil)
	if m := answer[*pb.IMStopReceivePacket](ours, 0); !m.GetReturned() {
		t.Errorf("the message server was told %v", m)
	}
}

// TestRefusals checks the answers to requests that fail, on the link of a server that
// understands refusals.
func TestRefusals(t *testing.T) {
	doubt := im.WithKind(im.Unavailable, "lost", im.ErrInDoubt)
	for name, c := range map[string]struct {
		err                error
		kind               pb.RefusalKind
		elsewhere, inDoubt bool
	}{
		"no store": {errNoStore, pb.RefusalKind_REFUSAL_KIND_UNAVAILABLE, true, false},
		"in doubt": {doubt, pb.RefusalKind_REFUSAL_KIND_UNAVAILABLE, false, true},
		"invalid": {im.Errorf(im.Invalid, "no such user"),
			pb.RefusalKind_REFUSAL_KIND_INVALID, false, false},
		"fault": {im.Errorf(im.Internal, "no table"), pb.RefusalKind_REFUSAL_KIND_FAILED, false,
			false},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, options{})
			h.store.set(func() error { return c.err })
			p := h.dial()
			p.send(0, features())
			m := ask[*pb.IMRequestRefused](p, 1, called("a"))
			if m.GetKind() != c.kind || m.GetElsewhere() != c.elsewhere ||
				m.GetInDoubt() != c.inDoubt || m.GetReason() != c.err.Error() ||
				string(m.GetAttachData()) != "way back" {
				t.Errorf("message: %v", m)
			}
			// A query that was started is not given to another server.
			if m := ask[*pb.IMRequestRefused](p, 2, unreadOf(1)); m.GetElsewhere() ||
				m.GetKind() != c.kind {
				t.Errorf("query: %v", m)
			}
		})
	}
}

// TestPipelinedBehindRefused checks that a message behind one that another db_proxy may
// store may be stored there too, and that messages of a later round are not held back.
func TestPipelinedBehindRefused(t *testing.T) {
	h := open(t, options{pool: pool.Options{Workers: 1}})
	p := h.dial()
	p.send(0, features())
	h.store.set(func() error { return errNoStore })
	ask[*pb.IMRequestRefused](p, 1, called("a"))
	h.store.set(nil)
	if m := ask[*pb.IMRequestRefused](p, 2, called("b")); !m.GetElsewhere() {
		t.Errorf("behind the refused message: %v", m)
	}
	later := called("c")
	later.Round = 1
	if m := ask[*pb.MsgData](p, 3, later); m.MsgID == 0 {
		t.Error("a message of a later round is held back")
	}
}

// TestDrainWaitsForLinks checks that Drain waits until the message servers that understand
// refusals have closed their links, and that they give what they sent meanwhile to another
// db_proxy.
func TestDrainWaitsForLinks(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	p.send(0, features())
	ask[*pb.MsgData](p, 1, text(1, 2, "a"))
	drained := make(chan error, 1)
	go func() { drained <- h.server.Drain(context.Background()) }()
	answer[*pb.IMStopReceivePacket](p, 0)
	m := ask[*pb.IMRequestRefused](p, 2, called("b"))
	if !m.GetElsewhere() || m.GetKind() != pb.RefusalKind_REFUSAL_KIND_CLOSED {
		t.Errorf("message while draining: %v", m)
	}
	if m := ask[*pb.IMRequestRefused](p, 3, validateReq("u00001", "pw")); !m.GetElsewhere() {
		t.Errorf("login while draining: %v", m)
	}
	if m := ask[*pb.IMRequestRefused](p, 4, unreadOf(1)); !m.GetElsewhere() {
		t.Errorf("query while draining: %v", m)
	}
	p.conn.Close()
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// TestAnswerTooLong checks that a request whose answer is longer than a frame between
// servers is refused, that the log names the setting, and that the link stays.
func TestAnswerTooLong(t *testing.T) {
	log := &lockedBuffer{}
	h := open(t, options{users: 200, db: dbproxy.Options{MaxFrame: 4096,
		Log: slog.New(slog.NewTextHandler(log, nil))}})
	p := h.dial()
	p.send(0, features())
	for seq, req := range []pb.Message{
		pb.IMAllUserReq_builder{UserId: proto.Uint32(1), LatestUpdateTime: proto.Uint32(0),
			AttachData: []byte("way back")}.Build(),
		pb.IMUsersInfoReq_builder{UserId: proto.Uint32(1), UserIdList: numbers(200),
			AttachData: []byte("way back")}.Build(),
	} {
		m := ask[*pb.IMRequestRefused](p, uint16(seq+1), req)
		if m.GetKind() != pb.RefusalKind_REFUSAL_KIND_INVALID || m.GetElsewhere() ||
			!m.GetTooLong() || !strings.Contains(m.GetReason(), "link.max_frame") {
			t.Errorf("%s: %v", req.Command(), m)
		}
	}
	stock := h.dial()
	stock.send(1, pb.IMAllUserReq_builder{UserId: proto.Uint32(1),
		LatestUpdateTime: proto.Uint32(0)}.Build())
	ask[*pb.MsgData](stock, 2, text(1, 2, "the link is up"))
	ask[*pb.MsgData](p, 3, text(1, 2, "the link is up"))
	if s := log.String(); !strings.Contains(s, "level=ERROR") ||
		!strings.Contains(s, "link.max_frame") {
		t.Errorf("logged: %s", s)
	}
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends p.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns what was written.
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// numbers returns 1 … n.
func numbers(n uint32) (all []uint32) {
	for i := range n {
		all = append(all, i+1)
	}
	return all
}
