package engine

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/cert/certtest"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/core/tlsconn"
	"teamtalk/proto/pb"
)

// encrypted returns the TLS of a listener.
func encrypted() *tlsconn.Handshakes {
	return tlsconn.NewHandshakes(tlsconn.Options{
		Config: &tls.Config{Certificates: []tls.Certificate{certtest.Shared().Pair}}})
}

// dialTLS returns a client with TLS.
func dialTLS(t testing.TB, s *Server) *client {
	t.Helper()
	c := dial(t, s)
	c.Conn = secured(c.Conn)
	return c
}

// secured returns the client's end of TLS on a connection.
func secured(c net.Conn) net.Conn {
	return tls.Client(c, &tls.Config{RootCAs: certtest.Shared().Roots, ServerName: "localhost"})
}

// TestTLSFrames sends frames in many pieces, several at once, and longer than a record.
func TestTLSFrames(t *testing.T) {
	r := newRole()
	s := start(t, Options{Name: "tls", Clients: r, TLS: encrypted()})
	c := dialTLS(t, s)
	short := frameOf(pb.CmdHeartBeat, 1, nil)
	for _, b := range short { // a record for each byte
		c.send([]byte{b})
	}
	c.want(short)
	long := frameOf(pb.CmdMsgData, 2, make([]byte, 300<<10))
	all := bytes.Join([][]byte{short, long, short, short}, nil)
	go func() { _, _ = c.Write(all) }() // the read reports an error
	c.want(all)
	c.echo(short)
	if err := c.Conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.wantEnd()
	if e := next(t, r.closed); e.err != nil {
		t.Errorf("the client's end: %v", e.err)
	}
}

// TestTLSEnds closes connections with TLS for each reason.
func TestTLSEnds(t *testing.T) {
	junk := func(t *testing.T, s *Server) *client {
		c := dial(t, s)
		c.send(frameOf(pb.CmdHeartBeat, 1, nil))
		return c
	}
	wrong := func(t *testing.T, s *Server) *client {
		c := dialTLS(t, s)
		c.send([]byte{0, 0, 0, 1})
		return c
	}
	untrusting := func(t *testing.T, s *Server) *client {
		c := dial(t, s)
		err := tls.Client(c.Conn, &tls.Config{ServerName: "localhost"}).Handshake()
		if err == nil {
			t.Error("a client trusts an unknown certificate")
		}
		return c
	}
	tests := []struct {
		name    string
		connect func(t *testing.T, s *Server) *client
		end     func(err error) bool
	}{
		{"plain text", junk, func(err error) bool { return errors.Is(err, session.ErrPlain) }},
		{"wrong frame", wrong, func(err error) bool { return errors.Is(err, pdu.ErrLength) }},
		{"alert of the client", untrusting, func(err error) bool { return err != nil }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRole()
			s := start(t, Options{Name: "tls", Clients: r, TLS: encrypted()})
			c := test.connect(t, s)
			_, _ = io.Copy(io.Discard, c) // alerts
			if e := next(t, r.closed); !test.end(e.err) {
				t.Errorf("the reason is %v", e.err)
			}
		})
	}
}

// TestPlainIsCounted: the operator sees in metrics and in the log that clients need TLS, and which
// setting says so.
func TestPlainIsCounted(t *testing.T) {
	reg, text := prometheus.NewRegistry(), new(bytes.Buffer)
	s := start(t, Options{Name: "port", Clients: newRole(), TLS: encrypted(), Registerer: reg,
		Log: slog.New(slog.NewTextHandler(text, nil))})
	c := dial(t, s)
	c.send(silent)
	c.wantEnd()
	want := `# HELP teamtalk_engine_refused_total Connections closed on arrival, by reason.
# TYPE teamtalk_engine_refused_total counter
teamtalk_engine_refused_total{listener="port",reason="plaintext"} 1
`
	err := testutil.GatherAndCompare(reg, strings.NewReader(want), "teamtalk_engine_refused_total")
	if err != nil {
		t.Error(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := text.String(); !strings.Contains(got, "127.0.0.1: a client without TLS") ||
		!strings.Contains(got, "tls.plain_networks") {
		t.Errorf("the log says %q", got)
	}
}

// TestTLSNotice closes a session from the server's side behind a last frame.
func TestTLSNotice(t *testing.T) {
	r := newRole()
	notice := frameOf(pb.CmdMsgData, 1, make([]byte, 200<<10))
	r.frame = func(s *session.Client, _ pdu.Header, _ []byte) {
		s.SendFrame(notice)
		s.Close(session.ErrIdle)
	}
	s := start(t, Options{Name: "tls", Clients: r, TLS: encrypted()})
	c := dialTLS(t, s)
	c.send(frameOf(pb.CmdHeartBeat, 1, nil))
	c.want(notice)
	c.wantEnd()
}

// TestTLSBesidePlain serves both kinds of connections on one port.
func TestTLSBesidePlain(t *testing.T) {
	r := newRole()
	s := start(t, Options{Name: "both", Clients: r, TLS: encrypted(),
		Plain: func(from netip.Addr) bool { return from.IsLoopback() }})
	frame := frameOf(pb.CmdHeartBeat, 1, nil)
	dial(t, s).echo(frame)
	dialTLS(t, s).echo(frame)
}

// TestTLSEarly sends a frame when the session opens, before the handshake.
func TestTLSEarly(t *testing.T) {
	r := newRole()
	hello := frameOf(pb.CmdHeartBeat, 7, nil)
	r.open = func(s *session.Client) error {
		s.SendFrame(hello)
		return nil
	}
	s := start(t, Options{Name: "tls", Clients: r, TLS: encrypted()})
	c := dialTLS(t, s)
	c.want(hello)
}

// TestTLSMemoryOfStrangers counts what handshakes hold, until their end.
func TestTLSMemoryOfStrangers(t *testing.T) {
	st := strangers(StrangerOptions{})
	s := start(t, Options{Name: "tls", Clients: doorRole(), TLS: encrypted(), Strangers: st})
	half := dial(t, s)
	half.send([]byte{22, 3, 1, 2, 0, 1})
	for st.Bytes() == 0 {
		time.Sleep(time.Millisecond) // no event reports that the bytes have arrived
	}
	half.Close()
	for range 3 {
		c := dialTLS(t, s)
		if err := c.Conn.(*tls.Conn).Handshake(); err != nil {
			t.Fatal(err)
		}
	}
	for st.Bytes() != 0 { // the test's timeout bounds the loop
		time.Sleep(time.Millisecond)
	}
}

// TestTLSSlow closes a client that does not read.
func TestTLSSlow(t *testing.T) {
	r := newRole()
	s := start(t, Options{Name: "tls", Clients: r, TLS: encrypted(), MaxBuffered: 256 << 10})
	c := dialTLS(t, s)
	c.echo(frameOf(pb.CmdHeartBeat, 1, nil))
	x := next(t, r.sessions)
	frame := frameOf(pb.CmdMsgData, 1, make([]byte, 4<<10))
	for {
		select {
		case e := <-r.closed:
			if !errors.Is(e.err, session.ErrSlow) && !errors.Is(e.err, session.ErrOverflow) {
				t.Errorf("the reason is %v", e.err)
			}
			return
		default:
			_ = x.PushShared(frame) // fails when the mailbox is full, until the loop has run
		}
	}
}

// TestTLSBehindClose ends the server while handshakes are open.
func TestTLSBehindClose(t *testing.T) {
	r := newRole()
	s := start(t, Options{Name: "tls", Clients: r, TLS: encrypted()})
	silent := dial(t, s)
	next(t, r.sessions)
	half := dial(t, s)
	half.send([]byte{22, 3, 1, 2, 0, 1})
	next(t, r.sessions)
	c := dialTLS(t, s)
	c.echo(frameOf(pb.CmdHeartBeat, 1, nil))
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client{silent, half, c} {
		c.wantEnd()
	}
}

// BenchmarkTLSEcho is the echo of one frame, with TLS and without.
func BenchmarkTLSEcho(b *testing.B) {
	for _, secure := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "tls"}[secure]
		b.Run(name, func(b *testing.B) {
			opt := Options{Name: "bench", Clients: newRole()}
			connect := dial
			if secure {
				opt.TLS, connect = encrypted(), dialTLS
			}
			s := start(b, opt)
			var clients []*client
			for range 64 {
				c := connect(b, s)
				_ = c.SetDeadline(time.Time{})
				clients = append(clients, c)
			}
			frame := frameOf(pb.CmdMsgData, 1, make([]byte, 100))
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for _, c := range clients {
				wg.Go(func() {
					for range b.N/len(clients) + 1 {
						c.echo(frame)
					}
				})
			}
			wg.Wait()
		})
	}
}
