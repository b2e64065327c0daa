package swarm

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"

	"teamtalk/core/cert/certtest"
	"teamtalk/core/pdu"
)

// overTLS serves each connection with TLS.
func overTLS(serve func(net.Conn)) func(net.Conn) {
	config := &tls.Config{Certificates: []tls.Certificate{certtest.Shared().Pair}}
	return func(nc net.Conn) {
		c := tls.Server(nc, config)
		serve(c)
		_ = c.Close() // with the alert that ends TLS
	}
}

// TestTLS sends short and long frames through many connections with TLS, and closes them in both
// ways.
func TestTLS(t *testing.T) {
	const conns = 20
	addr := listen(t, overTLS(func(nc net.Conn) {
		_, _ = io.CopyN(nc, nc, 3*(pdu.HeaderLen+1)+(pdu.HeaderLen+50_000))
	}))
	s := newSwarm(t, Options{Loops: 2, TLS: &tls.Config{RootCAs: certtest.Shared().Roots}})
	short, long := frame(1, []byte{7}), frame(2, bytes.Repeat([]byte("x"), 50_000))
	ended, got := make(chan error, conns), make(chan int, conns)
	for i := range conns {
		n := 0
		dial(s.Loops()[i%2], addr, &handler{
			open: func(c *Conn) {
				if !c.IsOpen() {
					t.Error("not open")
				}
				c.Write(append(short[:len(short):len(short)], short...))
			},
			frame: func(c *Conn, h pdu.Header, body []byte) {
				switch n++; {
				case n == 2:
					c.Write(long)
				case n == 3:
					if string(body) != string(long[pdu.HeaderLen:]) {
						t.Errorf("%d bytes came back changed", len(body))
					}
					c.Write(short) // and the server closes
				case n == 4:
					got <- n
				}
			},
			close: func(_ *Conn, err error) { ended <- err },
		})
	}
	for range conns {
		wait(t, "the frames", got)
		if err := wait(t, "the end", ended); !errors.Is(err, io.EOF) {
			t.Errorf("ended with %v", err)
		}
	}
	done := make(chan int)
	s.Loops()[0].Do(func() { done <- s.Loops()[0].Open() })
	if n := wait(t, "the loop", done); n != 0 {
		t.Errorf("%d connections open", n)
	}
}

// TestTLSLastWords writes right before Close.
func TestTLSLastWords(t *testing.T) {
	last := make(chan []byte, 1)
	addr := listen(t, overTLS(func(nc net.Conn) {
		b, _ := io.ReadAll(nc)
		last <- b
	}))
	s := newSwarm(t, Options{TLS: &tls.Config{RootCAs: certtest.Shared().Roots}})
	f := frame(1, []byte("bye"))
	dial(s.Loops()[0], addr, &handler{open: func(c *Conn) { c.Write(f); c.Close() }})
	if b := wait(t, "the last words", last); !bytes.Equal(b, f) {
		t.Errorf("got %q", b)
	}
}

// TestTLSRefused refuses servers whose certificate is of another CA or for another name, servers
// without TLS, and those that end during the handshake.
func TestTLSRefused(t *testing.T) {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	good := certtest.Shared().Roots
	for _, x := range []struct {
		name   string
		serve  func(net.Conn)
		config *tls.Config
		as     any
	}{
		{"CA", overTLS(echo), &tls.Config{RootCAs: x509.NewCertPool()}, &unknown},
		{"name", overTLS(echo), &tls.Config{RootCAs: good, ServerName: "other"}, &name},
		{"no TLS", echo, &tls.Config{RootCAs: good}, nil},
		{"end", func(net.Conn) {}, &tls.Config{RootCAs: good}, nil},
	} {
		s := newSwarm(t, Options{TLS: x.config})
		opened := func(*Conn) { t.Errorf("%s: the connection opened", x.name) }
		addr := listen(t, x.serve)
		ended := make(chan error, 1)
		dial(s.Loops()[0], addr, &handler{open: opened,
			close: func(_ *Conn, err error) { ended <- err }})
		err := wait(t, "the end", ended)
		if err == nil || x.as != nil && !errors.As(err, x.as) {
			t.Errorf("%s: ended with %v", x.name, err)
		}
	}
}
