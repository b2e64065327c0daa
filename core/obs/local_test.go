package obs

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"teamtalk/core/budget"
)

// TestPagesOfOtherSitesReadNothing asks the admin port as an operator's browser does for a page of
// another site, directly and through a name of that site.
func TestPagesOfOtherSitesReadNothing(t *testing.T) {
	a := start(t, AdminOptions{PProf: true})
	for _, x := range []struct {
		host, site, mode, dest string
		code                   int
	}{
		{"", "", "", "", 200},
		{"localhost:9090", "", "", "", 200},
		{"LOCALHOST", "none", "navigate", "document", 200},
		{"[::1]:9090", "same-origin", "cors", "empty", 200},
		{"127.0.0.1", "cross-site", "navigate", "document", 200}, // a link
		{"127.0.0.1", "cross-site", "no-cors", "image", 403},
		{"127.0.0.1", "same-site", "cors", "empty", 403},
		{"127.0.0.1", "cross-site", "navigate", "iframe", 403},
		{"evil.example:9090", "", "", "", 403},
		{"localhost.evil.example", "same-origin", "cors", "empty", 403},
		{"127.0.0.1.evil.example", "", "", "", 403},
	} {
		r, err := http.NewRequest(http.MethodGet, "http://"+a.Addr().String()+
			"/debug/pprof/cmdline", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = x.host
		for name, value := range map[string]string{"Sec-Fetch-Site": x.site,
			"Sec-Fetch-Mode": x.mode, "Sec-Fetch-Dest": x.dest} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		rsp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = rsp.Body.Close()
		if rsp.StatusCode != x.code {
			t.Errorf("%+v: status %d", x, rsp.StatusCode)
		}
	}
}

// TestSilentConnectionsLeaveTheAdminPortOpen fills the port with connections that send nothing,
// or a part of a header. Each request still finds room, and one that is being answered keeps its
// place.
func TestSilentConnectionsLeaveTheAdminPortOpen(t *testing.T) {
	var l *budget.Listener
	b := budget.Fixed(100)
	entered, release := make(chan struct{}), make(chan struct{})
	ready := NewReady(time.Hour)
	ready.Add("slow", func(context.Context) error {
		entered <- struct{}{}
		<-release
		return nil
	})
	a := start(t, AdminOptions{Ready: ready,
		Bound: func(tcp *net.TCPListener) net.Listener {
			l = b.Listener(tcp, 3)
			return l
		}})
	dial := func(begin string) net.Conn {
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := io.WriteString(c, begin); err != nil {
			t.Fatal(err)
		}
		return c
	}
	answered := dial("GET /readyz HTTP/1.0\r\n\r\n")
	<-entered
	silent := []net.Conn{dial(""), dial("GET /metrics HTTP/1.1\r\nHost:")}
	for range 5 {
		if code, body := get(t, a, "/healthz"); code != 200 {
			t.Fatalf("status %d: %s", code, body)
		}
		http.DefaultClient.CloseIdleConnections()
		silent = append(silent, dial(""))
	}
	for _, c := range silent[:2] {
		if _, err := io.ReadAll(c); err != nil && !reset(err) {
			t.Errorf("the longest waiting connections stay: %v", err)
		}
	}
	close(release)
	if got, err := io.ReadAll(answered); err != nil || len(got) == 0 {
		t.Errorf("the connection that was being answered got %d bytes (%v)", len(got), err)
	}
	if l.Displaced() < 2 || b.Used() > 3 {
		t.Errorf("%d displaced, %d of 3 count", l.Displaced(), b.Used())
	}
}

func reset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
