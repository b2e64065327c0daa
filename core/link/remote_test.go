package link

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

func TestAnswersFindTheirCalls(t *testing.T) {
	r := newRig(t)
	h := newRecorder()
	random := func() uint64 { return 0x0102030405060708 }
	p := dial(t, Options{Addr: r.addr(), Handler: h, Rand: random})
	w := r.accept()
	l := newLoop(t)
	<-h.opened
	first, second := ask(l, p, 1, 9, statReq(1)), ask(l, p, 1, 9, statReq(2))
	_, m1 := w.read()
	seq, m2 := w.read()
	want := []byte{0, 0, 0, 1, 0, 0, 0, 2, 5, 6, 7, 8}
	if a := m2.(pb.Attachment).GetAttachData(); seq != 9 || !slices.Equal(a, want) {
		t.Errorf("second call: seq %d, attach_data %x, want %x", seq, a, want)
	}
	w.send(9, statRsp(m2)) // the same seq, in the other order
	w.send(9, statRsp(m1))
	wantAnswer(t, <-second, 2)
	wantAnswer(t, <-first, 1)
	w.send(9, statRsp(m1)) // its call has ended
	w.send(0, text(5, "after it"))
	<-h.msgs
	if n := testutil.ToFloat64(p.metrics.late); n != 1 {
		t.Errorf("%v late answers counted, want 1", n)
	}
	if len(first) > 0 {
		t.Error("a call ended twice")
	}
}

func TestFramesOfOpenLeaveFirst(t *testing.T) {
	r := newRig(t)
	h := newRecorder()
	var p *Remote
	ready := make(chan struct{})
	h.open = func(s *session.Link) error {
		<-ready
		if !p.Up() {
			t.Error("not up while Open runs: a change between snapshot and link would be lost")
		}
		for i := range 3 {
			if err := p.Send(1, uint16(10+i), text(1, "change")); err != nil {
				t.Error(err)
			}
			if err := s.Send(uint16(i), text(1, "snapshot")); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	p = dial(t, Options{Addr: r.addr(), Handler: h})
	close(ready)
	w := r.accept()
	for _, want := range []uint16{0, 1, 2, 10, 11, 12} {
		if seq, _ := w.read(); seq != want {
			t.Fatalf("got frame %d, want %d", seq, want)
		}
	}
}

func TestLostConnectionEndsItsCalls(t *testing.T) {
	r := newRig(t)
	h := newRecorder()
	p := dial(t, Options{Addr: r.addr(), Handler: h})
	l := newLoop(t)
	for round := range uint32(3) { // the peer fails and returns
		w := r.accept()
		<-h.opened
		lost := ask(l, p, 1, 1, statReq(1))
		w.read()
		addr := r.addr()
		r.ln.Close()
		w.nc.Close()
		wantKind(t, (<-lost).err, im.Unavailable)
		<-h.closed
		wantKind(t, p.Send(1, 0, text(1, "x")), im.Unavailable)
		r.listen(addr)
		w = r.accept()
		<-h.opened
		next := ask(l, p, 1, 1, statReq(round))
		seq, m := w.read()
		w.send(seq, statRsp(m))
		wantAnswer(t, <-next, round)
		if len(lost) > 0 {
			t.Error("the lost call ended twice")
		}
		w.nc.Close()
		<-h.closed
	}
	if n := testutil.ToFloat64(p.metrics.pending); n != 0 {
		t.Errorf("%v calls are open after all ended", n)
	}
}

func TestSlowPeerGetsEveryAcceptedMessage(t *testing.T) {
	r := newRig(t)
	h := newRecorder()
	p := dial(t, Options{Addr: r.addr(), Handler: h, MaxQueueBytes: 100 << 10})
	w := r.accept()
	<-h.opened
	data := strings.Repeat("x", 10<<10)
	sent := 0
	for {
		m := text(1, data)
		m.MsgID = uint32(sent)
		err := p.Send(1, 0, m)
		if err != nil {
			wantKind(t, err, im.Busy)
			break
		}
		sent++
	}
	if n := testutil.ToFloat64(p.metrics.busy); n != 1 {
		t.Errorf("%v refusals counted, want 1", n)
	}
	for i := range sent { // every accepted message arrives
		if _, m := w.read(); m.(*pb.MsgData).MsgID != uint32(i) {
			t.Fatalf("got %v, want %d", m, i)
		}
	}
	// The queue is empty, because all messages have arrived. So it accepts a message that
	// is larger than its bound.
	if err := p.Send(1, 0, text(2, strings.Repeat("y", 300<<10))); err != nil {
		t.Fatal(err)
	}
	if _, m := w.read(); len(m.(*pb.MsgData).Data) != 300<<10 {
		t.Errorf("got %d bytes", len(m.(*pb.MsgData).Data))
	}
}

func TestOpenCallsAreBounded(t *testing.T) {
	r := newRig(t)
	h := newRecorder()
	p := dial(t, Options{Addr: r.addr(), Handler: h, MaxPending: 2})
	w := r.accept()
	<-h.opened
	first := ask(nil, p, 1, 1, statReq(1))
	ask(nil, p, 1, 1, statReq(2))
	wantKind(t, (<-ask(nil, p, 1, 1, statReq(3))).err, im.Busy)
	_, m := w.read()
	w.send(1, statRsp(m))
	wantAnswer(t, <-first, 1)
	ask(nil, p, 1, 1, statReq(4))
	w.read()
	if _, m := w.read(); m.(*pb.IMUsersStatReq).GetUserId() != 4 {
		t.Errorf("got %v, want the fourth request: the third was refused", m)
	}
}

func TestUnencodableMessageLeavesStreamSound(t *testing.T) {
	r := newRig(t)
	h := newRecorder()
	p := dial(t, Options{Addr: r.addr(), Handler: h})
	w := r.accept()
	<-h.opened
	if err := p.Send(1, 0, &pb.IMUsersStatReq{}); err == nil { // a required field is missing
		t.Error("sent a message that does not encode")
	}
	if res := <-ask(nil, p, 1, 0, &pb.IMUsersStatReq{}); res.err == nil {
		t.Error("called with a message that does not encode")
	}
	if err := p.Send(1, 5, text(1, "x")); err != nil {
		t.Fatal(err)
	}
	if seq, _ := w.read(); seq != 5 {
		t.Error("the refused messages left something in the stream")
	}
}

func TestPanicEndsTheConnection(t *testing.T) {
	r := newRig(t)
	h := newRecorder()
	opens := 0
	h.open = func(*session.Link) error {
		if opens++; opens == 1 {
			panic("open")
		}
		return nil
	}
	h.message = func(*session.Link, uint16, pb.Message) { panic("message") }
	p := dial(t, Options{Addr: r.addr(), Handler: h})
	r.accept().waitClosed()
	w := r.accept()
	<-h.opened
	w.send(0, text(1, "x"))
	if err := <-h.closed; !errors.Is(err, session.ErrPanic) {
		t.Errorf("closed with %v", err)
	}
	w = r.accept()
	<-h.opened
	ended := make(chan struct{})
	p.Call(nil, 1, 1, statReq(1), func(pb.Message, error) {
		defer close(ended)
		panic("continuation")
	})
	_, m := w.read()
	w.send(1, statRsp(m))
	<-ended
	next := ask(nil, p, 1, 1, statReq(2))
	_, m = w.read()
	w.send(1, statRsp(m))
	wantAnswer(t, <-next, 2)
	if n := testutil.ToFloat64(p.metrics.panics); n != 2 {
		t.Errorf("%v panics of the handler counted, want 2", n)
	}
}

func TestSessionCloseSendsWhatWasAccepted(t *testing.T) {
	r := newRig(t)
	h := newRecorder()
	reason := errors.New("enough")
	h.open = func(s *session.Link) error {
		_ = s.Send(1, text(1, "good bye")) // fails for a connection after the end of the test
		s.Close(reason)
		if s.Send(2, text(1, "x")) == nil {
			t.Error("a closed session takes messages")
		}
		return nil
	}
	dial(t, Options{Addr: r.addr(), Handler: h})
	w := r.accept()
	if seq, _ := w.read(); seq != 1 {
		t.Errorf("got frame %d", seq)
	}
	w.waitClosed()
	if err := <-h.closed; err != reason {
		t.Errorf("closed with %v", err)
	}
	r.accept() // the next connection
}

func TestEndedConnectionAcceptsNoCalls(t *testing.T) {
	c := newCalls("peer", 1, 10, time.Second, nil, (*Metrics)(nil).peer("peer"))
	reason := notUp("peer")
	c.failAll(reason)
	if _, _, err := c.add(nil, false, nil); err != reason {
		t.Errorf("got %v: such a call would never end", err)
	}
}

// answerSome answers the next n calls on w and then closes the connection.
func answerSome(t *testing.T, w *wire, n int) {
	defer w.nc.Close()
	for range n {
		h, body, err := w.fr.Next()
		if err != nil {
			return
		}
		m, err := pdu.Decode(h.Command, body)
		if err != nil {
			t.Error(err)
			return
		}
		b, _ := pdu.Append(nil, h.Seq, statRsp(m))
		if _, err := w.nc.Write(b); err != nil {
			return
		}
	}
}

// TestEveryCallEndsOnceWhileConnectionsFail calls a group whose connections end all the
// time. An answer must be that of its call.
func TestEveryCallEndsOnceWhileConnectionsFail(t *testing.T) {
	r := newRig(t)
	h := newRecorder()
	h.discard(t) // on a busy machine it takes hundreds of connections to lose enough calls
	var peers []Peer
	for range 3 {
		peers = append(peers, dial(t, Options{Addr: r.addr(), Handler: h}))
	}
	p := groupOf(peers...)
	stop := r.failOften(t)
	l := newLoop(t)
	var n outcomes
	var callers sync.WaitGroup
	for caller := range uint32(8) {
		callers.Go(func() {
			for id := caller << 24; !n.enough(); id++ {
				if !p.Up() {
					runtime.Gosched()
					continue
				}
				n.call(t, p, l, id)
			}
		})
	}
	callers.Wait()
	p.Close()
	stop()
	if n.ends.Load() != n.calls.Load() {
		t.Errorf("%d of %d calls ended", n.ends.Load(), n.calls.Load())
	}
	if h.overlap {
		t.Error("the handler was called twice at a time for one session")
	}
}

// failOften accepts connections, and answers up to 200 calls on each before it closes the
// connection. stop ends it and waits.
func (r *rig) failOften(t *testing.T) (stop func()) {
	var servers sync.WaitGroup
	over := make(chan struct{})
	servers.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 2))
		for {
			select {
			case w := <-r.conns:
				left := rnd.IntN(200)
				servers.Go(func() { answerSome(t, w, left) })
			case <-over:
				return
			}
		}
	})
	return func() {
		close(over)
		servers.Wait()
	}
}

// outcomes counts calls and their ends.
type outcomes struct{ calls, ends, answers, lost atomic.Int64 }

// enough reports whether many calls were answered and many were lost.
func (o *outcomes) enough() bool { return o.answers.Load() >= 4000 && o.lost.Load() >= 100 }

// call makes a call and waits for its end.
func (o *outcomes) call(t *testing.T, p Peer, l *session.Loop, n uint32) {
	o.calls.Add(1)
	done := make(chan struct{})
	p.Call(l, uint64(n), 1, statReq(n), func(m pb.Message, err error) {
		o.ends.Add(1)
		switch {
		case err == nil:
			o.answers.Add(1)
			wantAnswer(t, result{m, err}, n)
		case im.KindOf(err) == im.Unavailable:
			o.lost.Add(1)
		default:
			t.Error(err)
		}
		close(done) // panics at a second end
	})
	<-done
}

// TestLogNamesThePeer: the lines about a connection name the peer's address. The peer's end of the
// connection is no error.
func TestLogNamesThePeer(t *testing.T) {
	r := newRig(t)
	h := newRecorder()
	var log bytes.Buffer
	p := startRemote(Options{Name: "dbproxy", Addr: r.addr(), Handler: h,
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	w := r.accept()
	<-h.opened
	r.ln.Close()
	w.nc.Close()
	<-h.closed
	p.Close() // the last line is written
	for _, line := range []string{"link up", "link down"} {
		want := `msg="` + line + `" role=dbproxy peer=` + r.addr() + " conn="
		if !strings.Contains(log.String(), want) || strings.Contains(log.String(), "err=<nil>") {
			t.Errorf("want %s and no error in\n%s", want, log.String())
		}
	}
}
