package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// patience bounds every wait of a test. A working server stays far below it.
const patience = 4 * time.Minute

// role is a handler made of functions. Without a frame function it echoes.
type role struct {
	open  func(s *session.Client) error
	frame func(s *session.Client, h pdu.Header, body []byte)
	close func(s *session.Client, err error)

	sessions chan *session.Client // sessions that were opened
	closed   chan end
	opens    atomic.Int64
	closes   atomic.Int64
}

type end struct {
	s   *session.Client
	err error
}

func newRole() *role {
	return &role{sessions: make(chan *session.Client, 10_000), closed: make(chan end, 10_000)}
}

func (r *role) Open(s *session.Client) error {
	if r.open != nil {
		if err := r.open(s); err != nil {
			return err
		}
	}
	r.opens.Add(1)
	r.sessions <- s
	return nil
}

func (r *role) Frame(s *session.Client, h pdu.Header, body []byte) {
	if r.frame != nil {
		r.frame(s, h, body)
		return
	}
	s.SendFrame(frameOf(h.Command, h.Seq, body))
}

func (r *role) Message(*session.Client, uint16, pb.Message) {}

func (r *role) Close(s *session.Client, err error) {
	r.closes.Add(1)
	r.closed <- end{s, err}
	if r.close != nil {
		r.close(s, err)
	}
}

// frameOf encodes a frame with the given body, which need not be a valid one.
func frameOf(cmd pb.Command, seq uint16, body []byte) []byte {
	b := append(pdu.AppendHeader(nil, cmd, seq), body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

func start(t testing.TB, opt Options) *Server {
	t.Helper()
	if opt.Addr == "" {
		opt.Addr = "127.0.0.1:0"
	}
	s, err := Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // without draining: the clients have ended, or do not read
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// client is one end of a TCP connection to a server.
type client struct {
	net.Conn
	t testing.TB
}

func dial(t testing.TB, s *Server) *client {
	t.Helper()
	return dialFrom(t, s, "127.0.0.1")
}

// dialFrom connects from an address of this machine. Linux has all addresses of 127.0.0.0/8.
func dialFrom(t testing.TB, s *Server, from string) *client {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", s.Addr().String())
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Skip("needs the address ", from)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{c, t}
}

func (c *client) send(p []byte) {
	c.t.Helper()
	if _, err := c.Write(p); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// want reads len(p) bytes and compares them with p.
func (c *client) want(p []byte) {
	c.t.Helper()
	got := make([]byte, len(p))
	if n, err := io.ReadFull(c, got); err != nil {
		c.t.Fatalf("read: %v after %d of %d bytes", err, n, len(p))
	}
	if !bytes.Equal(got, p) {
		c.t.Fatalf("read %d bytes that are not the ones expected: %.100x, want %.100x", len(got),
			got, p)
	}
}

// echo sends a frame and reads its echo, which shows that the connection and its loop
// work.
func (c *client) echo(frame []byte) {
	c.t.Helper()
	c.send(frame)
	c.want(frame)
}

// wantEnd fails unless the server closes the connection without sending more.
func (c *client) wantEnd() {
	c.t.Helper()
	n, err := io.Copy(io.Discard, c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("the server did not close the connection")
	}
	if n > 0 {
		c.t.Fatalf("%d bytes before the end", n)
	}
}

// next receives one value that a role reports.
func next[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("not reached")
	}
}

// clock is a time for all loops, and their timers. It changes only by advance.
type clock struct {
	mu     sync.Mutex
	t      time.Time
	timers map[*timer]struct{}
	fired  int // timers that have ended
}

type timer struct {
	at time.Time
	f  func()
}

func newClock() *clock {
	return &clock{t: time.Unix(1_700_000_000, 0), timers: map[*timer]struct{}{}}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

// advance lets d pass, and ends the timers that are due.
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
	for x := range c.timers {
		if !x.at.After(c.t) {
			delete(c.timers, x)
			c.fired++
			go x.f()
		}
	}
}

// afterFunc is an Options.AfterFunc.
func (c *clock) afterFunc(d time.Duration, f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := &timer{c.t.Add(d), f}
	c.timers[x] = struct{}{}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, runs := c.timers[x]
		delete(c.timers, x)
		return runs
	}
}

// settle waits until all loops have run what was posted to them, and have ended the turns that they
// were in: what is posted during a turn may run in it, before its last work.
func settle(s *Server) {
	done := make(chan struct{})
	for _, l := range s.all() {
		l.Post(func() { done <- struct{}{} })
		<-done
		if l.wake(gnet.RunnableFunc(func(context.Context) error {
			done <- struct{}{}
			return nil
		})) == nil {
			<-done
		}
	}
}

// openFiles counts the file descriptors of this process.
func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs /proc: ", err)
	}
	return len(entries)
}
