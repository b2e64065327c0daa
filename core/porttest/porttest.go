// Package porttest reserves TCP ports for tests. A test that asks for a free port, closes it
// and gives it to a server, or expects that nothing listens there, fails when another process
// gets the port in between. Test suites run side by side and ask for thousands of ports.
package porttest

import (
	"fmt"
	"net"
	"strconv"
	"syscall"
	"testing"
)

// Hold reserves a port of 127.0.0.1 until release is called. It binds a socket to the port and
// does not listen. The kernel then refuses connections to the port, and gives it to no process
// that asks for any port, also not for the local end of a connection. A server that asks for
// the port by number and sets SO_REUSEADDR gets it, any number of times: Go, gnet, Redis and
// MariaDB set it. Port 0 reserves any port. Any goroutine.
func Hold(port int) (held int, release func(), err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("reserve a port: %w", err)
	}
	defer func() {
		if err != nil {
			syscall.Close(fd)
		}
	}()
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err != nil {
		return 0, nil, fmt.Errorf("reserve a port: %w", err)
	}
	at := &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	if err = syscall.Bind(fd, at); err != nil {
		return 0, nil, fmt.Errorf("reserve port %d: %w", port, err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, nil, fmt.Errorf("reserve a port: %w", err)
	}
	return name.(*syscall.SockaddrInet4).Port, func() { syscall.Close(fd) }, nil
}

// Reserve returns a loopback address on which only the servers of the test listen until the
// test ends. Nothing listens there until the test starts a server on it.
func Reserve(tb testing.TB) string {
	tb.Helper()
	port, release, err := Hold(0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(release)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
