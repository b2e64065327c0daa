// Package webtest serves HTTP in tests with the limits of the real servers, and sends
// them input that breaks the protocol.
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
	"teamtalk/core/config"
	"teamtalk/core/web"
)

// Patience bounds every wait of a test.
const Patience = time.Minute

// Serve answers on a free port until the test ends.
func Serve(t testing.TB, opt web.Options) *web.Server {
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
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // closes open connections at once
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

// Raw sends request, which may break the protocol, on a connection of its own, and
// returns all bytes received until the server closes it. The test fails if the server
// does not close it. "\n" in request is sent as the end of a line.
func Raw(t testing.TB, s *web.Server, request string) string {
	t.Helper()
	c := Dial(t, s)
	// Written by another goroutine, because the answer may precede the end of the
	// request.
	go io.WriteString(c, strings.ReplaceAll(request, "\n", "\r\n"))
	return Rest(t, c)
}

// Rest reads until the server closes a connection, and fails the test if it does not.
func Rest(t testing.TB, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if os.IsTimeout(err) {
		t.Errorf("the connection stays open after %.100q", b)
	}
	return string(b)
}

// Status returns the status code of an answer; 0 when there is none.
func Status(answer string) int {
	var n int
	if _, err := fmt.Sscanf(answer, "HTTP/1.1 %d", &n); err != nil {
		fmt.Sscanf(answer, "HTTP/1.0 %d", &n)
	}
	return n
}

// CrowdLimits are the limits for IdleCrowd: fewer connections than the crowd opens, and a
// short timeout.
var CrowdLimits = web.Options{MaxConns: 4000, HeaderTimeout: 2 * time.Second}

// IdleCrowd opens 10,000 connections, or as many as the process may have, to a server
// with CrowdLimits. They are silent or send the beginning of a request. ask must get its
// answers in the meantime, and the server must close all connections of the crowd in the
// end.
func IdleCrowd(t testing.TB, s *web.Server, ask func()) {
	t.Helper()
	if testing.Short() {
		t.Skip("10,000 connections: not with -short")
	}
	if _, err := budget.New(); err != nil { // raises the limit of open files
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
