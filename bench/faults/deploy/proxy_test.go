package deploy

import (
	"io"
	"net"
	"testing"
	"time"
)

// echo answers each connection with its own bytes.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// dial connects to a proxy. Reads and writes fail after a minute, which no test reaches.
func dial(t *testing.T, p *Proxy) net.Conn {
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// passes sends a text and reads it back.
func passes(t *testing.T, c net.Conn) {
	t.Helper()
	b := make([]byte, 5)
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Fatalf("read %q: %v", b, err)
	}
}

// ends checks that a connection was closed without an answer.
func ends(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 10)); err == nil {
		t.Errorf("read %d bytes of a connection that was cut", n)
	}
}

func TestProxy(t *testing.T) {
	p, err := NewProxy("msg", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c := dial(t, p)
	passes(t, c)
	p.Cut()
	ends(t, c)
	c = dial(t, p)
	passes(t, c)

	const delay = 50 * time.Millisecond
	p.Slow(delay)
	from := time.Now()
	passes(t, c)
	if took := time.Since(from); took < 2*delay {
		t.Errorf("a round trip took %v, want at least twice %v", took, delay)
	}
	p.Slow(0)

	p.Hang()
	p.Hang() // once more changes nothing
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	late := dial(t, p)
	p.Resume()
	ends(t, c)
	late.Close()
	passes(t, dial(t, p))
}

// TestProxyWithoutServer connects to a proxy whose server does not run.
func TestProxyWithoutServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := l.Addr().String()
	l.Close()
	p, err := NewProxy("msg", target)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return // the reset was faster
	}
	defer c.Close()
	ends(t, c)
}

// TestProxyPassesTheEnd closes one direction of a connection. The other one stays open
// until the server has answered.
func TestProxyPassesTheEnd(t *testing.T) {
	p, err := NewProxy("msg", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c := dial(t, p).(*net.TCPConn)
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
		t.Errorf("read %q: %v", b, err)
	}
}
