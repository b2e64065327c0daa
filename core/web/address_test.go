package web_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"teamtalk/core/origin"
	"teamtalk/core/web"
)

// dialFrom connects from an address of this machine. Linux has all addresses of 127.0.0.0/8.
func dialFrom(t *testing.T, s *web.Server, from string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", s.Addr().String())
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Skip("needs the address ", from)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAnAddressHasABound closes the waiting connection of an address above PerAddress, and
// refuses a new one when all are being answered. Other addresses are not affected, and
// trusted ones have no bound.
func TestAnAddressHasABound(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := serve(t, web.Options{
		PerAddress: 2, Trusted: origin.Networks{netip.MustParsePrefix("127.0.0.3/32")},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				entered <- struct{}{}
				<-leave
			}
			io.WriteString(w, "hello")
		}),
	})
	other := dialFrom(t, s, "127.0.0.2")
	var busy []net.Conn
	wait := func() {
		c := dial(t, s)
		fmt.Fprint(c, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
		<-entered
		busy = append(busy, c)
	}
	wait()
	silent := dial(t, s)
	wait()
	gone(t, "the silent one of a full address", silent)
	gone(t, "one above the bound", dial(t, s))
	for range 5 {
		c := dialFrom(t, s, "127.0.0.3")
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if got := answer(c); got != "200 OK hello" {
			t.Errorf("trusted address: %q", got)
		}
	}
	if got := ask(t, other, "/"); got[max(0, len(got)-5):] != "hello" {
		t.Errorf("another address: %q", got)
	}
	close(leave)
	for _, c := range busy {
		if got := answer(c); got != "200 OK hello" {
			t.Errorf("of the full address: %q", got)
		}
		c.Close()
	}
	open(t, s, 5)
	if got := ask(t, dial(t, s), "/"); got[max(0, len(got)-5):] != "hello" {
		t.Errorf("after the crowd: %q", got)
	}
}

// TestAFullPortClosesOneOfTheAddressWithTheMost keeps a silent connection of another address
// that is older than all others.
func TestAFullPortClosesOneOfTheAddressWithTheMost(t *testing.T) {
	s := serve(t, web.Options{MaxConns: 10,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "hello")
		}),
	})
	other := dialFrom(t, s, "127.0.0.2")
	var crowd []net.Conn
	for range 30 {
		crowd = append(crowd, dial(t, s))
	}
	for _, c := range crowd[10:20] {
		gone(t, "one of the crowd", c)
	}
	if got := ask(t, other, "/"); got[max(0, len(got)-5):] != "hello" {
		t.Errorf("another address: %q", got)
	}
}
