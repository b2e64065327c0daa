//go:build linux

package e2e

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"teamtalk/proto/pb"
)

// sessionsClosed is a metric of every port of the engine.
const sessionsClosed = "teamtalk_session_closed_total"

// TestFewDescriptors lets processes run out of descriptors on each of their ports in turn.
// A process stays, and each port serves again when the crowd has left.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	for _, files := range []int{64, 256, 1024} {
		t.Run(strconv.Itoa(files), func(t *testing.T) {
			t.Parallel()
			fewDescriptors(t, files)
		})
	}
}

func fewDescriptors(t *testing.T, files int) {
	s := newServer(t, "few", "serve", "--data-dir", t.TempDir(), "--loops", "1",
		"--http.apps-file", apps(t))
	s.files = files
	ports := []struct{ flag, listener, addr string }{
		{flag: "--msg.listen", listener: "clients"},
		{flag: "--login.client-listen", listener: "login"},
		{flag: "--file.listen", listener: "file"},
		{flag: "--login.server-listen", listener: "login servers"},
		{flag: "--route.listen", listener: "route"},
		{flag: "--dbproxy.listen", listener: "dbproxy"},
		{flag: "--push.listen", listener: "push"},
		{flag: "--file.server-listen", listener: "file servers"},
		{flag: "--login.http-listen"}, {flag: "--msfs.listen"}, {flag: "--http.listen"},
	}
	for i := range ports {
		ports[i].addr = reserve(t)
		s.args = append(s.args, ports[i].flag, ports[i].addr)
	}
	s.start()
	for _, p := range append(ports, struct{ flag, listener, addr string }{addr: s.admin}) {
		connectMany(t, p.addr, 2*s.files)
		if s.ended() {
			t.Fatalf("the process ended after a crowd on %s", p.addr)
		}
		if p.listener == "" {
			until(t, p.flag+" to answer", func() bool { return answersHTTP(p.addr) })
			continue
		}
		// A session counts when a wrong length closes it. A refused connection does not.
		part := fmt.Sprintf("listener=%q,reason=\"frame_length\"", p.listener)
		before := s.metric(sessionsClosed, part)
		until(t, p.flag+" to serve", func() bool {
			answer(p.addr, string(rawFrame(0, pb.CmdHeartBeat, 1, nil)), "?")
			return s.metric(sessionsClosed, part) > before
		})
	}
}

// connectMany opens n connections to a port and closes them. The kernel completes those that the
// server does not accept, as far as its queue holds them.
func connectMany(t *testing.T, addr string, n int) {
	t.Helper()
	var all []net.Conn
	for range n {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			break // the queue of the kernel is full
		}
		all = append(all, c)
	}
	for _, c := range all {
		c.Close()
	}
}

// answersHTTP reports whether a port answers a request.
func answersHTTP(addr string) bool {
	return answer(addr, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 ")
}

// answer reports whether the answer of a port to text begins with want.
func answer(addr, text, want string) bool {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte(text)); err != nil {
		return false
	}
	got := make([]byte, len(want))
	_, err = c.Read(got)
	return err == nil && strings.HasPrefix(string(got), want)
}
