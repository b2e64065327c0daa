package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"teamtalk/core/budget"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// TestFrameBeforeACloseArrives sends a notice and closes the session, as a kick does.
func TestFrameBeforeACloseArrives(t *testing.T) {
	r := newRole()
	s := start(t, Options{Clients: r})
	c := dial(t, s)
	kicked := next(t, r.sessions)
	notice := frameOf(pb.CmdKickUser, 0, []byte("elsewhere"))
	reason := errors.New("kicked")
	kicked.Loop().Post(func() {
		kicked.SendFrame(notice)
		kicked.Close(reason)
	})
	c.want(notice)
	c.wantEnd()
	if e := next(t, r.closed); e.err != reason {
		t.Errorf("closed because of %v", e.err)
	}
}

// TestLingeringSessionEndsWithItsClient lets a session linger after a frame. The client's
// later frames are not handled, and the session ends when the client closes the
// connection.
func TestLingeringSessionEndsWithItsClient(t *testing.T) {
	r := newRole()
	var frames atomic.Int64
	r.frame = func(s *session.Client, _ pdu.Header, _ []byte) {
		frames.Add(1)
		s.SendFrame(hello)
		s.Linger(session.ErrIdle)
	}
	s := start(t, Options{Clients: r})
	c := dial(t, s)
	c.send(append(append([]byte{}, hello...), hello...))
	c.want(hello)
	c.send(hello)
	c.Close()
	if e := next(t, r.closed); e.err != session.ErrIdle {
		t.Errorf("closed because of %v", e.err)
	}
	if n := frames.Load(); n != 1 {
		t.Errorf("%d frames handled", n)
	}
}

// TestFramesAfterACloseAreDropped sends several frames in one segment. The first one
// closes the session.
func TestFramesAfterACloseAreDropped(t *testing.T) {
	r := newRole()
	var frames atomic.Int64
	r.frame = func(s *session.Client, _ pdu.Header, _ []byte) {
		frames.Add(1)
		s.SendFrame(hello)
		s.Close(session.ErrIdle)
	}
	s := start(t, Options{Clients: r})
	c := dial(t, s)
	c.send(append(append([]byte{}, hello...), hello...))
	c.want(hello)
	c.wantEnd()
	if n := frames.Load(); n != 1 {
		t.Errorf("%d frames handled", n)
	}
}

// TestCloseDrains checks that output sent before Close arrives, even when it exceeds the
// socket's buffer. The clock does not advance, because a session that is being closed has
// two seconds, and the clients read as fast as the machine lets them.
func TestCloseDrains(t *testing.T) {
	r := newRole()
	answer := frameOf(pb.CmdMsgData, 1, make([]byte, 8<<20))
	asked := make(chan struct{}, 2)
	r.frame = func(s *session.Client, _ pdu.Header, _ []byte) {
		s.SendFrame(answer)
		asked <- struct{}{}
	}
	s := start(t, Options{Clients: r, Now: newClock().now})
	clients := []*client{dial(t, s), dial(t, s)}
	for _, c := range clients {
		c.send(hello)
	}
	next(t, asked)
	next(t, asked)
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.Background()) }()
	for _, c := range clients {
		c.want(answer)
		c.wantEnd()
		if e := next(t, r.closed); e.err != session.ErrShutdown {
			t.Errorf("closed because of %v", e.err)
		}
	}
	if err := next(t, closed); err != nil {
		t.Error(err)
	}
	if s.Open() != 0 {
		t.Errorf("%d connections are still open after Close", s.Open())
	}
	next(t, s.Done())
	if err := s.Err(); err != nil {
		t.Errorf("Err after Close: %v, want nil", err)
	}
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		c.Close()
		t.Error("still listening")
	}
	if err := s.Close(context.Background()); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

// TestCloseEndsWithItsContext has clients that do not read.
func TestCloseEndsWithItsContext(t *testing.T) {
	r := newRole()
	asked := make(chan struct{})
	r.frame = func(s *session.Client, _ pdu.Header, _ []byte) {
		s.SendFrame(make([]byte, 8<<20))
		close(asked)
	}
	clock := newClock() // does not advance, so that the session never gives up by itself
	s := start(t, Options{Clients: r, Now: clock.now})
	dial(t, s).send(hello)
	next(t, asked)
	ctx, cancel := context.WithCancel(context.Background())
	closed := make(chan error, 1)
	go func() { closed <- s.Close(ctx) }()
	for !s.refusing.Load() {
		runtime.Gosched()
	}
	dial(t, s).wantEnd() // a draining server refuses new connections
	cancel()
	if err := next(t, closed); err != nil {
		t.Error(err)
	}
	if e := next(t, r.closed); e.err != session.ErrShutdown && e.err != nil {
		t.Errorf("closed because of %v", e.err)
	}
}

// TestNothingIsLeftOfEndedConnections opens connections and ends them in seven ways.
func TestNothingIsLeftOfEndedConnections(t *testing.T) {
	const workers, each = 8, 60
	budget.Fixed(1) // opens the spare descriptor of the process
	files := openFiles(t)
	r := newRole()
	s := start(t, Options{Clients: r, Loops: 2})
	var running sync.WaitGroup
	for w := range uint64(workers) {
		running.Go(func() {
			rnd := rand.New(rand.NewPCG(w, 1))
			for range each {
				if err := visit(s.Addr().String(), rnd.IntN(7)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	// gnet does not close a connection that it has accepted and not opened yet when its
	// engine ends.
	for range workers * each {
		next(t, r.sessions)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if opens, closes := r.opens.Load(), r.closes.Load(); opens != closes || opens == 0 ||
		s.Open() != 0 {
		t.Errorf("%d opened, %d closed, %d open", opens, closes, s.Open())
	}
	if used := s.opt.Budget.Used(); used != 0 {
		t.Errorf("%d connections of the budget are still used", used)
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d files open, before %d", now, files)
	}
}

// visit connects and ends the connection in one of seven ways.
func visit(addr string, how int) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	c := nc.(*net.TCPConn)
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	switch how {
	case 0: // sends nothing
	case 1: // closes in the middle of a frame
		_, err = c.Write(hello[:len(hello)-1])
	case 2: // closes before the answer
		_, err = c.Write(hello)
	case 3: // resets the connection
		_, _ = c.Write(hello)
		err = c.SetLinger(0)
	case 4: // sends a frame that closes the connection
		_, _ = c.Write([]byte{0, 0, 0, 1})
		_, _ = c.Read(buf)
	case 5: // closes one direction only
		_, _ = c.Write(hello)
		_ = c.CloseWrite()
		_, _ = c.Read(buf)
	default:
		if _, err = c.Write(hello); err == nil {
			_, err = c.Read(buf)
		}
	}
	if err != nil {
		return fmt.Errorf("way %d: %w", how, err)
	}
	return nil
}

func TestServerClosesItsFiles(t *testing.T) {
	once := func() {
		r := newRole()
		s := start(t, Options{Clients: r})
		c := dial(t, s)
		c.echo(hello)
		if err := s.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		c.wantEnd()
		c.Close()
	}
	once() // opens the files of the runtime's own poller as well
	files := openFiles(t)
	for range 5 {
		once()
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d files open, before %d", now, files)
	}
}

// TestListenerThatEndsIsAnError ends the socket of the port behind the server's back. The
// server ends and says so: its process must not go on without the port.
func TestListenerThatEndsIsAnError(t *testing.T) {
	r := newRole()
	s, err := Start(Options{Addr: "127.0.0.1:0", Clients: r})
	if err != nil {
		t.Fatal(err)
	}
	open := dial(t, s)
	open.echo(hello)
	raw, err := s.listener.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_RD) })
	if err != nil {
		t.Fatal(err)
	}
	next(t, s.Done())
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "accept") {
		t.Errorf("the server ended without Close, and Err returns %v", err)
	}
	open.wantEnd()
	if err := s.Close(t.Context()); err == nil {
		t.Error("the server ended without Close, and Close returns nil")
	}
}
