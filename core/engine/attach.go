package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"teamtalk/core/proxyproto"
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
