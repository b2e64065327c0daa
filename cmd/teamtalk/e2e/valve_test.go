//go:build linux

package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// valve is a relay in front of a server's port. It counts the bytes that pass, and can
// hold them back after a number of bytes.
type valve struct {
	t  testing.TB
	ln net.Listener

	mu     sync.Mutex
	server string
	open   *sync.Cond
	passed int64 // bytes in both directions
	limit  int64 // of passed; the relay holds back the bytes beyond
	conns  map[net.Conn]bool
}

// never is a limit that no test reaches.
const never = int64(1) << 62

// newValve listens on a port. The caller sets server before the first connection.
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

// flags returns the flags with which a file server tells clients the address of the
// valve.
func (v *valve) flags() []string {
	_, port, _ := net.SplitHostPort(v.ln.Addr().String())
	return []string{"--file.advertise-ip", "127.0.0.1", "--file.advertise-port", port}
}

// serve relays a connection to the server and back.
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

// pass copies one direction until either end closes.
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

// set changes the limit.
func (v *valve) set(limit int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.limit = limit
	v.open.Broadcast()
}

// shutAfter lets n more bytes pass.
func (v *valve) shutAfter(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.limit = v.passed + n
	v.open.Broadcast()
}

// total returns the number of bytes that have passed.
func (v *valve) total() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.passed
}

// awaitShut waits until the valve is shut: less than one read of pass is left of the
// limit.
func (v *valve) awaitShut() {
	v.t.Helper()
	until(v.t, "bytes to be held up", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.limit-v.passed < 16<<10
	})
}
