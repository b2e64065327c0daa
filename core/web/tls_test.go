package web_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/cert/certtest"
	"teamtalk/core/web"
)

// secured serves a body with TLS, and without to those that may.
func secured(t *testing.T, body []byte, opt web.Options) *web.Server {
	t.Helper()
	opt.TLS = &tls.Config{Certificates: []tls.Certificate{certtest.Shared().Pair}}
	opt.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = io.Copy(w, r.Body) // the client compares what it gets
			return
		}
		w.Header().Set("Secure", map[bool]string{true: "yes", false: "no"}[web.Secure(r)])
		http.ServeContent(w, r, "body.bin", time.Time{}, bytes.NewReader(body))
	})
	return serve(t, opt)
}

// httpClient returns a client that trusts the certificate of the tests.
func httpClient() *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: certtest.Shared().Roots}}}
}

// TestTLS asks one port with TLS and without, several times on one connection.
func TestTLS(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	s := secured(t, body, web.Options{
		Plain: func(from netip.Addr) bool { return from.IsLoopback() }})
	c := httpClient()
	defer c.CloseIdleConnections()
	for scheme, want := range map[string]string{"http://": "no", "https://": "yes"} {
		for range 2 {
			rsp, err := c.Get(scheme + s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(rsp.Body)
			rsp.Body.Close()
			if err != nil || !bytes.Equal(got, body) || rsp.Header.Get("Secure") != want {
				t.Errorf("%s: %d bytes, %v, %v", scheme, len(got), rsp.Header, err)
			}
		}
		rsp, err := c.Post(scheme+s.Addr().String(), "text/plain", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(rsp.Body)
		rsp.Body.Close()
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %d bytes sent back, %v", scheme, len(got), err)
		}
	}
}

// TestPlainRefused answers a client that must use TLS.
func TestPlainRefused(t *testing.T) {
	reg, text := prometheus.NewRegistry(), new(bytes.Buffer)
	s := secured(t, []byte("secret"), web.Options{Name: "port", Registerer: reg,
		Log: slog.New(slog.NewTextHandler(text, nil))})
	got := ask(t, dial(t, s), "/")
	if !strings.Contains(got, "426 Upgrade Required") || strings.Contains(got, "secret") ||
		!strings.Contains(got, "https") {
		t.Errorf("the answer is %q", got)
	}
	want := `# HELP teamtalk_web_plaintext_total HTTP requests answered with status 426, because ` +
		`clients outside of tls.plain_networks need TLS.
# TYPE teamtalk_web_plaintext_total counter
teamtalk_web_plaintext_total{listener="port"} 1
`
	err := testutil.GatherAndCompare(reg, strings.NewReader(want), "teamtalk_web_plaintext_total")
	if err != nil {
		t.Error(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "tls.plain_networks") {
		t.Errorf("the log says %q", text)
	}
}

// TestSilentHandshake begins a handshake and sends no more. The server ends it.
func TestSilentHandshake(t *testing.T) {
	s := secured(t, nil, web.Options{HeaderTimeout: 50 * time.Millisecond})
	for _, first := range [][]byte{{22}, {22, 3, 1, 2, 0, 1}, {22, 3, 1, 0, 0}} {
		c := dial(t, s)
		if _, err := c.Write(first); err != nil {
			t.Fatal(err)
		}
		_, err := io.Copy(io.Discard, c) // an alert may come
		if e, ok := err.(net.Error); ok && e.Timeout() {
			t.Errorf("after %x the connection stays open", first)
		}
	}
}

// TestTLSMakesRoom fills a port with connections whose handshake waits.
func TestTLSMakesRoom(t *testing.T) {
	s := secured(t, []byte("body"), web.Options{MaxConns: 2})
	for range 2 {
		if _, err := dial(t, s).Write([]byte{22, 3}); err != nil {
			t.Fatal(err)
		}
	}
	c := httpClient()
	defer c.CloseIdleConnections()
	rsp, err := c.Get("https://" + s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	rsp.Body.Close()
	if rsp.StatusCode != http.StatusOK {
		t.Errorf("status %d", rsp.StatusCode)
	}
}

// TestTLSCloseDuringAWrite closes a port while an answer waits for a client that does not read.
func TestTLSCloseDuringAWrite(t *testing.T) {
	writes := make(chan bool)
	l, err := web.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := web.Serve(l, web.Options{MaxConns: 10, WriteTimeout: time.Hour,
		TLS: &tls.Config{Certificates: []tls.Certificate{certtest.Shared().Pair}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(writes)
			_, _ = w.Write(make([]byte, 64<<20)) // fails at the end of the connection
		})})
	c := tls.Client(dial(t, s), &tls.Config{RootCAs: certtest.Shared().Roots,
		ServerName: "localhost"})
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-writes
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	closed := make(chan error, 1)
	go func() { closed <- s.Close(ctx) }()
	select {
	case <-closed: // with the error of ctx
	case <-time.After(patience):
		t.Fatal("the port is still open")
	}
}
