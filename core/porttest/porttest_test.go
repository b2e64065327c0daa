package porttest

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
)

// TestReserve requires that nothing answers on a reserved port, and that a server which asks
// for it gets it, also after a restart.
func TestReserve(t *testing.T) {
	addr := Reserve(t)
	for range 2 {
		if c, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("a connection to a reserved port: %v, %v", c, err)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
		} else {
			c.Close()
		}
		l.Close()
	}
}

// TestHold requires that a port is given to no other caller until it is released. The kernel
// has less than 30,000 ports to give, so a port that is free is given within a few thousand
// requests.
func TestHold(t *testing.T) {
	port, release, err := Hold(0)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for range 2000 {
		other, done, err := Hold(0)
		if err != nil {
			t.Fatal(err)
		}
		done()
		if other == port {
			t.Fatalf("port %d was reserved twice", port)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, _, err := Hold(taken.Addr().(*net.TCPAddr).Port); !errors.Is(err, syscall.EADDRINUSE) ||
		!strings.Contains(err.Error(), "reserve port") {
		t.Errorf("a port that a server uses: %v", err)
	}
}
