package router

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// conn is a carrier that keeps the bytes written to it.
type conn struct {
	l      *session.Loop
	s      *session.Client
	out    []byte
	reason error
	closed bool
}

func (c *conn) Write(p []byte) error { c.out = append(c.out, p...); return nil }
func (c *conn) Buffered() int        { return 0 }
func (c *conn) Close()               { c.closed, c.reason = true, c.l.Remove(&c.s.Conn, nil) }

// table is a router of clients.
type table = Router[*session.Client]

func newRouter(opt Options) *table { return New[*session.Client](opt) }

// role is a router with the other methods of a session's handler.
type role struct{ *table }

func (role) Open(*session.Client) error   { return nil }
func (role) Close(*session.Client, error) {}

func connect(r *table) *conn {
	c := &conn{l: session.NewLoop(session.LoopOptions{Clients: role{r},
		Wake: func(*session.Loop, bool) {}})}
	c.l.Begin()
	c.s = c.l.AddClient(netip.MustParseAddrPort("192.0.2.7:1234"), c)
	c.l.End()
	return c
}

// frame delivers a frame to the router as the engine does, and returns the messages that
// were written.
func (c *conn) frame(tb testing.TB, cmd pb.Command, seq uint16, body []byte) []sent {
	tb.Helper()
	c.l.Begin()
	h := pdu.Header{Length: uint32(pdu.HeaderLen + len(body)), Command: cmd, Seq: seq}
	c.l.Deliver(&c.s.Conn, h, body)
	c.l.End()
	var all []sent
	for rest := c.out; len(rest) > 0; {
		h, body, n, err := pdu.Next(rest, pdu.MaxServerFrame)
		if err != nil || n == 0 {
			tb.Fatalf("written: %x", c.out)
		}
		m, err := pdu.Decode(h.Command, body)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, sent{h.Seq, m})
		rest = rest[n:]
	}
	c.out = nil
	return all
}

type sent struct {
	seq uint16
	m   pb.Message
}

func body(tb testing.TB, m pb.Message) []byte {
	tb.Helper()
	b, err := m.AppendBody(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func timeReq(*session.Client, uint16, *pb.IMClientTimeReq) error { return nil }

func TestDispatchBeforeAndAfterLogin(t *testing.T) {
	reg := prometheus.NewRegistry()
	r := newRouter(Options{Role: "msg", Registerer: reg})
	Handle(r, Public, func(s *session.Client, seq uint16, _ *pb.IMClientTimeReq) error {
		rsp := &pb.IMClientTimeRsp{}
		rsp.SetServerTime(1234)
		return s.Send(seq, rsp)
	})
	var texts []string
	Handle(r, LoggedIn, func(_ *session.Client, _ uint16, m *pb.MsgData) error {
		texts = append(texts, string(m.Data))
		return nil
	})
	c := connect(r)
	got := c.frame(t, pb.CmdClientTimeReq, 77, nil)
	if len(got) != 1 || got[0].seq != 77 || got[0].m.(*pb.IMClientTimeRsp).GetServerTime() != 1234 {
		t.Fatalf("answered %v", got)
	}
	text := body(t, &pb.MsgData{Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("one")})
	c.frame(t, pb.CmdMsgData, 78, text)
	if len(texts) > 0 {
		t.Error("served before login")
	}
	c.s.SetLoggedIn(7, pb.ClientType_CLIENT_TYPE_MAC)
	c.frame(t, pb.CmdMsgData, 78, text)
	c.l.Begin()
	r.Message(c.s, 79, &pb.MsgData{Data: []byte("two")}) // from a server in the same process
	c.l.End()
	if !slices.Equal(texts, []string{"one", "two"}) {
		t.Errorf("handled %q", texts)
	}
	if c.closed {
		t.Errorf("closed: %v", c.reason)
	}
	counted := `
		# HELP teamtalk_router_frames_total Frames handled, by command.
		# TYPE teamtalk_router_frames_total counter
		teamtalk_router_frames_total{cmd="IMClientTimeReq",role="msg"} 1
		teamtalk_router_frames_total{cmd="IMMsgData",role="msg"} 2
		# HELP teamtalk_router_unauthenticated_total Frames dropped before login.
		# TYPE teamtalk_router_unauthenticated_total counter
		teamtalk_router_unauthenticated_total{role="msg"} 1
		# HELP teamtalk_router_unknown_total Frames dropped because their command has no handler.
		# TYPE teamtalk_router_unknown_total counter
		teamtalk_router_unknown_total{role="msg"} 0
	`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(counted)); err != nil {
		t.Error(err)
	}
}

// TestUnhandledFramesAreCounted sends many frames that no handler takes, and one that
// needs a login.
func TestUnhandledFramesAreCounted(t *testing.T) {
	r := newRouter(Options{})
	Handle(r, Public, timeReq)
	Handle(r, LoggedIn, func(*session.Client, uint16, *pb.IMMsgDataAck) error {
		t.Error("served before login")
		return nil
	})
	for name, cmd := range map[string]pb.Command{
		"no handler":             pb.CmdMsgData,
		"no message":             0x03ee,
		"service without pages":  0x0801,
		"greatest":               0xffff,
		"zero":                   0,
		"no service":             0x0005,
		"beyond the page's end":  0x03ff,
		"before login":           pb.CmdMsgDataAck,
		"a service never filled": pb.CmdFileLoginReq,
	} {
		t.Run(name, func(t *testing.T) {
			unknown := testutil.ToFloat64(r.metrics.unknown)
			early := testutil.ToFloat64(r.metrics.unauthenticated)
			c := connect(r)
			for range 10 {
				if got := c.frame(t, cmd, 1, []byte("garbage")); len(got) > 0 {
					t.Fatalf("answered %v", got)
				}
			}
			if c.closed {
				t.Errorf("closed: %v", c.reason)
			}
			unknown = testutil.ToFloat64(r.metrics.unknown) - unknown
			early = testutil.ToFloat64(r.metrics.unauthenticated) - early
			if name == "before login" {
				unknown, early = early, unknown
			}
			if unknown != 10 || early != 0 {
				t.Errorf("counted %v, and %v of the other kind", unknown, early)
			}
		})
	}
}

func TestThirdMalformedBodyInARowCloses(t *testing.T) {
	r := newRouter(Options{})
	handled := 0
	Handle(r, Public, func(*session.Client, uint16, *pb.IMMsgDataAck) error {
		handled++
		return nil
	})
	ack := &pb.IMMsgDataAck{}
	ack.SetUserId(1)
	ack.SetSessionId(2)
	ack.SetMsgId(3)
	ack.SetSessionType(pb.SessionType_SESSION_TYPE_SINGLE)
	good, bad := body(t, ack), []byte{0xff}
	c := connect(r)
	// nil: required fields are missing
	for _, b := range [][]byte{bad, bad, good, bad, bad, nil, nil, nil, nil, bad, bad} {
		if got := c.frame(t, pb.CmdMsgDataAck, 1, b); len(got) > 0 {
			t.Fatalf("answered %v", got)
		}
	}
	if c.closed {
		t.Fatal("closed before the third in a row")
	}
	// Unknown commands neither count as malformed nor end the row.
	c.frame(t, 0x03ee, 1, nil)
	c.frame(t, pb.CmdMsgDataAck, 1, bad)
	if !c.closed || !errors.Is(c.reason, session.ErrMalformed) {
		t.Errorf("closed %v: %v", c.closed, c.reason)
	}
	if handled != 1 {
		t.Errorf("handled %d", handled)
	}
	for label, want := range map[string]float64{"malformed": 7, incomplete: 4} {
		if got := testutil.ToFloat64(r.metrics.errors.WithLabelValues(label)); got != want {
			t.Errorf("%s: counted %v, want %v", label, got, want)
		}
	}
}

func TestOnErrorAnswersByKind(t *testing.T) {
	refusal := map[pb.Command]error{}
	answer := func(m *pb.IMMsgServReq, k im.Kind) pb.Message {
		if k == im.Busy {
			return nil
		}
		rsp := &pb.IMMsgServRsp{}
		rsp.SetResultCode(pb.ResultType(k))
		return rsp
	}
	r := newRouter(Options{})
	Handle(r, Public, func(s *session.Client, _ uint16, m *pb.IMMsgServReq) error {
		return refusal[m.Command()]
	}, OnError(answer))
	Handle(r, Public, func(*session.Client, uint16, *pb.IMClientTimeReq) error {
		return im.Errorf(im.Denied, "no")
	})
	c := connect(r)
	for _, k := range []struct {
		err  error
		want int // the kind in the answer, -1 without an answer
	}{
		{nil, -1},
		{im.Errorf(im.Denied, "no"), int(im.Denied)},
		{im.WithKind(im.Unavailable, "no db", errors.New("down")), int(im.Unavailable)},
		{im.Errorf(im.Busy, "full"), -1},
		{errors.New("a bug"), int(im.Internal)},
	} {
		refusal[pb.CmdMsgServReq] = k.err
		counted := r.metrics.errors.WithLabelValues(im.KindOf(k.err).String())
		before := testutil.ToFloat64(counted)
		got := c.frame(t, pb.CmdMsgServReq, 9, nil)
		switch {
		case k.want < 0 && len(got) > 0:
			t.Errorf("%v: answered %v", k.err, got)
		case k.want < 0:
		case len(got) != 1 || got[0].seq != 9 || resultOf(got[0]) != k.want:
			t.Errorf("%v: answered %v", k.err, got)
		}
		if counts := testutil.ToFloat64(counted) - before; (counts == 1) != (k.err != nil) {
			t.Errorf("%v: counted %v", k.err, counts)
		}
	}
	if got := c.frame(t, pb.CmdClientTimeReq, 1, nil); len(got) > 0 {
		t.Errorf("without OnError, but answered %v", got)
	}
	if c.closed {
		t.Errorf("closed: %v", c.reason)
	}
}

// resultOf returns the result code of an IMMsgServRsp.
func resultOf(s sent) int { return int(s.m.(*pb.IMMsgServRsp).GetResultCode()) }

// TestFailureIsLoggedWithoutContent checks the level and fields of the line about a
// failed request, and that the message text is not in it.
func TestFailureIsLoggedWithoutContent(t *testing.T) {
	for _, c := range []struct {
		err   error
		level string
	}{
		{im.Errorf(im.Denied, "not yours"), "DEBUG"},
		{im.Errorf(im.Busy, "queue full"), "WARN"},
		{im.Errorf(im.Unavailable, "db is down"), "WARN"},
		{errors.New("a bug"), "ERROR"},
	} {
		var out bytes.Buffer
		log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		r := newRouter(Options{Role: "msg", Log: log})
		Handle(r, LoggedIn, func(*session.Client, uint16, *pb.MsgData) error { return c.err })
		cn := connect(r)
		cn.s.SetLoggedIn(7, pb.ClientType_CLIENT_TYPE_MAC)
		cn.frame(t, pb.CmdMsgData, 5, body(t, &pb.MsgData{
			Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("between us")}))
		if strings.Contains(out.String(), "between us") {
			t.Errorf("the message is in the log: %s", out.String())
		}
		var line struct {
			Level, Role, Cmd, Err string
			Conn                  uint64
			User                  uint32
			Seq                   uint16
		}
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatalf("%v: %s", err, out.String())
		}
		if line.Level != c.level || line.Role != "msg" || line.Cmd != "IMMsgData" ||
			line.Err != c.err.Error() ||
			line.Conn != cn.s.ID() || line.User != 7 || line.Seq != 5 {
			t.Errorf("logged %s", out.String())
		}
	}
}

// TestOverloadLogsOncePerSecond checks that the metrics still count every failure.
func TestOverloadLogsOncePerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		reg := prometheus.NewRegistry()
		log := slog.New(slog.NewTextHandler(&out, nil))
		r := newRouter(Options{Role: "msg", Registerer: reg, Log: log})
		Handle(r, Public, func(*session.Client, uint16, *pb.IMHeartBeat) error {
			return im.Errorf(im.Busy, "queue full")
		})
		cn := connect(r)
		for range 2 {
			for range 1000 {
				cn.frame(t, pb.CmdHeartBeat, 1, nil)
			}
			time.Sleep(time.Second)
		}
		if n := strings.Count(out.String(), "queue full"); n != 2 {
			t.Errorf("%d lines in two seconds", n)
		}
		if n := testutil.ToFloat64(r.metrics.errors.WithLabelValues("busy")); n != 2000 {
			t.Errorf("%g counted", n)
		}
	})
}

// peer is the other end of a link's session.
type peer struct{ got []sent }

func (p *peer) SendMessage(seq uint16, m pb.Message) error {
	p.got = append(p.got, sent{seq, m})
	return nil
}
func (p *peer) Close(error) {}

// TestServersNeedNoLogin checks that a link may send commands that need a login, and gets
// the same answers as a client when they fail.
func TestServersNeedNoLogin(t *testing.T) {
	r := New[*session.Link](Options{})
	deny := func(*session.Link, uint16, *pb.IMMsgServReq) error {
		return im.Errorf(im.Denied, "no")
	}
	Handle(r, LoggedIn, deny,
		OnError(func(*pb.IMMsgServReq, im.Kind) pb.Message { return &pb.IMHeartBeat{} }))
	p := &peer{}
	s := session.NewLink(session.NextID(), "msg-1", p)
	r.Message(s, 3, &pb.IMMsgServReq{})
	r.Frame(s, pdu.Header{Command: pb.CmdMsgServReq, Seq: 4}, nil)
	for range 5 {
		r.Frame(s, pdu.Header{Command: pb.CmdMsgServReq, Seq: 5}, []byte{0xff})
	}
	if len(p.got) != 2 || p.got[0].seq != 3 || p.got[1].seq != 4 {
		t.Errorf("answered %v", p.got)
	}
}

func TestTableIsSortedAndUnique(t *testing.T) {
	r := newRouter(Options{})
	if len(r.Table()) > 0 {
		t.Errorf("a new table holds %v", r.Table())
	}
	Handle(r, LoggedIn, func(*session.Client, uint16, *pb.MsgData) error { return nil })
	Handle(r, Public, func(*session.Client, uint16, *pb.IMHeartBeat) error { return nil })
	Handle(r, Public, timeReq)
	want := []Entry{{pb.CmdMsgData, true}, {pb.CmdClientTimeReq, false}, {pb.CmdHeartBeat, false}}
	if got := r.Table(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	defer func() {
		if p := recover(); p == nil || !strings.Contains(p.(string), "IMClientTimeReq") {
			t.Errorf("entered twice: %v", p)
		}
	}()
	Handle(r, LoggedIn, timeReq)
}

// TestEveryCommandFits checks that the table has room for every command.
func TestEveryCommandFits(t *testing.T) {
	r := newRouter(Options{})
	for _, cmd := range pb.Commands() {
		r.add(&route[*session.Client]{cmd: cmd})
		if r.find(cmd) == nil {
			t.Errorf("%s is lost", cmd)
		}
	}
	if got := len(r.Table()); got != len(pb.Commands()) {
		t.Errorf("%d in the table", got)
	}
}

func BenchmarkFrame(b *testing.B) {
	r := newRouter(Options{})
	Handle(r, LoggedIn, func(*session.Client, uint16, *pb.MsgData) error { return nil })
	Handle(r, Public, func(*session.Client, uint16, *pb.IMHeartBeat) error { return nil })
	text := body(b, &pb.MsgData{FromUserID: 1, ToSessionID: 2,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: make([]byte, 88)})
	c := connect(r)
	c.s.SetLoggedIn(7, pb.ClientType_CLIENT_TYPE_MAC)
	for _, f := range []struct {
		cmd  pb.Command
		body []byte
	}{{pb.CmdHeartBeat, nil}, {pb.CmdMsgData, text}, {0x03ee, nil}} {
		b.Run(f.cmd.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Frame(c.s, pdu.Header{Command: f.cmd, Seq: 1}, f.body)
			}
		})
	}
}

// TestLongBodyIsRefusedUndecoded: a body longer than its command allows reaches neither the
// decoder nor the handler, and does not count as malformed.
func TestLongBodyIsRefusedUndecoded(t *testing.T) {
	reg := prometheus.NewRegistry()
	r := newRouter(Options{Role: "msg", Registerer: reg, MaxBody: 3})
	Handle(r, Public, func(*session.Client, uint16, *pb.IMHeartBeat) error { return nil })
	Handle(r, Public, timeReq, MaxBody[*pb.IMClientTimeReq](5))
	Handle(r, Public, Ignore[*pb.MsgData, *session.Client], MaxBody[*pb.MsgData](0))
	refused := 0
	r.OnRefused(func(*session.Client, pb.Command, int) { refused++ })
	c := connect(r)
	garbage := bytes.Repeat([]byte{0xff}, 6)
	for range 5 {
		c.frame(t, pb.CmdHeartBeat, 1, garbage[:4])
		c.frame(t, pb.CmdClientTimeReq, 1, garbage)
	}
	if c.closed {
		t.Errorf("closed: %v", c.reason)
	}
	long := testutil.ToFloat64(r.metrics.errors.WithLabelValues("too_long"))
	if long != 10 || refused != 10 {
		t.Errorf("%v counted as too long, %d as refused, want 10", long, refused)
	}
	c.frame(t, pb.CmdMsgData, 1, garbage) // decoded
	if n := testutil.ToFloat64(r.metrics.errors.WithLabelValues("malformed")); n != 1 {
		t.Errorf("%v decoded, want 1", n)
	}
}
