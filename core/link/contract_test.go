package link

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"teamtalk/core/im"
	"teamtalk/core/link/frames"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// tcpEnd is the carrier of the peer's sessions over TCP, as in a server.
type tcpEnd struct {
	mu sync.Mutex
	nc net.Conn
}

func (e *tcpEnd) SendMessage(seq uint16, m pb.Message) error {
	b, err := pdu.Append(nil, seq, m)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err = e.nc.Write(b)
	return err
}

func (e *tcpEnd) Close(error) { e.nc.Close() }

// serveTCP serves one accepted connection with h.
func serveTCP(nc net.Conn, h session.LinkHandler) {
	s := session.NewLink(session.NextID(), "caller", &tcpEnd{nc: nc})
	if h.Open(s) != nil {
		return
	}
	fr := frames.New(nc, pdu.MaxServerFrame)
	for {
		hd, body, err := fr.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			h.Close(s, err)
			return
		}
		if hd.Command == pb.CmdHeartBeat {
			continue
		}
		if m, err := pdu.Decode(hd.Command, body); err == nil {
			h.Message(s, hd.Seq, m)
		}
	}
}

// joiner links a caller to a peer.
type joiner func(caller, callee *recorder) Peer

// eachKind runs a test with a peer over TCP and one in the same process: both must behave
// alike.
func eachKind(t *testing.T, f func(t *testing.T, join joiner)) {
	t.Run("remote", func(t *testing.T) {
		f(t, func(caller, callee *recorder) Peer {
			r := newRig(t)
			var wg sync.WaitGroup
			wg.Go(func() { serveTCP((<-r.conns).nc, callee) })
			p := dial(t, Options{Name: "peer", Addr: r.addr(), Handler: caller})
			t.Cleanup(func() { p.Close(); wg.Wait() })
			<-caller.opened
			return p
		})
	})
	t.Run("local", func(t *testing.T) {
		f(t, func(caller, callee *recorder) Peer {
			p, err := startLocal(LocalOptions{Name: "peer", CallerName: "caller",
				Caller: caller, Callee: callee, CallTimeout: patience})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.Close() })
			return p
		})
	})
}

func TestEveryCallEndsWithItsAnswer(t *testing.T) {
	eachKind(t, func(t *testing.T, join joiner) {
		callee := newRecorder()
		callee.message = func(s *session.Link, seq uint16, m pb.Message) {
			if s.Remote() != "caller" || seq != 7 {
				t.Errorf("request from %s with seq %d", s.Remote(), seq)
			}
			rsp := statRsp(m)
			go func() { // in any order, on any goroutine
				if err := s.Send(seq, rsp); err != nil {
					t.Error(err)
				}
			}()
		}
		p := join(newRecorder(), callee)
		if !p.Up() || p.Name() != "peer" {
			t.Errorf("up %v, name %s", p.Up(), p.Name())
		}
		l := newLoop(t)
		var wg sync.WaitGroup
		touched := 0 // by the loop only, as the race detector checks
		for i := range uint32(500) {
			wg.Add(1)
			loop := l
			if i%5 == 0 {
				loop = nil
			}
			p.Call(loop, uint64(i), 7, statReq(i), func(m pb.Message, err error) {
				defer wg.Done()
				wantAnswer(t, result{m, err}, i)
				if loop != nil {
					touched++
				}
			})
		}
		wg.Wait()
		if touched != 400 {
			t.Errorf("%d continuations on the loop, want 400", touched)
		}
		if callee.overlap {
			t.Error("the callee's handler was called twice at a time for one session")
		}
	})
}

func TestMessagesOfOneKeyStayInOrder(t *testing.T) {
	eachKind(t, func(t *testing.T, join joiner) {
		const keys, each = 8, 500
		callee := newRecorder()
		p := join(newRecorder(), callee)
		var wg sync.WaitGroup
		for key := range uint32(keys) {
			wg.Go(func() {
				for n := range uint32(each) {
					m := text(key, "x")
					m.MsgID = n
					if err := p.Send(uint64(key), uint16(n), m); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		next := map[uint32]uint32{}
		for range keys * each {
			g := <-callee.msgs
			m := g.m.(*pb.MsgData)
			if m.MsgID != next[m.FromUserID] || g.seq != uint16(m.MsgID) {
				t.Fatalf("key %d: message %d with seq %d, want %d",
					m.FromUserID, m.MsgID, g.seq, next[m.FromUserID])
			}
			next[m.FromUserID]++
		}
	})
}

func TestBothSidesSend(t *testing.T) {
	eachKind(t, func(t *testing.T, join joiner) {
		caller, callee := newRecorder(), newRecorder()
		caller.open = func(s *session.Link) error { return s.Send(0, text(1, "introduction")) }
		join(caller, callee)
		g := <-callee.msgs
		if string(g.m.(*pb.MsgData).Data) != "introduction" {
			t.Errorf("callee got %v first", g.m)
		}
		// A message that is not an answer reaches the caller's handler, also with
		// attach_data of another program.
		push := text(9, "push")
		push.AttachData = makeAttach(1, 0xdead)
		if err := g.s.Send(3, push); err != nil {
			t.Fatal(err)
		}
		back := <-caller.msgs
		m := back.m.(*pb.MsgData)
		if back.seq != 3 || m.FromUserID != 9 || len(m.AttachData) != frames.AttachLen ||
			back.s.Remote() != "peer" {
			t.Errorf("caller got %v from %s", back.m, back.s.Remote())
		}
		// The caller can reply on the session.
		if err := back.s.Send(4, text(10, "reply")); err != nil {
			t.Fatal(err)
		}
		if g := <-callee.msgs; g.seq != 4 || g.m.(*pb.MsgData).FromUserID != 10 {
			t.Errorf("callee got %v", g.m)
		}
	})
}

func TestStoppedPeerGetsNoRequests(t *testing.T) {
	eachKind(t, func(t *testing.T, join joiner) {
		caller, callee := newRecorder(), newRecorder()
		p := join(caller, callee)
		l := newLoop(t)
		due := ask(l, p, 1, 1, statReq(1))
		req := <-callee.msgs
		stop := &pb.IMStopReceivePacket{}
		stop.SetResult(1)
		if err := req.s.Send(0, stop); err != nil {
			t.Fatal(err)
		}
		if err := req.s.Send(0, text(1, "later than the stop")); err != nil {
			t.Fatal(err)
		}
		<-caller.msgs // after the stop
		if p.Up() {
			t.Error("up after the peer said stop")
		}
		wantKind(t, p.Send(1, 0, text(1, "x")), im.Unavailable)
		wantKind(t, (<-ask(l, p, 1, 2, statReq(2))).err, im.Unavailable)
		if err := req.s.Send(1, statRsp(req.m)); err != nil {
			t.Fatal(err)
		}
		wantAnswer(t, <-due, 1)
	})
}

func TestCloseDeliversAcceptedMessages(t *testing.T) {
	eachKind(t, func(t *testing.T, join joiner) {
		caller, callee := newRecorder(), newRecorder()
		p := join(caller, callee)
		l := newLoop(t)
		open := ask(l, p, 1, 1, statReq(1))
		if err := p.Send(1, 0, text(1, "last words")); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-caller.closed; !errors.Is(err, session.ErrShutdown) {
			t.Errorf("caller's handler: closed with %v", err)
		}
		<-callee.closed
		wantKind(t, (<-open).err, im.Closed)
		if m := (<-callee.msgs).m.Command(); m != pb.CmdUsersStatReq {
			t.Errorf("callee got %v", m)
		}
		if m, ok := (<-callee.msgs).m.(*pb.MsgData); !ok || string(m.Data) != "last words" {
			t.Errorf("callee got %v", m)
		}
		wantKind(t, p.Send(1, 0, text(1, "x")), im.Closed)
		wantKind(t, (<-ask(nil, p, 1, 1, statReq(1))).err, im.Closed)
		if p.Up() {
			t.Error("up after Close")
		}
		if err := p.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}
