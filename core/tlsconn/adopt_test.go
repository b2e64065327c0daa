package tlsconn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"teamtalk/core/cert/certtest"
)

// valve is a connection whose input and output the test moves once it is shut.
type valve struct {
	net.Conn
	shut    bool
	in, out []byte
}

// Read reads, and reports a time that is over when there is nothing, as net/http's connections do
// when a handler takes them over.
func (v *valve) Read(p []byte) (int, error) {
	if !v.shut {
		return v.Conn.Read(p)
	}
	if len(v.in) == 0 {
		return 0, errAgain
	}
	n := copy(p, v.in)
	v.in = v.in[n:]
	return n, nil
}

// Write writes, or keeps p.
func (v *valve) Write(p []byte) (int, error) {
	if !v.shut {
		return v.Conn.Write(p)
	}
	v.out = append(v.out, p...)
	return len(p), nil
}

// Send implements Transport.
func (v *valve) Send(p []byte) error {
	_, err := v.Write(p)
	return err
}

// Post implements Transport: no handshake runs.
func (*valve) Post(func()) { panic("a handshake after Adopt") }

// Ready implements Transport.
func (*valve) Ready(error) { panic("a handshake after Adopt") }

// blocking returns both ends of a connection whose handshake has ended, with shut valves.
func blocking(t *testing.T, version uint16) (*tls.Conn, *Blocking, *valve, *valve) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		far.Close()
		near.Close()
	})
	client, server := &valve{Conn: far}, &valve{Conn: near}
	c := tls.Client(client, clientConfig(version))
	b := NewBlocking(server, &tls.Config{
		Certificates: []tls.Certificate{certtest.Shared().Pair}})
	done := make(chan error)
	go func() {
		_, err := b.Write([]byte("hello"))
		done <- err
	}()
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	client.shut, server.shut = true, true
	return c, b, client, server
}

// TestAdopt moves a connection from a goroutine to a loop: between any two bytes of the client, and
// before and after the goroutine has read a part of a record's content.
func TestAdopt(t *testing.T) {
	pool := handshakes(Options{})
	if !pool.Adopts() {
		t.Fatal("the fields of tls.Conn have changed: see lend.go")
	}
	text := []byte("0123456789abcdefghij")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for cut := 0; ; cut++ {
			c, b, client, server := blocking(t, version)
			for _, part := range [][]byte{text[:12], text[12:]} {
				if _, err := c.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			if cut > len(client.out) {
				break
			}
			server.in = client.out[:cut]
			got := make([]byte, 5)
			n, err := b.Read(got)
			if err != nil && !errors.Is(err, errAgain) {
				t.Fatal(err)
			}
			a, early, err := Adopt(pool, b, server)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got[:n], early...)
			buf := NewBuffers()
			used, err := a.Input(client.out[cut:], buf, func(p []byte) { got = append(got, p...) })
			if err != nil || cut+used != len(client.out) || !bytes.Equal(got, text) {
				t.Fatalf("cut at %d of %d: got %q, %v", cut, len(client.out), got, err)
			}
			if err := a.Write([]byte("world"), buf); err != nil {
				t.Fatal(err)
			}
			client.in = server.out
			if _, err := io.ReadFull(c, got[:5]); err != nil || string(got[:5]) != "world" {
				t.Fatalf("answer %q, %v", got[:5], err)
			}
			if a.Held() > 0 {
				t.Errorf("an idle connection holds %d bytes", a.Held())
			}
		}
	}
}

// TestAdoptEnded refuses a connection whose client has ended it, or has not begun it.
func TestAdoptEnded(t *testing.T) {
	pool := handshakes(Options{})
	c, b, client, server := blocking(t, tls.VersionTLS13)
	_, _ = c.Write([]byte("last")) // to memory
	_ = c.CloseWrite()
	server.in = client.out
	if n, err := b.Read(make([]byte, 1)); n != 1 {
		t.Fatal(err)
	}
	if _, _, err := Adopt(pool, b, server); !errors.Is(err, io.EOF) {
		t.Errorf("after the client's end: %v", err)
	}
	fresh := NewBlocking(server, &tls.Config{})
	if _, _, err := Adopt(pool, fresh, server); !errors.Is(err, ErrKept) {
		t.Errorf("before the handshake: %v", err)
	}
}
