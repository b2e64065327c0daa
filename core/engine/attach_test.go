package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"teamtalk/core/budget"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
)

// portless starts a server without a port.
func portless(t *testing.T, opt Options) *Server {
	t.Helper()
	s, err := Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	if s.Addr() != nil {
		t.Fatalf("a server without a port has the address %s", s.Addr())
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Close(ctx)
	})
	return s
}

// attach returns the other end of a connection.
func attach(t *testing.T, s *Server) *client {
	t.Helper()
	c, err := s.Attach(clientAddr, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{c, t}
}

// TestAttach carries PDUs over connections without a port, plain and as WebSocket. The session has
// the address that the caller names.
func TestAttach(t *testing.T) {
	r := newRole()
	s := portless(t, Options{Name: "attached", Clients: r})
	c := attach(t, s)
	defer c.Close()
	c.echo(silent)
	if got := next(t, r.sessions).RemoteAddr(); got != clientAddr {
		t.Errorf("address %v, want %v", got, clientAddr)
	}
	w := portless(t, Options{Name: "pages", Clients: newRole(), WebSocket: &WebSocket{}})
	p := opened(attach(t, w))
	defer p.Close()
	large := frameOf(1, 1, bytes.Repeat([]byte("x"), 900<<10)) // more than the sockets hold
	p.message(large)
	p.wantMessage(large)
}

// TestAttachEnds ends a connection from either side, and returns both places in the budget.
func TestAttachEnds(t *testing.T) {
	b := budget.Fixed(2)
	r := newRole()
	s := portless(t, Options{Name: "attached", Clients: r, Budget: b})
	c := attach(t, s)
	if _, err := s.Attach(clientAddr, true); !errors.Is(err, ErrRefused) {
		t.Errorf("a third descriptor of two: %v", err)
	}
	c.echo(silent)
	_ = c.Close()
	next(t, r.closed)
	for s.Open() > 0 { // OnClose counts, and then tells the role
		time.Sleep(time.Millisecond)
	}
	if n := b.Used(); n != 0 {
		t.Errorf("%d places are used after the end", n)
	}
	r.frame = func(s *session.Client, _ pdu.Header, _ []byte) { s.Close(nil) }
	c = attach(t, s)
	c.send(silent)
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the server's end: %v", err)
	}
	_ = c.Close()
}

// TestAttachToStopped refuses connections of a server that stops, and of one that has stopped.
func TestAttachToStopped(t *testing.T) {
	s := portless(t, Options{Name: "attached", Clients: newRole()})
	s.Refuse()
	if _, err := s.Attach(netip.AddrPort{}, false); !errors.Is(err, ErrRefused) {
		t.Errorf("after Refuse: %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Attach(netip.AddrPort{}, false); !errors.Is(err, ErrRefused) {
		t.Errorf("after Close: %v", err)
	}
}
