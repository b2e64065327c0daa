// Package webtest serves HTTP in tests as the servers do, and speaks it as no decent client would.
package webtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"teamtalk/core/budget"
	"teamtalk/core/web"
)

// Patience is how long anything may take before a test gives up.
const Patience = 20 * time.Second

// Serve answers on a free port until the test ends.
func Serve(t testing.TB, opt web.Options) *web.Server {
	t.Helper()
	l, err := web.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := web.Serve(l, opt)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // at once, whoever is connected
		_ = s.Close(ctx)
	})
	return s
}

// Dial connects to a server.
func Dial(t testing.TB, s *web.Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// Raw sends what may be no HTTP at all, on a connection of its own, and returns all that comes back until the server closes it. The test fails when it
// does not. \n stands for the end of a line.
func Raw(t testing.TB, s *web.Server, request string) string {
	t.Helper()
	c := Dial(t, s)
	// an answer may come before the end of it
	go io.WriteString(c, strings.ReplaceAll(request, "\n", "\r\n"))
	return Rest(t, c)
}

// Rest reads until the server closes a connection, and fails the test when it does not.
func Rest(t testing.TB, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if os.IsTimeout(err) {
		t.Errorf("the connection stays open after %.100q", b)
	}
	return string(b)
}

// Status is the status an answer begins with; 0 when it is none.
func Status(answer string) int {
	var n int
	if _, err := fmt.Sscanf(answer, "HTTP/1.1 %d", &n); err != nil {
		fmt.Sscanf(answer, "HTTP/1.0 %d", &n)
	}
	return n
}

// CrowdLimits are limits under which IdleCrowd is tried: less room than the crowd needs, and a short patience.
var CrowdLimits = web.Options{MaxConns: 4000, HeaderTimeout: 2 * time.Second}

// IdleCrowd opens 10,000 connections, or as many as this process may have, that say nothing or only the beginning of a request, to a server with CrowdLimits. Meanwhile
// ask has to be answered; at the end all of them have to be closed.
func IdleCrowd(t testing.TB, s *web.Server, ask func()) {
	t.Helper()
	if testing.Short() {
		t.Skip("10,000 connections: not with -short")
	}
	if _, err := budget.New(); err != nil { // raises the limit
		t.Fatal(err)
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	crowd := min(10_000, int(min(lim.Cur, 1<<20))-500-CrowdLimits.MaxConns)
	for i := range crowd {
		c := Dial(t, s)
		if i%2 == 0 {
			io.WriteString(c, "GET / HTTP/1.1\r\nHo")
		}
		if i%1000 == 0 {
			ask()
		}
	}
	ask()
	if n := s.Open(); n > CrowdLimits.MaxConns {
		t.Errorf("%d connections open, %d allowed", n, CrowdLimits.MaxConns)
	}
	http.DefaultClient.CloseIdleConnections()
	for deadline := time.Now().Add(Patience); s.Open() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of the crowd are still connected", s.Open())
		}
	}
}
