package link

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/im"
	"teamtalk/core/opt/opttest"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

func local(t *testing.T, o LocalOptions) *Pipe {
	t.Helper()
	p, err := startLocal(opttest.Fill(o, LocalOptions{CallTimeout: patience}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestLocalPassesTheMessageItself(t *testing.T) {
	callee := newRecorder()
	p := local(t, LocalOptions{Callee: callee})
	m := text(1, "x")
	if err := p.Send(1, 0, m); err != nil {
		t.Fatal(err)
	}
	if g := <-callee.msgs; g.m != pb.Message(m) {
		t.Error("got a copy")
	}
}

func TestLocalFullQueueRefuses(t *testing.T) {
	callee := newRecorder()
	inside, leave := make(chan struct{}), make(chan struct{})
	callee.message = func(*session.Link, uint16, pb.Message) { inside <- struct{}{}; <-leave }
	p := local(t, LocalOptions{Callee: callee, MaxQueue: 2})
	for i := range 3 {
		if err := p.Send(1, 0, text(1, "x")); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			<-inside // the first left the queue
		}
	}
	wantKind(t, p.Send(1, 0, text(1, "x")), im.Busy)
	wantKind(t, (<-ask(nil, p, 1, 0, statReq(1))).err, im.Busy)
	if n := testutil.ToFloat64(p.metrics.busy); n != 2 {
		t.Errorf("%v refusals counted", n)
	}
	if n := testutil.ToFloat64(p.metrics.pending); n != 0 {
		t.Error("a refused call is still open")
	}
	for range 2 {
		leave <- struct{}{}
		<-inside
	}
	leave <- struct{}{}
}

func TestLocalPanicEndsOneMessage(t *testing.T) {
	callee := newRecorder()
	callee.message = func(s *session.Link, seq uint16, m pb.Message) {
		rsp := statRsp(m)
		if rsp.GetUserId() == 1013 {
			panic("13")
		}
		_ = s.Send(seq, rsp)
	}
	p := local(t, LocalOptions{Callee: callee})
	ask(nil, p, 1, 0, statReq(13))
	wantAnswer(t, <-ask(newLoop(t), p, 1, 0, statReq(14)), 14)
	if n := testutil.ToFloat64(p.metrics.panics); n != 1 {
		t.Errorf("%v panics counted", n)
	}
}

func TestLocalCallExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		callee := newRecorder()
		p, err := startLocal(LocalOptions{Callee: callee})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		c := ask(nil, p, 1, 0, statReq(1))
		g := <-callee.msgs
		wantKind(t, (<-c).err, im.Unavailable)
		if at := time.Since(start); at < 10*time.Second || at > 11*time.Second {
			t.Errorf("given up after %v", at)
		}
		if err := g.s.Send(0, statRsp(g.m)); err != nil {
			t.Error(err)
		}
		if n := testutil.ToFloat64(p.metrics.late); n != 1 {
			t.Errorf("%v late answers", n)
		}
		p.Close()
	})
}

func TestLocalFailsWhenHandlerRefuses(t *testing.T) {
	caller, callee := newRecorder(), newRecorder()
	refusal := errors.New("no")
	caller.open = func(*session.Link) error { return refusal }
	_, err := startLocal(LocalOptions{Caller: caller, Callee: callee})
	if !errors.Is(err, refusal) {
		t.Errorf("got %v", err)
	}
	if err := <-callee.closed; !errors.Is(err, refusal) {
		t.Errorf("the callee's session was closed with %v", err)
	}
}

func TestMetricsAreValid(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg)
	callee := newRecorder()
	for _, name := range []string{"a", "b"} {
		p := local(t, LocalOptions{Name: name, Callee: callee, Metrics: m})
		if err := p.Send(1, 0, text(1, "x")); err != nil {
			t.Fatal(err)
		}
		<-callee.msgs
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	if n := testutil.ToFloat64(m.in.WithLabelValues("a")); n != 1 {
		t.Errorf("counted %v messages", n)
	}
}
