package engine

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/origin"
	"teamtalk/core/proxyproto"
)

// The addresses of the proxies in these tests, and of a client that is none.
const (
	proxyAddr = "127.0.0.9"
	otherAddr = "127.0.0.1"
)

// proxies returns Proxies for proxyAddr, and a function that returns how many headers of
// listener "port" had a result.
func proxies(o proxyproto.Options) (*proxyproto.Proxies, func(result string) int) {
	reg := prometheus.NewRegistry()
	o.Networks = origin.Networks{netip.MustParsePrefix(proxyAddr + "/32")}
	o.Registerer = reg
	return proxyproto.New(o), func(result string) int {
		n, _ := testutil.GatherAndCount(reg) // none: there was no header yet
		if n == 0 {
			return 0
		}
		all, _ := reg.Gather()
		for _, m := range all[0].GetMetric() {
			if m.GetLabel()[1].GetValue() == result {
				return int(m.GetCounter().GetValue())
			}
		}
		return 0
	}
}

// headerV1 is the header for a client at 203.0.113.7, and headerTLS that of version 2 for
// one that has TLS to the proxy.
var (
	headerV1  = []byte("PROXY TCP4 203.0.113.7 10.0.0.1 50000 8000\r\n")
	headerTLS = append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x14\xcb\x00\x71\x07"+
		"\x0a\x00\x00\x01\xc3\x50\x1f\x40"), 0x20, 0, 5, 1, 0, 0, 0, 0)
	clientAddr = netip.MustParseAddrPort("203.0.113.7:50000")
)

// TestHeaderNamesTheClient: a connection of a proxy has the address of the header, that of
// another peer its own, and a header of such a peer is a wrong frame.
func TestHeaderNamesTheClient(t *testing.T) {
	p, count := proxies(proxyproto.Options{})
	r := newRole()
	s := start(t, Options{Name: "port", Clients: r, Proxies: p})
	c := dialFrom(t, s, proxyAddr)
	for _, b := range headerV1 { // in many segments
		c.send([]byte{b})
	}
	c.echo(silent)
	if got := next(t, r.sessions).RemoteAddr(); got != clientAddr {
		t.Errorf("address %v, want that of the header", got)
	}
	c = dialFrom(t, s, proxyAddr)
	c.send(bytes.Join([][]byte{headerTLS, silent}, nil)) // in one segment
	c.want(silent)
	if got := next(t, r.sessions).RemoteAddr(); got != clientAddr {
		t.Errorf("address %v, want that of the header", got)
	}
	c = dialFrom(t, s, otherAddr)
	c.echo(silent)
	if got := next(t, r.sessions).RemoteAddr().Addr().String(); got != otherAddr {
		t.Errorf("address %v, want that of the peer", got)
	}
	forged := dialFrom(t, s, otherAddr)
	forged.send(headerV1)
	forged.wantEnd()
	if n := count("read"); n != 2 {
		t.Errorf("%d headers read, want 2", n)
	}
}

// TestProxyWithoutHeader closes connections of a proxy that do not begin with a header.
func TestProxyWithoutHeader(t *testing.T) {
	for result, test := range map[string]struct {
		sent    []byte
		timeout time.Duration
	}{
		"missing":   {silent, time.Hour},
		"malformed": {[]byte("PROXY TCP4 nobody nowhere 1 2\r\n"), time.Hour},
		"timeout":   {[]byte("PROXY TCP4 203"), 20 * time.Millisecond},
	} {
		p, count := proxies(proxyproto.Options{Timeout: test.timeout})
		s := start(t, Options{Name: "port", Clients: newRole(), Proxies: p})
		c := dialFrom(t, s, proxyAddr)
		c.send(test.sent)
		c.wantEnd()
		if n := count(result); n != 1 {
			t.Errorf("%s: counted %d times", result, n)
		}
	}
}

// TestHealthCheck: a proxy that asks for itself keeps its own address.
func TestHealthCheck(t *testing.T) {
	p, count := proxies(proxyproto.Options{})
	r := newRole()
	s := start(t, Options{Name: "port", Clients: r, Proxies: p})
	c := dialFrom(t, s, proxyAddr)
	c.send([]byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"))
	c.echo(silent)
	if got := next(t, r.sessions).RemoteAddr().Addr().String(); got != proxyAddr {
		t.Errorf("address %v, want that of the proxy", got)
	}
	if n := count("local"); n != 1 {
		t.Errorf("%d local headers, want 1", n)
	}
}

// TestBoundsCountTheClient: the bounds of an address are those of the header's.
func TestBoundsCountTheClient(t *testing.T) {
	p, _ := proxies(proxyproto.Options{})
	s := start(t, Options{Name: "port", Clients: newRole(), Proxies: p,
		Strangers: strangers(StrangerOptions{PerAddress: 1})})
	proxied := func(header string) *client {
		c := dialFrom(t, s, proxyAddr)
		c.send([]byte(header))
		c.echo(silent)
		return c
	}
	a := proxied("PROXY TCP4 203.0.113.7 10.0.0.1 1 8000\r\n")
	b := proxied("PROXY TCP4 203.0.113.8 10.0.0.1 1 8000\r\n")
	c := proxied("PROXY TCP4 203.0.113.7 10.0.0.1 2 8000\r\n")
	a.wantEnd()
	b.echo(silent)
	c.echo(silent)
}

// TestProxyAndTLS: TLS may begin behind the header, or end in the proxy, which says so.
// Otherwise the rule for plain connections asks for the client's address.
func TestProxyAndTLS(t *testing.T) {
	p, _ := proxies(proxyproto.Options{})
	s := start(t, Options{Name: "port", Clients: newRole(), Proxies: p, TLS: encrypted(),
		Plain: func(from netip.Addr) bool { return from.IsLoopback() }})
	through := dialFrom(t, s, proxyAddr)
	through.send(headerV1)
	through = &client{secured(through.Conn), t}
	through.echo(silent)

	ended := dialFrom(t, s, proxyAddr)
	ended.send(headerTLS)
	ended.echo(silent)

	plain := dialFrom(t, s, proxyAddr)
	plain.send(headerV1)
	plain.send(silent)
	plain.wantEnd()

	dialFrom(t, s, otherAddr).echo(silent)
}

// TestManyWithoutHeader: connections of proxies that wait for their header are bounded, hold
// up no other, and end with the port. Above the bound the one that waits longest ends, so that
// proxies, which send the header at once, get through.
func TestManyWithoutHeader(t *testing.T) {
	p, count := proxies(proxyproto.Options{Timeout: time.Hour, Most: 3})
	s := start(t, Options{Name: "port", Clients: newRole(), Proxies: p})
	var waiting []*client
	for range 3 {
		waiting = append(waiting, dialFrom(t, s, proxyAddr))
	}
	through := dialFrom(t, s, proxyAddr)
	waiting[0].wantEnd()
	through.send(headerV1)
	through.echo(silent)
	if n := count("crowd"); n != 1 {
		t.Errorf("%d connections closed to make room, want 1", n)
	}
	dialFrom(t, s, otherAddr).echo(silent)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range waiting[1:] {
		c.wantEnd()
	}
	if n := count("closed"); n != 2 {
		t.Errorf("%d connections ended with the port, want 2", n)
	}
}
