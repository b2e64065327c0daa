//go:build linux

package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// valve is a relay before a server's port that can be shut after so many bytes. It measures the server's clients too.
type valve struct {
	t  testing.TB
	ln net.Listener

	mu     sync.Mutex
	server string
	open   *sync.Cond
	passed int64 // both ways
	limit  int64 // nothing is passed on beyond
	conns  map[net.Conn]bool
}

// never is a limit that is not reached.
const never = int64(1) << 62

// newValve listens; server is set before the first connection.
func newValve(t testing.TB) *valve {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{t: t, ln: ln, limit: never, conns: map[net.Conn]bool{}}
	v.open = sync.NewCond(&v.mu)
	t.Cleanup(func() {
		ln.Close()
		v.set(never)
		v.mu.Lock()
		defer v.mu.Unlock()
		for c := range v.conns {
			c.Close()
		}
	})
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go v.serve(c)
		}
	}()
	return v
}

// flags have a file server tell clients to come here.
func (v *valve) flags() []string {
	_, port, _ := net.SplitHostPort(v.ln.Addr().String())
	return []string{"--file.advertise-ip", "127.0.0.1", "--file.advertise-port", port}
}

func (v *valve) serve(c net.Conn) {
	defer c.Close()
	v.mu.Lock()
	server := v.server
	v.mu.Unlock()
	s, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer s.Close()
	v.mu.Lock()
	v.conns[c], v.conns[s] = true, true
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.conns, c)
		delete(v.conns, s)
	}()
	var both sync.WaitGroup
	both.Go(func() { v.pass(s, c) })
	both.Go(func() { v.pass(c, s) })
	both.Wait()
}

// pass copies one way until an end has gone.
func (v *valve) pass(dst, src net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := src.Read(buf)
		v.mu.Lock()
		for v.passed+int64(n) > v.limit {
			v.open.Wait()
		}
		v.passed += int64(n)
		v.open.Broadcast()
		v.mu.Unlock()
		if _, werr := dst.Write(buf[:n]); err != nil || werr != nil {
			if half, ok := dst.(*net.TCPConn); ok && err == io.EOF && werr == nil {
				half.CloseWrite()
			} else {
				dst.Close()
				src.Close()
			}
			return
		}
	}
}

// set lets bytes through up to a limit.
func (v *valve) set(limit int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.limit = limit
	v.open.Broadcast()
}

// shutAfter lets n more bytes through.
func (v *valve) shutAfter(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.limit = v.passed + n
	v.open.Broadcast()
}

// total is how much was passed on.
func (v *valve) total() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.passed
}

// awaitShut waits until the valve holds something back, or nearly.
func (v *valve) awaitShut() {
	v.t.Helper()
	until(v.t, "bytes to be held up", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.limit-v.passed < 16<<10
	})
}
