//go:build linux && !swarm_portable

package swarm

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestConnectTimeout dials a server that accepts no more connections. The attempt must
// end after the timeout.
func TestConnectTimeout(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
		unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}),
		uint16(sa.(*unix.SockaddrInet4).Port))
	s := newSwarm(t, Options{ConnectTimeout: 50 * time.Millisecond})
	ended := make(chan error, 10)
	for range 5 { // the backlog of the listener holds one or two
		dial(s.Loops()[0], addr, &handler{close: func(_ *Conn, err error) { ended <- err }})
	}
	if err := wait(t, "the timeout", ended); !errors.Is(err, ErrConnectTimeout) {
		t.Errorf("ended with %v", err)
	}
}

// TestSourceAddress checks that connections use the next source address after the ports
// of one are used.
func TestSourceAddress(t *testing.T) {
	from := make(chan string, 1)
	addr := listen(t, func(nc net.Conn) { from <- nc.RemoteAddr().(*net.TCPAddr).IP.String() })
	l := newSwarm(t, Options{}).Loops()[0]
	l.Do(func() {
		l.source = 3
		l.Dial(addr, &handler{})
	})
	if ip := wait(t, "the connection", from); ip != "127.0.0.4" {
		t.Errorf("came from %s", ip)
	}
}

// TestOpenFilesLimit checks that the error names the limit when no more file can be
// opened.
func TestOpenFilesLimit(t *testing.T) {
	addr := listen(t, echo)
	s := newSwarm(t, Options{})
	if n := OpenFiles(0); n < 100 {
		t.Skipf("the limit is %d", n)
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	probe, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(probe)
	ended := make(chan error, 1)
	now := was
	now.Cur = uint64(probe)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	dial(s.Loops()[0], addr, &handler{open: func(*Conn) { ended <- nil },
		close: func(_ *Conn, err error) { ended <- err }})
	err = wait(t, "the failure", ended)
	if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); e != nil {
		t.Fatal(e)
	}
	if !errors.Is(err, unix.EMFILE) || !strings.Contains(err.Error(), "ulimit -n") {
		t.Errorf("ended with %v", err)
	}
}
