package web

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"teamtalk/core/cert/certtest"
	"teamtalk/core/engine"
	"teamtalk/core/origin"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/core/tlsconn"
	port "teamtalk/core/web"
	"teamtalk/core/web/webtest"
	"teamtalk/core/websocket"
	"teamtalk/proto/pb"
)

// TestCarry carries bytes in both directions, also those that a page sends before it has an
// answer, and the end of either side.
func TestCarry(t *testing.T) {
	asked := make(chan *http.Request, 1)
	w := serve(t, Options{}, port.Options{}, func(c net.Conn) {
		r, in, err := head(c)
		if err != nil {
			t.Error(err)
		}
		asked <- r
		_, _ = io.WriteString(c, switching+"first ")
		_, _ = io.Copy(c, in)
		_, _ = io.WriteString(c, "last")
		_ = c.Close()
	})
	p := w.open(t, "Origin: https://chat.example.com:8800\r\nSec-WebSocket-Protocol: a\r\n"+
		"Cookie: secret\r\nSec-WebSocket-Extensions: permessage-deflate\r\n", "early ")
	if got := p.answer(); got.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(got.Status)
	}
	p.wants("first early ")
	large := strings.Repeat("large ", 1<<20)
	go io.WriteString(p, large)
	p.wants(large)
	if n := w.Open(); n != 1 {
		t.Errorf("%d WebSockets open", n)
	}
	r := <-asked
	if h := r.Header; r.Host != "chat.example.com" || h.Get("Sec-WebSocket-Key") == "" ||
		h.Get("Sec-WebSocket-Protocol") != "a" || h.Get("Sec-WebSocket-Version") != "13" ||
		len(h) != 5 {
		t.Errorf("the message server gets %q, %v", r.Host, h)
	}
	_ = p.Conn.(*net.TCPConn).CloseWrite()
	p.wants("last")
	p.wantsEnd()
	eventually(t, "the end", func() bool { return w.Open() == 0 && w.port.Open() == 0 })
	if n := w.results(t, resultOpen); n != 1 {
		t.Errorf("%d counted as open", n)
	}
}

// TestFitting keeps the buffer of a direction that is idle small, and lets it grow for large
// messages.
func TestFitting(t *testing.T) {
	buf := make([]byte, minChunk)
	for range 20 {
		buf = fitting(buf, len(buf))
	}
	if len(buf) != maxChunk {
		t.Errorf("%d bytes after large messages, want %d", len(buf), maxChunk)
	}
	if buf = fitting(buf, maxChunk/2); len(buf) != maxChunk {
		t.Errorf("%d bytes after half a buffer, want %d", len(buf), maxChunk)
	}
	if buf = fitting(buf, 100); len(buf) != minChunk {
		t.Errorf("%d bytes after a small message, want %d", len(buf), minChunk)
	}
}

// TestServerEnds ends the connection of a page that does not end its own side.
func TestServerEnds(t *testing.T) {
	w := serve(t, Options{Linger: time.Millisecond}, port.Options{}, func(c net.Conn) {
		_, _, _ = head(c)
		_, _ = io.WriteString(c, switching+"bye")
		_ = c.Close()
	})
	p := w.open(t, "", "")
	p.answer()
	p.wants("bye")
	p.wantsEnd()
	eventually(t, "the end", func() bool { return w.Open() == 0 && w.port.Open() == 0 })
}

// TestDeafPage ends the connection of a page that reads nothing.
func TestDeafPage(t *testing.T) {
	ended := make(chan error, 1)
	w := serve(t, Options{WriteTimeout: 20 * time.Millisecond}, port.Options{},
		func(c net.Conn) {
			_, _, _ = head(c)
			_, _ = io.WriteString(c, switching)
			for {
				if _, err := c.Write(make([]byte, 1<<20)); err != nil {
					ended <- err
					return
				}
			}
		})
	w.open(t, "", "")
	<-ended
	eventually(t, "the end", func() bool { return w.Open() == 0 && w.port.Open() == 0 })
}

// TestRefusals answers requests that become no WebSocket.
func TestRefusals(t *testing.T) {
	silent := func(c net.Conn) { _, _ = io.ReadAll(c) }
	refusing := func(c net.Conn) {
		_, _, _ = head(c)
		_, _ = io.WriteString(c, websocket.BadRequest)
		_ = c.Close()
	}
	ending := func(c net.Conn) { _ = c.Close() }
	for name, test := range map[string]struct {
		messages        func(net.Conn)
		headers, result string
		status          int
	}{
		"no server": {nil, "", resultNoServer, 503},
		"silent":    {silent, "", resultSilent, 503},
		"ending":    {ending, "", resultSilent, 503},
		"refusing":  {refusing, "", resultRefused, 400},
		"origin":    {echo, "Origin: https://evil.example.com\r\n", resultOrigin, 403},
		"null":      {echo, "Origin: null\r\n", resultOrigin, 403},
		"two origins": {echo, "Origin: https://chat.example.com\r\nOrigin: https://evil\r\n",
			resultUpgrade, 426},
		"long": {echo, "Sec-WebSocket-Protocol: " + strings.Repeat("x", websocket.MaxHead) +
			"\r\n", resultUpgrade, 426},
	} {
		w := serve(t, Options{AnswerTimeout: 50 * time.Millisecond, Linger: time.Millisecond},
			port.Options{}, test.messages)
		p := w.open(t, test.headers, "")
		if got := p.answer(); got.StatusCode != test.status {
			t.Errorf("%s: %s, want %d", name, got.Status, test.status)
		}
		if n := w.results(t, test.result); n != 1 {
			t.Errorf("%s: %d counted as %s", name, n, test.result)
		}
		eventually(t, name, func() bool { return w.Open() == 0 })
	}
	w := serve(t, Options{}, port.Options{}, echo)
	got, _ := w.ask(t, "GET", "/ws", "")
	if got.StatusCode != http.StatusUpgradeRequired || got.Header.Get("Upgrade") != "websocket" {
		t.Errorf("no upgrade: %s, %v", got.Status, got.Header)
	}
}

// TestPlainRequest opens no WebSocket for requests that a proxy passes on as plain ones.
func TestPlainRequest(t *testing.T) {
	const (
		get     = "GET /ws HTTP/1.1\r\n"
		upgrade = "Upgrade: websocket\r\n"
		asks    = "Connection: keep-alive, upgrade\r\n"
	)
	for name, test := range map[string]struct {
		head, body string
		status     int
	}{
		"upgrade": {get + asks + upgrade, "", http.StatusSwitchingProtocols},
		"root":    {"GET / HTTP/1.1\r\n" + asks + upgrade, "", http.StatusSwitchingProtocols},
		"other path": {"GET /chat/socket HTTP/1.1\r\n" + asks + upgrade, "",
			http.StatusSwitchingProtocols},
		"no connection": {get + upgrade, "", http.StatusUpgradeRequired},
		"close": {get + "Connection: close\r\n" + upgrade, "",
			http.StatusUpgradeRequired},
		"HTTP/1.0": {"GET /ws HTTP/1.0\r\n" + asks + upgrade, "", http.StatusUpgradeRequired},
		"HEAD":     {"HEAD /ws HTTP/1.1\r\n" + asks + upgrade, "", http.StatusUpgradeRequired},
		"body": {get + asks + upgrade + "Content-Length: 1\r\n", "x",
			http.StatusUpgradeRequired},
		"chunks": {get + asks + upgrade + "Transfer-Encoding: chunked\r\n", "0\r\n\r\n",
			http.StatusUpgradeRequired},
	} {
		w := serve(t, Options{}, port.Options{}, echo)
		c := webtest.Dial(t, w.port)
		p := &tab{c, t, bufio.NewReader(c)}
		p.send(test.head + "Host: chat.example.com\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + test.body)
		if got := p.answer(); got.StatusCode != test.status {
			t.Errorf("%s: %s, want %d", name, got.Status, test.status)
		}
	}
}

// TestClose ends WebSockets, and lets no more begin.
func TestClose(t *testing.T) {
	w := serve(t, Options{}, port.Options{}, echo)
	p := w.open(t, "", "x")
	p.answer()
	p.wants("x")
	_ = w.Close(t.Context())
	p.wantsEnd()
	late := w.open(t, "", "")
	late.wantsEnd()
	if n := w.results(t, resultStopping); n != 1 {
		t.Errorf("%d counted as stopping", n)
	}
}

// TestAddress tells the message server the address of the client and whether it has TLS.
func TestAddress(t *testing.T) {
	type client struct {
		addr   netip.AddrPort
		secure bool
	}
	got := make(chan client, 1)
	cert := certtest.Shared()
	w := serve(t, Options{
		Messages: func(_ context.Context, a netip.AddrPort, secure bool) (net.Conn, error) {
			got <- client{a, secure}
			near, far := conns(t)
			go echo(far)
			return near, nil
		},
	}, port.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert.Pair}},
		Plain:      func(netip.Addr) bool { return true },
		Forwarders: origin.Networks{netip.MustParsePrefix("127.0.0.0/8")}}, nil)
	p := openOn(t, secured(t, w, &tls.Config{RootCAs: cert.Roots, ServerName: "localhost"}),
		"X-Forwarded-For: 203.0.113.9\r\n", "x")
	p.answer()
	p.wants("x")
	if c := <-got; c.addr.Addr().String() != "203.0.113.9" || !c.secure {
		t.Errorf("%v", c)
	}
	p = w.open(t, "", "x")
	p.answer()
	if c := <-got; c.addr.String() != p.LocalAddr().String() || c.secure {
		t.Errorf("%v, want %v", c, p.LocalAddr())
	}
}

// clients are sessions that send each PDU back.
type clients struct{ from chan netip.AddrPort }

func (c clients) Open(s *session.Client) error {
	c.from <- s.RemoteAddr()
	return nil
}

func (clients) Frame(s *session.Client, h pdu.Header, body []byte) {
	s.SendFrame(append(pdu.AppendHeader(nil, h.Command, h.Seq), body...)) // of a heartbeat
}

func (clients) Close(*session.Client, error) {}

// unmasked is a frame of a client whose mask is zero: a heartbeat.
func unmasked() string {
	p := pdu.AppendHeader(nil, pb.CmdHeartBeat, 7)
	return string(append([]byte{0x82, 0x80 | byte(len(p)), 0, 0, 0, 0}, p...))
}

// TestEngine reaches a message server's engine without a port, which closes with a code.
func TestEngine(t *testing.T) {
	handler := clients{make(chan netip.AddrPort, 1)}
	s, err := engine.Start(engine.Options{Name: "pages", Clients: handler,
		WebSocket: &engine.WebSocket{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	attach := func(_ context.Context, a netip.AddrPort, secure bool) (net.Conn, error) {
		return s.Attach(a, secure)
	}
	w := serve(t, Options{Messages: attach, Linger: time.Millisecond}, port.Options{}, nil)
	p := w.open(t, "Origin: http://chat.example.com\r\n", "")
	if got := p.answer(); got.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(got.Status)
	}
	p.send(unmasked())
	p.wants("\x82\x10" + string(pdu.AppendHeader(nil, pb.CmdHeartBeat, 7)))
	if a := <-handler.from; a.String() != p.LocalAddr().String() {
		t.Errorf("address %v, want %v", a, p.LocalAddr())
	}
	p.send("\x88\x82\x00\x00\x00\x00\x03\xe8") // a close frame with code 1000
	p.wants("\x88\x02\x03\xe8")
	p.wantsEnd()
	eventually(t, "the end", func() bool { return w.Open() == 0 && s.Open() == 0 })
}

// TestAdopt gives the connections of pages to a message server's engine, with TLS and without, also
// with what a page sends before it has an answer. The HTTP port forgets them.
func TestAdopt(t *testing.T) {
	cert := certtest.Shared()
	config := &tls.Config{Certificates: []tls.Certificate{cert.Pair}}
	handler := clients{make(chan netip.AddrPort, 1)}
	s, err := engine.Start(engine.Options{Name: "pages", Clients: handler, MaxConns: 1,
		TLS:       tlsconn.NewHandshakes(tlsconn.Options{Config: config}),
		WebSocket: &engine.WebSocket{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	if !s.Adopts() {
		t.Fatal("the fields of tls.Conn have changed: see core/tlsconn/lend.go")
	}
	w := serve(t, Options{Adopt: func(c port.Taken) error { return s.Adopt(engine.Taken(c)) }},
		port.Options{TLS: config, Plain: func(netip.Addr) bool { return true }}, nil)
	echoed := "\x82\x10" + string(pdu.AppendHeader(nil, pb.CmdHeartBeat, 7))
	long := strings.Repeat("p", 100)
	ping, pong := "\x89\xe4\x00\x00\x00\x00"+long, "\x8a\x64"+long
	for name, test := range map[string]struct{ early, later string }{
		"nothing": {"", unmasked()}, "a part": {unmasked()[:9], unmasked()[9:]},
		"a message": {unmasked(), ""}, "more": {unmasked() + unmasked()[:1], unmasked()[1:]},
		"most of a ping": {ping[:100], ping[100:] + unmasked()},
	} {
		for _, secure := range []bool{false, true} {
			c := webtest.Dial(t, w.port)
			from := c.LocalAddr().String()
			if secure {
				c = tls.Client(c, &tls.Config{RootCAs: cert.Roots, ServerName: "localhost"})
			}
			p := openOn(t, c, "Origin: http://chat.example.com\r\n", test.early)
			if got := p.answer(); got.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%s, TLS %v: %s", name, secure, got.Status)
			}
			p.send(test.later)
			if strings.HasPrefix(test.early, "\x89") {
				p.wants(pong)
			}
			p.wants(strings.Repeat(echoed, strings.Count(test.early+test.later, "\x82\x90")))
			if a := <-handler.from; a.String() != from {
				t.Errorf("address %v, want %v", a, from)
			}
			eventually(t, "the port to forget it", func() bool { return w.port.Open() == 0 })
			full := w.open(t, "", "")
			if got := full.answer(); got.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("beyond the bound: %s", got.Status)
			}
			p.send("\x88\x82\x00\x00\x00\x00\x03\xe8") // a close frame with code 1000
			p.wants("\x88\x02\x03\xe8")
			p.wantsEnd()
			eventually(t, "the end", func() bool { return s.Open() == 0 && w.port.Open() == 0 })
		}
	}
	if a, n := w.results(t, resultAdopted), w.results(t, resultNoServer); a != 10 || n != 10 {
		t.Errorf("%d adopted, %d without a server, want 10 of each", a, n)
	}
}

// TestIdleCrowd serves the page while 10,000 connections are idle.
func TestIdleCrowd(t *testing.T) {
	w := serve(t, Options{}, webtest.CrowdLimits, nil)
	webtest.IdleCrowd(t, w.port, func() {
		if got, _ := w.ask(t, "GET", "/", ""); got.StatusCode != http.StatusOK {
			t.Fatal(got.Status)
		}
	})
}
