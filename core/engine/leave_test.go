package engine

import (
	"errors"
	"io"
	"os"
	"runtime"
	"testing"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// TestLeaveDestroysNothing ends a session while a frame of the client is unread, and lets
// the client send more frames before it reads. The client gets the answer that was sent
// before, and then the end of the connection, not a reset. The frames are dropped.
func TestLeaveDestroysNothing(t *testing.T) {
	r := newRole()
	r.frame = func(*session.Client, pdu.Header, []byte) { t.Error("a frame was handled") }
	s := start(t, Options{Clients: r})
	c := dial(t, s)
	leaves := next(t, r.sessions)
	answer := frameOf(pb.CmdMsgDataAck, 2, []byte("ack"))
	quiet := make(chan bool, 2)
	blocked := make(chan struct{})
	leaves.Loop().Post(func() {
		quiet <- leaves.IsQuiet()
		<-blocked // the loop reads nothing meanwhile
		for leaves.IsQuiet() {
			runtime.Gosched()
		}
		leaves.SendFrame(answer)
		leaves.Leave(session.ErrShutdown)
		if !leaves.IsClosed() {
			t.Error("IsClosed reports false for a session that leaves")
		}
	})
	if !next(t, quiet) {
		t.Error("a silent session is not quiet")
	}
	c.send(hello)
	close(blocked)
	c.want(answer)
	if _, err := c.Write(hello); err != nil {
		t.Errorf("write after the answer: %v", err)
	}
	c.wantEOF()
	if _, err := c.Write(hello); err != nil {
		t.Errorf("write after the end: %v", err)
	}
	c.Close()
	if e := next(t, r.closed); e.err != session.ErrShutdown {
		t.Errorf("closed because of %v", e.err)
	}
}

// TestLeaveFlushesFirst ends a session whose client reads late. All output precedes the end
// of the connection.
func TestLeaveFlushesFirst(t *testing.T) {
	r := newRole()
	clock := newClock() // does not advance: the session waits for its client
	s := start(t, Options{Clients: r, Now: clock.now})
	c := dial(t, s)
	leaves := next(t, r.sessions)
	long := frameOf(pb.CmdMsgData, 1, make([]byte, 8<<20))
	left := make(chan bool, 1)
	leaves.Loop().Post(func() {
		leaves.SendFrame(long)
		left <- leaves.IsQuiet()
		leaves.Leave(session.ErrShutdown)
	})
	if next(t, left) {
		t.Error("a session with output is quiet")
	}
	c.want(long)
	c.wantEOF()
	c.Close()
	next(t, r.closed)
}

// wantEOF fails unless the server has closed its direction in order.
func (c *client) wantEOF() {
	c.t.Helper()
	n, err := c.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("the server did not close its direction")
	}
	if n > 0 || !errors.Is(err, io.EOF) {
		c.t.Fatalf("read %d bytes, %v, want EOF", n, err)
	}
}
