package web

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"teamtalk/core/budget"
	"teamtalk/core/cert/certtest"
	"teamtalk/core/engine"
	"teamtalk/core/origin"
	"teamtalk/core/proxyproto"
	"teamtalk/core/tlsconn"
	port "teamtalk/core/web"
)

// TestRemote passes requests on to another server, with the address of the client and nothing of
// the page's origin.
func TestRemote(t *testing.T) {
	got := make(chan *http.Request, 1)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r
		_, _ = io.WriteString(w, r.URL.Path+" "+string(body))
	}))
	defer other.Close()
	at := other.URL + "/files/"
	w := serve(t, Options{SmallFiles: Remote(RemoteOptions{URL: func() string { return at }}),
		Register: Remote(RemoteOptions{URL: func() string { return at }})}, port.Options{}, nil)
	for path, want := range map[string]string{"/msfs/upload/": "/files/upload/ body",
		"/register": "/files/query/Register body"} {
		_, body := w.ask(t, "POST", path, "body", "Origin", "http://"+w.port.Addr().String(),
			"Sec-Fetch-Site", "same-origin", "Cookie", "a=b", "Referer", "http://x/",
			"X-Forwarded-For", "9.9.9.9", "X-Real-Ip", "9.9.9.9", "Forwarded", "for=9.9.9.9",
			"Via", "x", "Content-Type", "text/x")
		r := <-got
		h := r.Header
		if body != want || r.Host != strings.TrimPrefix(other.URL, "http://") ||
			h.Get("X-Forwarded-For") != "127.0.0.1" || h.Get("X-Real-Ip") != "127.0.0.1" ||
			h.Get("Forwarded") != "for=127.0.0.1" || h.Get("Content-Type") != "text/x" {
			t.Errorf("%s: %q, host %s, %v", path, body, r.Host, h)
		}
		for _, name := range []string{"Origin", "Sec-Fetch-Site", "Cookie", "Referer",
			"X-Forwarded-Host", "Via"} {
			if h.Get(name) != "" {
				t.Errorf("%s: %s is passed on", path, name)
			}
		}
	}
	for url, want := range map[string]int{"": 404, "%": 404, "/x": 404, "http://127.0.0.1:1": 502} {
		at = url
		if got, _ := w.ask(t, "GET", "/msfs/x", ""); got.StatusCode != want {
			t.Errorf("%q: %s, want %d", url, got.Status, want)
		}
	}
}

// TestForwarded writes an address of IPv6 as servers read it.
func TestForwarded(t *testing.T) {
	in := httptest.NewRequest("GET", "/x", nil)
	in.RemoteAddr = "[2001:db8::7]:5"
	to, _ := url.Parse("http://files.example.com/")
	in = in.WithContext(context.WithValue(in.Context(), targetKey{}, to))
	p := &httputil.ProxyRequest{In: in, Out: in.Clone(in.Context())}
	rewrite(p)
	if h := p.Out.Header; h.Get("X-Forwarded-For") != "2001:db8::7" ||
		h.Get("Forwarded") != `for="[2001:db8::7]"` {
		t.Errorf("%v", h)
	}
}

// TestSlowRemote lets a request and its answer take longer than the port allows a whole one: its
// times are over at once.
func TestSlowRemote(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	defer other.Close()
	w := serve(t, Options{SmallFiles: Remote(RemoteOptions{
		URL: func() string { return other.URL }})},
		port.Options{ReadTimeout: 1, WriteTimeout: 1}, nil)
	large := strings.Repeat("large ", 1<<20)
	if got, body := w.ask(t, "POST", "/msfs/x", large); got.StatusCode != 200 || body != large {
		t.Errorf("%s, %d bytes", got.Status, len(body))
	}
}

// dialTo returns a Dialer for targets.
func dialTo(b *budget.Budget, conf *tls.Config, now func() time.Time, list ...Target) *Dialer {
	return NewDialer(DialOptions{Targets: func() []Target { return list }, TLS: conf, Budget: b,
		Now: now})
}

// TestDialer reaches the port of a message server in another process, with TLS and without. It
// learns the address of the client.
func TestDialer(t *testing.T) {
	cert := certtest.Shared()
	handshakes := tlsconn.NewHandshakes(tlsconn.Options{
		Config: &tls.Config{Certificates: []tls.Certificate{cert.Pair}}})
	handler := clients{make(chan netip.AddrPort, 1)}
	s, err := engine.Start(engine.Options{Name: "pages", Clients: handler, Addr: "127.0.0.1:0",
		WebSocket: &engine.WebSocket{}, TLS: handshakes,
		Plain: func(netip.Addr) bool { return true },
		Proxies: proxyproto.New(proxyproto.Options{
			Networks: origin.Networks{netip.MustParsePrefix("127.0.0.0/8")}})})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	for _, conf := range []*tls.Config{nil, {RootCAs: cert.Roots}} {
		b := budget.Fixed(1)
		d := dialTo(b, conf, nil, Target{Addr: s.Addr().String()})
		w := serve(t, Options{Messages: d.Dial, Linger: time.Millisecond}, port.Options{}, nil)
		p := w.open(t, "", unmasked())
		if got := p.answer(); got.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(got.Status)
		}
		p.wants(unmasked()[:1] + "\x10")
		if a := <-handler.from; a.String() != p.LocalAddr().String() {
			t.Errorf("address %v, want %v", a, p.LocalAddr())
		}
		if got := w.open(t, "", "").answer(); got.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("beyond the budget: %s", got.Status)
		}
		_ = p.Close()
		eventually(t, "the end", func() bool { return b.Used() == 0 && w.Open() == 0 })
		if len(d.servers) != 1 || d.servers[s.Addr().String()].open != 0 {
			t.Errorf("connections are counted after their end: %+v", d.servers)
		}
	}
	wrong := dialTo(budget.Fixed(1), &tls.Config{}, nil, Target{Addr: s.Addr().String()})
	eventually(t, "an error for a certificate of an unknown CA", func() bool {
		_, err := wrong.Dial(t.Context(), p0, false) // a busy machine takes longer than a dial may
		if err == nil {
			t.Fatal("a certificate of an unknown CA was accepted")
		}
		return strings.Contains(err.Error(), "certificate")
	})
}

// TestDialHeader tells the server of the client's TLS, also when it is not chosen by its load.
func TestDialHeader(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := dialTo(budget.Fixed(1), nil, nil)
	for _, secure := range []bool{true, false} {
		c, err := d.To(t.Context(), l.Addr().String(), p0, secure)
		if err != nil {
			t.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		h, err := proxyproto.Read(far)
		if err != nil || h.Source != p0 || h.Secure != secure {
			t.Errorf("header %v, %v, want %v and TLS %v", h, err, p0, secure)
		}
		_ = c.Close()
		_ = far.Close()
	}
	if n := d.opt.Budget.Used(); n != 0 || len(d.servers) > 0 {
		t.Errorf("%d places are used, %v counted", n, d.servers)
	}
}

var p0 = netip.MustParseAddrPort("203.0.113.7:5")

// TestChoice prefers the message server with the most room, counts what it has sent there itself,
// and avoids one that did not answer.
func TestChoice(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const dead = "127.0.0.1:1"
	here := l.Addr().String()
	now := time.Unix(1, 0)
	clock := func() time.Time { return now }
	want := func(d *Dialer, what string, addrs ...string) {
		t.Helper()
		if diff := cmp.Diff(addrs, d.choose()); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", what, diff)
		}
	}
	d := dialTo(budget.Fixed(9), nil, clock, Target{"a", 50, 100}, Target{"b", 50, 1000},
		Target{"c", 7, 0}, Target{"d", 99, 100})
	want(d, "the shares", "c", "b", "a")

	d = dialTo(budget.Fixed(9), nil, clock, Target{dead, 0, 100}, Target{here, 0, 100},
		Target{"x", 1, 100})
	var conns []net.Conn
	dial := func() {
		c, err := d.Dial(context.Background(), p0, false)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	want(d, "the order of the list", dead, here, "x")
	dial()
	want(d, "one that failed, and one that has a connection", here, "x", dead)
	dial()
	want(d, "two connections", "x", here, dead)
	now = now.Add(avoidFor)
	want(d, "a while later", dead, "x", here)
	for _, c := range conns {
		_ = c.Close()
	}
	want(d, "after the connections", dead, here, "x")
	if d.opt.Targets = func() []Target { return nil }; len(d.choose()) > 0 || len(d.servers) > 0 {
		t.Errorf("servers that are gone are kept: %+v", d.servers)
	}
	if _, err := d.Dial(context.Background(), p0, false); err != errNoTarget {
		t.Errorf("without a server: %v", err)
	}
	if n := d.opt.Budget.Used(); n != 0 {
		t.Errorf("%d places are used", n)
	}
}
