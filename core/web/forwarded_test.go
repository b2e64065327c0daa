package web_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"teamtalk/core/origin"
	"teamtalk/core/web"
)

// TestForwarded takes the client's address from the headers of trusted proxies only, and the
// last address there that is not of such a proxy.
func TestForwarded(t *testing.T) {
	s := serve(t, web.Options{
		PerAddress: 1, Forwarders: origin.Networks{netip.MustParsePrefix("127.0.0.9/32"),
			netip.MustParsePrefix("10.0.0.0/8")},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, err := net.SplitHostPort(r.RemoteAddr)
			fmt.Fprintf(w, "%s %v %d", host, err, len(r.Header))
		})})
	const trusted, other = "127.0.0.9", "127.0.0.2"
	for _, x := range []struct{ from, headers, want string }{
		{trusted, "X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1 <nil> 0"},
		{trusted, "X-Forwarded-For: 192.0.2.9, 192.0.2.1, 10.1.1.1\r\n", "192.0.2.1 <nil> 0"},
		{trusted, "X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-For: 192.0.2.1\r\n",
			"192.0.2.1 <nil> 0"},
		{trusted, "X-Forwarded-For: 10.1.1.1\r\n", "10.1.1.1 <nil> 0"},
		{trusted, "X-Forwarded-For: ::ffff:192.0.2.1\r\nVia: x\r\n", "192.0.2.1 <nil> 0"},
		{trusted, "X-Forwarded-For: 192.0.2.9, 192.0.2.1:4711\r\n", "192.0.2.1 <nil> 0"},
		{trusted, "X-Forwarded-For: [2001:db8::1]:4711, 10.1.1.1:80\r\n",
			"2001:db8::1 <nil> 0"},
		{trusted, "X-Forwarded-For: 192.0.2.1:x\r\n", "127.0.0.9 <nil> 1"},
		{trusted, "X-Forwarded-For: [fe80::1%eth0]:80\r\n", "127.0.0.9 <nil> 1"},
		{trusted, "X-Real-IP: 2001:db8::1\r\n", "2001:db8::1 <nil> 0"},
		{trusted, "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.2\r\n", "192.0.2.1 <nil> 0"},
		{trusted, "X-Forwarded-For: 192.0.2.1, unknown\r\n", "127.0.0.9 <nil> 1"},
		{trusted, "X-Real-IP: 192.0.2.1\r\nX-Real-IP: 192.0.2.2\r\n", "127.0.0.9 <nil> 1"},
		{trusted, "Via: x\r\n", "127.0.0.9 <nil> 1"},
		{other, "X-Forwarded-For: 192.0.2.1\r\n", "127.0.0.2 <nil> 1"},
		{other, "X-Real-IP: 192.0.2.1\r\n", "127.0.0.2 <nil> 1"},
	} {
		c := dialFrom(t, s, x.from)
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", x.headers)
		if got := answer(c); got != "200 OK "+x.want {
			t.Errorf("from %s with %q: %s, want %s", x.from, x.headers, got, x.want)
		}
		c.Close()
		open(t, s, 0)
	}
}

// TestClientHeader takes the address from the header of Options.ClientHeader, whatever the others
// say.
func TestClientHeader(t *testing.T) {
	const proxy = "10.0.0.0/8"
	all := func(xff, real, std string) string {
		text := ""
		for name, value := range map[string]string{"X-Forwarded-For": xff, "X-Real-IP": real,
			"Forwarded": std} {
			if value != "" {
				text += name + ": " + value + "\r\n"
			}
		}
		return text
	}
	for _, x := range []struct{ header, headers, want string }{
		{web.HeaderXForwardedFor, all("192.0.2.1", "192.0.2.2", "for=192.0.2.3"), "192.0.2.1 0"},
		{web.HeaderXForwardedFor, all("", "", "for=192.0.2.3"), "127.0.0.9 1"},
		{web.HeaderXRealIP, all("192.0.2.1", "192.0.2.2", "for=192.0.2.3"), "192.0.2.2 0"},
		{web.HeaderXRealIP, all("192.0.2.1", "", "for=192.0.2.3"), "127.0.0.9 2"},
		{web.HeaderForwarded, all("192.0.2.1", "192.0.2.2", "for=192.0.2.3"), "192.0.2.3 0"},
		{web.HeaderForwarded, all("192.0.2.1", "192.0.2.2", ""), "127.0.0.9 2"},
		{web.HeaderForwarded, all("", "", "for=192.0.2.9, for=192.0.2.3, for=10.1.1.1"),
			"192.0.2.3 0"},
		{web.HeaderForwarded, all("", "", `proto=http;FOR="[2001:db8::3]:4711";by=_a`),
			"2001:db8::3 0"},
		{web.HeaderForwarded, all("", "", `for="192.0.2.3:_hidden"`), "192.0.2.3 0"},
		{web.HeaderForwarded, all("", "", "for=10.1.1.1"), "10.1.1.1 0"},
		{web.HeaderForwarded, all("", "", `for="[::ffff:192.0.2.3]"`), "192.0.2.3 0"},
		{web.HeaderForwarded, all("", "", "for=192.0.2.3, for=unknown"), "127.0.0.9 1"},
		{web.HeaderForwarded, all("", "", "for=192.0.2.3, for=_x"), "127.0.0.9 1"},
		{web.HeaderForwarded, all("", "", "for=192.0.2.3, by=10.1.1.1"), "127.0.0.9 1"},
		{web.HeaderForwarded, all("", "", "for=192.0.2.3;for=192.0.2.4"), "127.0.0.9 1"},
		{web.HeaderForwarded, all("", "", `for="[fe80::1%25eth0]"`), "127.0.0.9 1"},
		{web.HeaderForwarded, all("", "", `for="192.0.2.3`), "127.0.0.9 1"},
		{web.HeaderForwarded, all("", "", `for=192.0.2.3;a b="c"`), "127.0.0.9 1"},
	} {
		s := serve(t, web.Options{ClientHeader: x.header,
			Forwarders: origin.Networks{netip.MustParsePrefix("127.0.0.9/32"),
				netip.MustParsePrefix(proxy)},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				host, _, _ := net.SplitHostPort(r.RemoteAddr)
				fmt.Fprintf(w, "%s %d", host, len(r.Header))
			})})
		c := dialFrom(t, s, "127.0.0.9")
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", x.headers)
		if got := answer(c); got != "200 OK "+x.want {
			t.Errorf("%s, %q: %s, want %s", x.header, x.headers, got, x.want)
		}
	}
}

// TestForwardersHaveNoBound: the bound of an address does not apply to connections of a proxy,
// which carry the requests of many clients.
func TestForwardersHaveNoBound(t *testing.T) {
	s := serve(t, web.Options{PerAddress: 1,
		Forwarders: origin.Networks{netip.MustParsePrefix("127.0.0.9/32")},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "hello")
		})})
	first := dialFrom(t, s, "127.0.0.9")
	open(t, s, 1)
	for range 2 {
		if got := ask(t, dialFrom(t, s, "127.0.0.9"), "/"); !strings.HasSuffix(got, "hello") {
			t.Errorf("another connection: %q", got)
		}
	}
	if got := ask(t, first, "/"); !strings.HasSuffix(got, "hello") {
		t.Errorf("the first connection: %q", got)
	}
}
