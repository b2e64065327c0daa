package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/proxyproto"
	"teamtalk/core/session"
	"teamtalk/core/websocket"
	"teamtalk/proto/pb"
)

// page is a client of WebSocket: the other library's frames, masked, on a connection.
type page struct {
	*client
	in io.Reader
}

// opened sends the request of a browser on c, and reads the answer.
func opened(c *client) *page {
	c.t.Helper()
	d := ws.Dialer{Protocols: []string{"teamtalk"}}
	r, _, err := d.Upgrade(c.Conn, &url.URL{Scheme: "ws", Host: "127.0.0.1", Path: "/any"})
	if err != nil {
		c.t.Fatal(err)
	}
	p := &page{c, c.Conn}
	if r != nil {
		p.in = r
	}
	return p
}

func openPage(t testing.TB, s *Server) *page { return opened(dial(t, s)) }

// frame sends one frame.
func (p *page) frame(op ws.OpCode, fin bool, payload []byte) {
	p.t.Helper()
	f := ws.MaskFrame(ws.NewFrame(op, fin, bytes.Clone(payload)))
	p.send(ws.MustCompileFrame(f))
}

func (p *page) message(payload []byte) { p.t.Helper(); p.frame(ws.OpBinary, true, payload) }

// read returns the next frame.
func (p *page) read() ws.Frame {
	p.t.Helper()
	var f ws.Frame
	var err error
	if f.Header, err = ws.ReadHeader(p.in); err == nil {
		err = ws.CheckHeader(f.Header, ws.StateClientSide)
	}
	if err == nil {
		f.Payload = make([]byte, f.Header.Length)
		_, err = io.ReadFull(p.in, f.Payload)
	}
	if err != nil {
		p.t.Fatalf("read a frame: %v", err)
	}
	return f
}

// wantMessage reads one message, which must be frame.
func (p *page) wantMessage(frame []byte) {
	p.t.Helper()
	f := p.read()
	if f.Header.OpCode != ws.OpBinary || !f.Header.Fin || !bytes.Equal(f.Payload, frame) {
		p.t.Fatalf("%+v of %d bytes, want a message of %d", f.Header, len(f.Payload), len(frame))
	}
}

// wantClose reads a close frame with a code, and the end of the connection after it. The
// client calls answer in between.
func (p *page) wantClose(code int, answer func()) {
	p.t.Helper()
	f := p.read()
	got := websocket.CodeNone
	if len(f.Payload) >= 2 {
		got = int(f.Payload[0])<<8 | int(f.Payload[1])
	}
	if f.Header.OpCode != ws.OpClose || got != code {
		p.t.Fatalf("%+v with code %d, want a close with %d", f.Header, got, code)
	}
	if answer != nil {
		answer()
	}
	if _, err := ws.ReadHeader(p.in); !errors.Is(err, io.EOF) {
		p.t.Fatalf("after the close: %v, want the end", err)
	}
}

func (p *page) close(code ws.StatusCode) {
	p.t.Helper()
	p.frame(ws.OpClose, true, ws.NewCloseFrameBody(code, "bye"))
}

// shut ends the direction of the client.
func (p *page) shut() {
	_ = p.Conn.(interface{ CloseWrite() error }).CloseWrite() // the other end may be first
}

// webSocket starts a port for WebSocket.
func webSocket(t testing.TB, opt Options) *Server {
	t.Helper()
	opt.Name = "websocket"
	if opt.WebSocket == nil {
		opt.WebSocket = &WebSocket{}
	}
	return start(t, opt)
}

// TestWebSocketMessages: each message is one PDU in both directions, in one frame or in many, and
// control frames stand between the parts.
func TestWebSocketMessages(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			opt := Options{Clients: newRole()}
			var p *page
			if secure {
				opt.TLS = encrypted()
				p = opened(dialTLS(t, webSocket(t, opt)))
			} else {
				p = openPage(t, webSocket(t, opt))
			}
			p.message(hello)
			p.wantMessage(hello)
			p.frame(ws.OpText, true, hello)
			p.wantMessage(hello)
			long := frameOf(pb.CmdMsgData, 2, make([]byte, 70_000))
			p.frame(ws.OpBinary, false, long[:50_000])
			p.frame(ws.OpPing, true, []byte("now"))
			if f := p.read(); f.Header.OpCode != ws.OpPong || string(f.Payload) != "now" {
				t.Errorf("answer to a ping: %+v %q", f.Header, f.Payload)
			}
			p.frame(ws.OpContinuation, false, nil)
			p.frame(ws.OpContinuation, true, long[50_000:])
			p.wantMessage(long)
			for _, b := range ws.MustCompileFrame(ws.MaskFrame(ws.NewBinaryFrame(silent))) {
				p.send([]byte{b})
			}
			p.wantMessage(silent)
			p.close(1000)
			p.wantClose(1000, p.shut)
		})
	}
}

// TestWebSocketManyMessages: PDUs that leave in one write are messages of their own, whether they
// are copied, sent from their own memory, or sent in pieces.
func TestWebSocketManyMessages(t *testing.T) {
	var want [][]byte
	for i, n := range []int{0, 1, 100, 9 << 10, 20, 60 << 10, 300 << 10, 5, 64 << 10, 0} {
		want = append(want, frameOf(pb.CmdMsgData, uint16(i), bytes.Repeat([]byte{byte(i)}, n)))
	}
	r := newRole()
	r.frame = func(s *session.Client, h pdu.Header, _ []byte) {
		for _, f := range want {
			s.SendShared(f)
		}
	}
	p := openPage(t, webSocket(t, Options{Clients: r}))
	p.message(hello)
	p.frame(ws.OpPing, true, []byte("x")) // its answer stands between two messages
	for i := 0; i < len(want); {
		f := p.read()
		switch {
		case f.Header.OpCode == ws.OpPong:
		case !bytes.Equal(f.Payload, want[i]):
			t.Fatalf("message %d has %d bytes, want %d", i, len(f.Payload), len(want[i]))
		default:
			i++
		}
	}
}

// TestWebSocketFaults closes with the code of each fault, which a client that sends more can read.
func TestWebSocketFaults(t *testing.T) {
	r := newRole()
	s := webSocket(t, Options{Clients: r, MaxFrame: 1000})
	for name, test := range map[string]struct {
		send func(p *page)
		code int
		want error
	}{
		"no mask": {func(p *page) { p.send([]byte{0x82, 16}) }, 1002, session.ErrMalformed},
		"text of a page, no PDU": {func(p *page) { p.message([]byte("hello")) }, 1007,
			session.ErrMalformed},
		"two PDUs": {func(p *page) { p.message(bytes.Join([][]byte{hello, hello}, nil)) }, 1007,
			session.ErrMalformed},
		"half a PDU": {func(p *page) { p.message(hello[:len(hello)-1]) }, 1007,
			session.ErrMalformed},
		"too long": {func(p *page) { p.message(make([]byte, 1001)) }, 1009, pdu.ErrLength},
		"too long in parts": {func(p *page) {
			p.frame(ws.OpBinary, false, make([]byte, 600))
			p.frame(ws.OpContinuation, true, make([]byte, 600))
		}, 1009, pdu.ErrLength},
		"1006 on the wire": {func(p *page) { p.close(1006) }, 1002, session.ErrMalformed},
	} {
		p := openPage(t, s)
		test.send(p)
		p.message(hello)
		p.wantClose(test.code, func() {
			p.close(ws.StatusCode(test.code))
			p.shut()
		})
		if e := next(t, r.closed); !errors.Is(e.err, test.want) {
			t.Errorf("%s: closed because of %v, want %v", name, e.err, test.want)
		}
	}
}

// TestWebSocketServerCloses sends the code of each reason, after everything that was sent.
func TestWebSocketServerCloses(t *testing.T) {
	reg := prometheus.NewRegistry()
	r := newRole()
	var end atomic.Pointer[func(s *session.Client)]
	r.frame = func(s *session.Client, h pdu.Header, body []byte) {
		s.SendFrame(frameOf(h.Command, h.Seq, body))
		(*end.Load())(s)
	}
	s := webSocket(t, Options{Clients: r, Registerer: reg})
	kicked := im.Errorf(im.Denied, "kicked")
	for name, test := range map[string]struct {
		end  func(s *session.Client)
		code int
	}{
		"closed": {func(s *session.Client) { s.Close(session.ErrOverflow) }, 1013},
		"kicked": {func(s *session.Client) { s.Linger(kicked) }, 1008},
		"leaves": {func(s *session.Client) { s.Leave(session.ErrShutdown) }, 1001},
		"panics": {func(*session.Client) { panic("on purpose") }, 1011},
	} {
		end.Store(&test.end)
		p := openPage(t, s)
		p.message(hello)
		p.wantMessage(hello)
		p.wantClose(test.code, func() {
			p.message(hello) // is ignored
			p.close(ws.StatusCode(test.code))
		})
		if e := next(t, r.closed); e.err == nil {
			t.Errorf("%s: closed by the client", name)
		}
	}
	want := `
		# HELP teamtalk_websocket_closed_total Connections closed, by the side that was first.
		# TYPE teamtalk_websocket_closed_total counter
		teamtalk_websocket_closed_total{by="server",code="1001",listener="websocket"} 1
		teamtalk_websocket_closed_total{by="server",code="1008",listener="websocket"} 1
		teamtalk_websocket_closed_total{by="server",code="1011",listener="websocket"} 1
		teamtalk_websocket_closed_total{by="server",code="1013",listener="websocket"} 1
	`
	err := testutil.GatherAndCompare(reg, strings.NewReader(want),
		"teamtalk_websocket_closed_total")
	if err != nil {
		t.Error(err)
	}
}

// TestWebSocketSilentEnd: a client that does not close its end after the server's close frame is
// closed after two seconds.
func TestWebSocketSilentEnd(t *testing.T) {
	clock, r := newClock(), newRole()
	r.frame = func(s *session.Client, _ pdu.Header, _ []byte) { s.Close(session.ErrIdle) }
	s := webSocket(t, Options{Clients: r, Now: clock.now, AfterFunc: clock.afterFunc})
	p := openPage(t, s)
	p.message(hello)
	p.wantClose(1008, func() {
		settle(s)
		clock.advance(2 * time.Second)
	})
	if e := next(t, r.closed); !errors.Is(e.err, session.ErrIdle) {
		t.Errorf("closed because of %v", e.err)
	}
}

// TestWebSocketClientCloses echoes the code of the client, once.
func TestWebSocketClientCloses(t *testing.T) {
	r := newRole()
	s := webSocket(t, Options{Clients: r})
	for _, code := range []int{1000, 1001, 4000, websocket.CodeNone} {
		p := openPage(t, s)
		if code == websocket.CodeNone {
			p.frame(ws.OpClose, true, nil)
		} else {
			p.close(ws.StatusCode(code))
		}
		p.wantClose(code, nil)
		p.Close()
		if e := next(t, r.closed); e.err != nil {
			t.Errorf("%d: closed because of %v", code, e.err)
		}
	}
	p := openPage(t, s)
	p.Close() // without a close frame
	if e := next(t, r.closed); e.err != nil {
		t.Errorf("closed because of %v", e.err)
	}
}

// TestWebSocketRequests refuses what opens no connection, with an answer that the client can read.
func TestWebSocketRequests(t *testing.T) {
	reg := prometheus.NewRegistry()
	r := newRole()
	s := webSocket(t, Options{Clients: r, Registerer: reg})
	const get = "GET / HTTP/1.1\r\nHost: chat.example.com:8001\r\n"
	const upgrade = get + "Upgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	for reason, test := range map[string]struct {
		sent   string
		status int
	}{
		"origin":     {upgrade + "Origin: https://evil.example.com\r\n\r\n", 403},
		"no_upgrade": {get + "\r\n", 400},
		"version":    {strings.Replace(upgrade, "13", "8", 1) + "\r\n", 426},
		"not_http":   {string(hello), 400},
		"malformed":  {strings.Replace(upgrade, "1.1", "1.0", 1) + "\r\n", 505},
	} {
		c := dial(t, s)
		c.send([]byte(test.sent))
		c.send([]byte("more")) // does not destroy the answer
		got, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || got.StatusCode != test.status {
			t.Fatalf("%s: %v, %v", reason, got, err)
		}
		c.Close()
		if e := next(t, r.closed); !errors.Is(e.err, session.ErrMalformed) {
			t.Errorf("%s: closed because of %v", reason, e.err)
		}
		refused := s.webSocket.refused.WithLabelValues(reason)
		if n := testutil.ToFloat64(refused); n != 1 {
			t.Errorf("%s: counted %v times", reason, n)
		}
	}
	allowed := dial(t, s)
	allowed.send([]byte(upgrade + "Origin: https://chat.example.com\r\n\r\n"))
	got, err := http.ReadResponse(bufio.NewReader(allowed), nil)
	if err != nil || got.StatusCode != 101 {
		t.Errorf("page of the same host: %v, %v", got, err)
	}
}

// TestWebSocketThroughAProxy: the header of the PROXY protocol, then TLS, then WebSocket.
func TestWebSocketThroughAProxy(t *testing.T) {
	p, _ := proxies(proxyproto.Options{})
	r := newRole()
	s := webSocket(t, Options{Clients: r, Proxies: p, TLS: encrypted(),
		Plain: func(from netip.Addr) bool { return from.IsLoopback() }})
	c := dialFrom(t, s, proxyAddr)
	c.send(headerTLS)
	through := opened(c)
	through.message(hello)
	through.wantMessage(hello)
	if got := next(t, r.sessions).RemoteAddr(); got != clientAddr {
		t.Errorf("address %v, want that of the header", got)
	}
	c = dialFrom(t, s, proxyAddr)
	c.send(headerV1)
	through = opened(&client{secured(c.Conn), t})
	through.message(hello)
	through.wantMessage(hello)
}

// TestWebSocketDeadlines: the request has the handler's deadline, the login that of the port.
func TestWebSocketDeadlines(t *testing.T) {
	clock, r := newClock(), newRole()
	r.open = func(s *session.Client) error {
		s.SetDeadline(15 * time.Second)
		return nil
	}
	s := webSocket(t, Options{Clients: r, Now: clock.now, AfterFunc: clock.afterFunc,
		WebSocket: &WebSocket{LoginDeadline: 10 * time.Minute}})
	silent, open := dial(t, s), openPage(t, s)
	for range 2 {
		next(t, r.sessions)
	}
	silent.send([]byte("GET / HTTP/1.1\r\n"))
	settle(s)
	clock.advance(20 * time.Second)
	silent.wantEnd()
	if e := next(t, r.closed); !errors.Is(e.err, session.ErrLoginDeadline) {
		t.Errorf("closed because of %v", e.err)
	}
	open.message(hello)
	open.wantMessage(hello)
	settle(s)
	clock.advance(10 * time.Minute)
	open.wantClose(1008, func() { open.close(1008) })
}

// TestWebSocketSlowReader closes a client that does not read, and bounds the answers to pings.
func TestWebSocketSlowReader(t *testing.T) {
	r := newRole()
	answer := frameOf(pb.CmdMsgData, 1, make([]byte, 4<<10)) // thousands in one turn
	r.frame = func(s *session.Client, _ pdu.Header, _ []byte) { s.SendFrame(answer) }
	s := webSocket(t, Options{Clients: r, MaxBuffered: 128 << 10})
	p := openPage(t, s)
	go func() {
		b := ws.MustCompileFrame(ws.MaskFrame(ws.NewBinaryFrame(hello)))
		for err := error(nil); err == nil; {
			_, err = p.Write(b)
		}
	}()
	if e := next(t, r.closed); !errors.Is(e.err, session.ErrSlow) {
		t.Errorf("closed because of %v", e.err)
	}
}

// TestWebSocketShutdown tells clients that the server goes away.
func TestWebSocketShutdown(t *testing.T) {
	r := newRole()
	s := webSocket(t, Options{Clients: r})
	p := openPage(t, s)
	next(t, r.sessions)
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.Background()) }()
	p.wantClose(1001, func() { p.close(1001) })
	if err := next(t, closed); err != nil {
		t.Error(err)
	}
}

// TestWebSocketStrangers: a request and the parts of a message count toward the memory of clients
// without a login.
func TestWebSocketStrangers(t *testing.T) {
	st := strangers(StrangerOptions{})
	r := newRole()
	s := webSocket(t, Options{Clients: r, Strangers: st})
	p := openPage(t, s)
	p.frame(ws.OpBinary, false, make([]byte, 30_000))
	for range 2 { // the bytes are counted after the first answer, and before the second
		p.frame(ws.OpPing, true, nil)
		p.read()
	}
	if n := st.Bytes(); n != 30_000 {
		t.Errorf("%d bytes count, want 30,000", n)
	}
	p.frame(ws.OpContinuation, true, make([]byte, 40_000))
	p.wantClose(1009, p.shut)
	next(t, r.closed)
	if n := st.Bytes(); n != 0 {
		t.Errorf("%d bytes count at the end", n)
	}
}
