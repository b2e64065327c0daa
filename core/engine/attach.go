package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"teamtalk/core/proxyproto"
	"teamtalk/core/tlsconn"
)

// ErrRefused reports a connection for which a server has no room, or that arrives while the
// server stops.
var ErrRefused = errors.New("engine: connection refused")

// Attach makes a connection to the server without its port, and returns the other end, for a part
// of this process that carries the bytes of a client. The bounds for the address of the client
// apply, and handlers see that address. secure says that the client has TLS, which the caller
// ends. Both ends count in the Budget. ErrRefused when there is no room. Any goroutine.
func (s *Server) Attach(client netip.AddrPort, secure bool) (net.Conn, error) {
	if !s.opt.Budget.Take() {
		s.noteRefused(becauseFiles, nil)
		return nil, fmt.Errorf("%w: %s", ErrRefused, becauseFiles)
	}
	near, far, err := pair()
	if err != nil {
		s.opt.Budget.Put()
		return nil, err
	}
	end := &attached{Conn: near, server: s}
	s.attaching.RLock()
	defer s.attaching.RUnlock()
	why := becauseStop
	if !s.unattachable {
		why = s.arrive(far, proxyproto.Header{Source: client, Secure: secure})
	} else {
		_ = far.Close() // nothing was sent
	}
	if why != "" {
		_ = end.Close() // nothing was sent
		return nil, fmt.Errorf("%w: %s", ErrRefused, why)
	}
	return end, nil
}

// Taken is a connection that another port of the process has accepted, whose client asks for what
// this server does: core/web.Taken.
type Taken struct {
	TCP    *net.TCPConn
	TLS    *tlsconn.Blocking // nil: without
	Client netip.AddrPort    // the address of the client
	Secure bool              // the client has TLS, which a proxy may end
	Begin  []byte            // what the client has sent and the server reads first, in plain text
}

// Adopts reports whether Adopt takes connections with TLS.
func (s *Server) Adopts() bool { return s.opt.TLS != nil && s.opt.TLS.Adopts() }

// Adopt makes a connection of another port one of this server, which has Options.WebSocket, as if
// it had arrived here. The bounds for the address of the client apply. After an error the
// connection is still the caller's: ErrRefused when there is no room. Any goroutine.
func (s *Server) Adopt(t Taken) error {
	if s.opt.WebSocket == nil || t.TLS != nil && !s.Adopts() {
		return tlsconn.ErrKept
	}
	s.attaching.RLock()
	defer s.attaching.RUnlock()
	if s.unattachable {
		return fmt.Errorf("%w: %s", ErrRefused, becauseStop)
	}
	cn, h := &conn{}, proxyproto.Header{Source: t.Client, Secure: t.Secure}
	if why := s.enter(cn, t.TCP, h); why != "" {
		s.noteRefused(why, nil)
		return fmt.Errorf("%w: %s", ErrRefused, why)
	}
	s.pass(t.TCP, cn, arriving{header: h, taken: &t})
	return nil
}

// adopt gives a connection the TLS that another port began. It reports whether the client is still
// there. Loop only.
func (cn *conn) adopt(t *Taken) bool {
	cn.traits |= detected
	cn.tls = nil
	if t.TLS == nil {
		return true
	}
	x := &secure{cn: cn, proven: true}
	c, early, err := tlsconn.Adopt(cn.loop.server.opt.TLS, t.TLS, x)
	if err != nil {
		return false // the client has ended the connection
	}
	t.Begin = append(t.Begin, early...)
	x.Conn, cn.tls = c, x
	return true
}

// begin takes what another port has read of the client. Loop only, within a turn.
func (cn *conn) begin(p []byte) {
	asks := false
	switch {
	case len(p) == 0:
	case cn.tls != nil:
		asks = cn.tls.frames(p)
		cn.need = 0 // frames counts plain text
	default:
		cn.ws.rest = p
		asks = cn.join(nil)
	}
	if asks && cn.stranger != nil {
		cn.loop.server.opt.Strangers.ask(cn.stranger)
	}
}

// join passes the whole messages to the handler that begin with what another port has read, and go
// on with buf.
func (cn *conn) join(buf []byte) (asks bool) {
	x := cn.ws
	x.rest = append(x.rest, buf...)
	used, asks := cn.frames(x.rest)
	if x.rest = x.rest[used:]; len(x.rest) == 0 {
		x.rest = nil
	}
	cn.need = 0 // it counts gnet's buffer
	return asks
}

// attached is the end of a connection that the caller of Attach has.
type attached struct {
	net.Conn
	server *Server
	closed bool
}

// Close closes the connection. One goroutine.
func (c *attached) Close() error {
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	c.server.opt.Budget.Put()
	return c.Conn.Close()
}

// CloseWrite sends the end of the stream.
func (c *attached) CloseWrite() error { return c.Conn.(*net.UnixConn).CloseWrite() }

// pair returns the two ends of a connection within this process.
func pair() (near, far net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if near, err = connOf(fds[0]); err != nil {
		_ = unix.Close(fds[1]) // the first error is the cause
		return nil, nil, err
	}
	if far, err = connOf(fds[1]); err != nil {
		_ = near.Close() // the first error is the cause
		return nil, nil, err
	}
	return near, far, nil
}

// connOf returns the connection of a descriptor, which it takes over.
func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socketpair")
	defer f.Close()
	return net.FileConn(f) // of a duplicate
}
