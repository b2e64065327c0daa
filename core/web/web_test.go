package web_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/budget"
	"teamtalk/core/config"
	"teamtalk/core/web"
)

// patience bounds every wait of a test.
const patience = 4 * time.Minute

func serve(t *testing.T, opt web.Options) *web.Server {
	t.Helper()
	l, err := web.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if opt.MaxConns == 0 {
		opt.MaxConns = config.Default().HTTP.MaxConnections
	}
	s := web.Serve(l, opt)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := s.Err(); err != nil {
			t.Errorf("the server ended without Close: %v", err)
		}
	})
	return s
}

func dial(t *testing.T, s *web.Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// ask sends a request that closes the connection afterwards, and returns all bytes
// received.
func ask(t *testing.T, c net.Conn, path string) string {
	t.Helper()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
	b, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// answer reads one answer, and returns the error's text when there is none.
func answer(c net.Conn) string {
	rsp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(rsp.Body)
	if err != nil {
		return err.Error()
	}
	return rsp.Status + " " + string(b)
}

// open waits until n connections are open.
func open(t *testing.T, s *web.Server, n int) {
	t.Helper()
	until(t, fmt.Sprint(n, " connections"), func() bool { return s.Open() == n })
}

// until polls for a condition that no event reports.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for: %s", patience, what)
		}
	}
}

// gone fails unless the server closed the connection without an answer.
func gone(t *testing.T, what string, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); len(b) > 0 || os.IsTimeout(err) {
		t.Errorf("%s: got %q, %v instead of an end", what, b, err)
	}
}

func count(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestFullPortClosesTheLongestWaiting fills a port with connections that are silent, have
// sent half a header, or are between two requests. The port closes those to make room,
// and never one that is being answered. When all are being answered it refuses new ones.
func TestFullPortClosesTheLongestWaiting(t *testing.T) {
	for _, bound := range []string{"MaxConns", "Budget"} {
		t.Run(bound, func(t *testing.T) {
			entered, leave, reg := make(chan struct{}), make(chan struct{}),
				prometheus.NewRegistry()
			opt := web.Options{Name: "x", MaxConns: 3, Registerer: reg,
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/wait" {
						entered <- struct{}{}
						<-leave
					}
					io.WriteString(w, "hello")
				})}
			if bound == "Budget" {
				opt.MaxConns, opt.Budget = 100, budget.Fixed(3)
			}
			s := serve(t, opt)
			answered := dial(t, s)
			fmt.Fprint(answered, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
			<-entered
			silent, half := dial(t, s), dial(t, s)
			fmt.Fprint(half, "GET / HTTP/1.1\r\nHo")
			for range 10 { // the first request displaces a connection
				if a := ask(t, dial(t, s), "/"); !strings.HasSuffix(a, "hello") {
					t.Fatalf("a request beside waiting connections: %q", a)
				}
				open(t, s, 2)
			}
			gone(t, "silent", silent)
			fmt.Fprint(half, "st: x\r\n\r\n")
			if a := answer(half); !strings.HasSuffix(a, "hello") {
				t.Errorf("half a header: %q", a)
			}
			until(t, "half to wait again",
				func() bool { return count(t, reg, "teamtalk_web_waiting") == 1 })
			if n := count(t, reg, "teamtalk_web_displaced_total"); n < 1 {
				t.Errorf("%v displaced", n)
			}
			for range 2 {
				c := dial(t, s)
				fmt.Fprint(c, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
				<-entered
			}
			gone(t, "between requests", half)
			gone(t, "beyond the limit, all being answered", dial(t, s))
			if n, now := count(t, reg, "teamtalk_web_refused_total"),
				count(t, reg, "teamtalk_web_open"); n != 1 || now != 3 {
				t.Errorf("%v refused, %v open", n, now)
			}
			close(leave)
			if a := answer(answered); !strings.HasSuffix(a, "hello") {
				t.Errorf("the first: %q", a)
			}
		})
	}
}

// TestBudgetIsReturned opens and closes more connections than the budget allows at once.
func TestBudgetIsReturned(t *testing.T) {
	b := budget.Fixed(1)
	s := serve(t, web.Options{Handler: http.NotFoundHandler(), Budget: b})
	for range 50 {
		if a := ask(t, dial(t, s), "/"); !strings.HasPrefix(a, "HTTP/1.1 404") {
			t.Fatal(a)
		}
		open(t, s, 0)
	}
	if !b.Take() || b.Take() {
		t.Error("the budget has not exactly one connection left")
	}
}

// TestTimeoutsCloseConnections tries a client that is silent, one that sends a header or
// a body slowly, one that is idle, and one that does not read.
func TestTimeoutsCloseConnections(t *testing.T) {
	const short = 50 * time.Millisecond
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	s := serve(t, web.Options{HeaderTimeout: short, ReadTimeout: short, WriteTimeout: short,
		IdleTimeout: short,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				_, err := io.ReadAll(r.Body)
				done <- err
				return
			}
			http.ServeFile(w, r, big)
		})})
	gone(t, "silent", dial(t, s))
	half := dial(t, s)
	fmt.Fprint(half, "GET / HTTP/1.1\r\nHo")
	io.ReadAll(half)
	slow := dial(t, s)
	fmt.Fprint(slow, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx")
	if err := <-done; !os.IsTimeout(err) {
		t.Errorf("a slow body: %v", err)
	}
	io.ReadAll(slow)
	// On a busy machine the header may miss its time. The server then closes the connection
	// without an answer, and the test tries again.
	for end := time.Now().Add(patience); ; {
		idle := dial(t, s)
		fmt.Fprint(idle, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
		b, err := io.ReadAll(idle)
		if err == nil && strings.HasPrefix(string(b), "HTTP/1.1 200") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("idle: %q, %v", b, err)
		}
	}
	deaf := dial(t, s)
	fmt.Fprint(deaf, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	open(t, s, 0)
}

func TestEndlessHeaderIsRefused(t *testing.T) {
	s := serve(t, web.Options{Handler: http.NotFoundHandler()})
	c := dial(t, s)
	go func() { // until the server closes the connection
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nX: ")
		line := []byte(strings.Repeat("x", 1<<16))
		for {
			if _, err := c.Write(line); err != nil {
				return
			}
		}
	}()
	b := make([]byte, 12)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "HTTP/1.1 431" {
		t.Errorf("%q, %v", b, err)
	}
}
