package web_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"teamtalk/core/cert/certtest"
	"teamtalk/core/origin"
	"teamtalk/core/proxyproto"
	"teamtalk/core/web"
)

// proxies trusts this machine.
func proxies(o proxyproto.Options) *proxyproto.Proxies {
	o.Networks = origin.Networks{netip.MustParsePrefix("127.0.0.0/8")}
	return proxyproto.New(o)
}

// whose answers with the client's address, and whether the request came over TLS.
var whose = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "from %s, TLS %v", r.RemoteAddr, web.Secure(r))
})

const (
	headerV1  = "PROXY TCP4 203.0.113.7 10.0.0.1 50000 80\r\n"
	headerTLS = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x14\xcb\x00\x71\x07\x0a\x00\x00\x01\xc3\x50" +
		"\x00\x50\x20\x00\x05\x01\x00\x00\x00\x00"
)

func TestHeaderNamesTheClient(t *testing.T) {
	s := serve(t, web.Options{Handler: whose, Proxies: proxies(proxyproto.Options{}),
		TLS: &tls.Config{Certificates: []tls.Certificate{certtest.Shared().Pair}}})
	c := dial(t, s)
	if _, err := io.WriteString(c, headerTLS); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, c, "/"); !strings.Contains(got, "from 203.0.113.7:50000, TLS true") {
		t.Errorf("TLS ended in the proxy: %q", got)
	}
	c = dial(t, s)
	if _, err := io.WriteString(c, headerV1); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, c, "/"); !strings.Contains(got, "426 Upgrade Required") {
		t.Errorf("without TLS: %q", got)
	}
	c = dial(t, s)
	if _, err := io.WriteString(c, headerV1); err != nil {
		t.Fatal(err)
	}
	c = tls.Client(c, &tls.Config{RootCAs: certtest.Shared().Roots, ServerName: "localhost"})
	if got := ask(t, c, "/"); !strings.Contains(got, "from 203.0.113.7:50000, TLS true") {
		t.Errorf("TLS behind the header: %q", got)
	}
	c = dial(t, s)
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	gone(t, "no header", c)
}

// TestProxiesAreBounded counts the connections of a client, not those of the proxy.
func TestProxiesAreBounded(t *testing.T) {
	s := serve(t, web.Options{Handler: whose, Proxies: proxies(proxyproto.Options{}),
		PerAddress: 1})
	first := dial(t, s)
	if _, err := io.WriteString(first, headerV1); err != nil {
		t.Fatal(err)
	}
	open(t, s, 1)
	other := dial(t, s)
	_, err := io.WriteString(other, "PROXY TCP4 203.0.113.8 10.0.0.1 50000 80\r\n")
	if err != nil {
		t.Fatal(err)
	}
	open(t, s, 2)
	second := dial(t, s)
	if _, err := io.WriteString(second, headerV1); err != nil {
		t.Fatal(err)
	}
	gone(t, "the first of two of a client", first)
	for _, c := range []net.Conn{second, other} {
		if got := ask(t, c, "/"); !strings.Contains(got, "200 OK") {
			t.Errorf("answer %q", got)
		}
	}
}

// TestCloseEndsThoseWithoutHeader closes a port while connections wait for their header. They
// hold up no other.
func TestCloseEndsThoseWithoutHeader(t *testing.T) {
	s := serve(t, web.Options{Handler: whose,
		Proxies: proxies(proxyproto.Options{Timeout: time.Hour})})
	silent := dial(t, s)
	c := dial(t, s)
	if _, err := io.WriteString(c, headerV1); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, c, "/"); !strings.Contains(got, "from 203.0.113.7:50000, TLS false") {
		t.Errorf("answer %q", got)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone(t, "without a header", silent)
}
