//go:build linux

package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/gobwas/ws"

	"teamtalk/core/cert/certtest"
	"teamtalk/proto/pb"
)

// tab is the connection of a web page, as a stream of PDUs. Each Write is one PDU.
type tab struct {
	net.Conn
	in   io.Reader
	rest []byte
	sent int
	code ws.StatusCode // of the server's close frame
}

// openTab connects as a page of origin does.
func openTab(nc net.Conn, host, origin string) (*tab, error) {
	d := ws.Dialer{Header: ws.HandshakeHeaderHTTP(http.Header{"Origin": []string{origin}})}
	r, _, err := d.Upgrade(nc, &url.URL{Scheme: "ws", Host: host, Path: "/ws"})
	if r != nil {
		return &tab{Conn: nc, in: r}, err
	}
	return &tab{Conn: nc, in: nc}, err
}

// Write sends p as one message: every second one in two frames with a ping between.
func (c *tab) Write(p []byte) (int, error) {
	var out bytes.Buffer
	frame := func(op ws.OpCode, fin bool, payload []byte) {
		f := ws.MaskFrame(ws.NewFrame(op, fin, bytes.Clone(payload)))
		_ = ws.WriteFrame(&out, f) // to memory
	}
	if c.sent++; c.sent%2 == 0 {
		half := len(p) / 2
		frame(ws.OpBinary, false, p[:half])
		frame(ws.OpPing, true, []byte("x"))
		frame(ws.OpContinuation, true, p[half:])
	} else {
		frame(ws.OpBinary, true, p)
	}
	_, err := c.Conn.Write(out.Bytes())
	return len(p), err
}

// frame reads the next frame.
func (c *tab) frame() (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(c.in); err != nil {
		return f, err
	}
	f.Payload = make([]byte, f.Header.Length)
	_, err = io.ReadFull(c.in, f.Payload)
	return f, err
}

// Read returns the bytes of the next messages. Each must be one PDU.
func (c *tab) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		f, err := c.frame()
		switch {
		case err != nil:
			return 0, err
		case f.Header.OpCode == ws.OpPong:
		case f.Header.OpCode == ws.OpClose:
			c.code, _ = ws.ParseCloseFrameData(f.Payload)
			_ = ws.WriteFrame(c.Conn, ws.MaskFrame(ws.NewCloseFrame(f.Payload)))
		case f.Header.OpCode != ws.OpBinary || !f.Header.Fin || len(f.Payload) < 16 ||
			int(binary.BigEndian.Uint32(f.Payload)) != len(f.Payload):
			return 0, fmt.Errorf("%+v: no message that is one PDU", f.Header)
		default:
			c.rest = f.Payload
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// awaited reads frames up to the first with the command of m, and decodes it into m.
func awaited(w *wire, m pb.Message) {
	w.t.Helper()
	f := w.next()
	for f.Command != m.Command() {
		f = w.next()
	}
	if err := m.ParseBody(f.body); err != nil {
		w.t.Fatalf("%s: %v", f.Command, err)
	}
}

// TestWebSocket lets a page and a phone write to each other, with TLS and without. A second tab
// of the same user replaces the first, which is told by IMKickUser and by the code. A page of
// another host gets in nowhere.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	cert := certtest.Write(t, t.TempDir(), certtest.Options{})
	at := reserve(t)
	sys := deployAllInOne(t, settings{users: 3, flags: []string{"--msg.websocket-listen", at,
		"--tls.certificate", cert.Certificate, "--tls.key", cert.Key}})
	page := func(secure bool) (*wire, *tab) {
		nc, err := net.DialTimeout("tcp", at, patience)
		if err != nil {
			t.Fatal(err)
		}
		if secure {
			nc = tls.Client(nc, &tls.Config{RootCAs: cert.Roots, ServerName: "localhost"})
		}
		c, err := openTab(nc, at, "http://127.0.0.1:8400")
		if err != nil {
			t.Fatal(err)
		}
		return dialed(t, c), c
	}
	a, first := page(false)
	alice := a.login("u00001", windows)
	b, _ := page(true)
	bob := b.login("u00002", windows)
	c, carol := loggedIn(t, sys.msgAddr[0], "u00003", android)
	for i, to := range []struct {
		from *wire
		id   uint32
		to   *wire
	}{{a, bob, b}, {b, alice, a}, {c, alice, a}, {a, carol, c}} {
		body := fmt.Sprint("text ", i)
		to.from.send(uint16(10+i), text(to.id, body))
		got := &pb.MsgData{}
		if awaited(to.to, got); string(got.Data) != body {
			t.Errorf("text %d is %q", i, got.Data)
		}
	}

	second, _ := page(true)
	second.login("u00001", windows)
	awaited(a, &pb.IMKickUser{})
	_, _ = io.Copy(io.Discard, a) // ends with the connection
	if first.code != ws.StatusPolicyViolation {
		t.Errorf("the first tab is closed with %d", first.code)
	}

	nc, err := net.DialTimeout("tcp", at, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	var status ws.StatusError
	_, err = openTab(nc, at, "https://evil.example.com")
	if !errors.As(err, &status) || status != http.StatusForbidden {
		t.Errorf("page of another host: %v", err)
	}
}
