package engine

import (
	"context"
	"net"
	"os"
	"syscall"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// keepAliveIdle is the silence, in seconds, after which the kernel probes a connection, and
// the interval of its five probes.
const (
	keepAliveIdle     = 120
	keepAliveInterval = 24
	keepAliveCount    = 5
)

// listen opens the port. Accepted connections inherit the keep-alive of the listener, which
// saves package net's system calls for each.
func listen(addr string) (*net.TCPListener, error) {
	c := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = keepAlive(int(fd)) })
		if err != nil {
			return err
		}
		return failed
	}}
	c.SetMultipathTCP(false)
	l, err := c.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// keepAlive sets the options with which the kernel probes a silent client.
func keepAlive(fd int) error {
	for _, opt := range []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveIdle},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveInterval},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount},
	} {
		if err := unix.SetsockoptInt(fd, opt.level, opt.name, opt.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// prepare sets the options of gnet's own listener, which an Echo has, and returns its
// address. gnet's option for keep-alive hides errors of bind and listen.
func prepare(eng gnet.Engine) (net.Addr, error) {
	fd, err := eng.Dup()
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	if err := keepAlive(fd); err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.Addr(), nil
}
