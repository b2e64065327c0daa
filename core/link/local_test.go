package link

import (
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

func local(t *testing.T, o LocalOptions) *Pipe {
	t.Helper()
	p, err := Local(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestLocalHandsOverTheSameMessage(t *testing.T) {
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

func TestLocalQueueFull(t *testing.T) {
	callee := newRecorder()
	inside, leave := make(chan struct{}), make(chan struct{})
	callee.message = func(*session.Session, uint16, pb.Message) { inside <- struct{}{}; <-leave }
	p := local(t, LocalOptions{Callee: callee, MaxQueue: 2})
	for i := range 3 {
		if err := p.Send(1, 0, text(1, "x")); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			<-inside // the first is out of the queue
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

func TestLocalPanicAndAnswerAtOnce(t *testing.T) {
	callee := newRecorder()
	callee.message = func(s *session.Session, seq uint16, m pb.Message) {
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

func TestLocalNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		callee := newRecorder()
		p, err := Local(LocalOptions{Callee: callee})
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
		if err := g.s.Push(0, statRsp(g.m)); err != nil {
			t.Error(err)
		}
		if n := testutil.ToFloat64(p.metrics.late); n != 1 {
			t.Errorf("%v late answers", n)
		}
		p.Close()
	})
}

func TestLocalRefused(t *testing.T) {
	caller, callee := newRecorder(), newRecorder()
	refusal := errors.New("no")
	caller.open = func(*session.Session) error { return refusal }
	if _, err := Local(LocalOptions{Caller: caller, Callee: callee}); !errors.Is(err, refusal) {
		t.Errorf("got %v", err)
	}
	if err := <-callee.closed; !errors.Is(err, refusal) {
		t.Errorf("the callee's session was closed with %v", err)
	}
}

func TestGroup(t *testing.T) {
	type arrival struct {
		at int
		got
	}
	arrived := make(chan arrival, 10)
	var peers []Peer
	for i := range 4 {
		h := newRecorder()
		h.message = func(s *session.Session, seq uint16, m pb.Message) { arrived <- arrival{i, got{s, seq, m}} }
		peers = append(peers, local(t, LocalOptions{Callee: h}))
	}
	g := NewGroup("db_proxy", nil, peers...)
	where := func(p Peer, key uint64) int {
		t.Helper()
		m := text(1, "x")
		if err := p.Send(key, 0, m); err != nil {
			t.Fatal(err)
		}
		a := <-arrived
		if a.m != pb.Message(m) {
			t.Fatal("another message")
		}
		return a.at
	}
	logins, messages := g.Class(ClassLogin), g.Class(ClassMessage)
	seen := map[string]map[int]bool{"all": {}, "logins": {}, "messages": {}}
	before := map[uint64]int{}
	for key := range uint64(100) {
		before[key] = where(messages, key)
		if before[key] != where(messages, key) {
			t.Fatalf("key %d moves about", key)
		}
		seen["messages"][before[key]] = true
		seen["logins"][where(logins, key)] = true
		seen["all"][where(g, key)] = true
	}
	if m, l := seen["messages"], seen["logins"]; len(seen["all"]) != 4 || len(m) != 2 || !m[2] || !m[3] || len(l) != 2 || !l[0] || !l[1] {
		t.Errorf("classes: %v", seen)
	}
	peers[2].Close()
	for key := range uint64(100) {
		if at := where(messages, key); at != 3 {
			t.Fatalf("key %d went to %d", key, at)
		}
	}
	peers[3].Close()
	for key := range uint64(100) {
		if at := where(messages, key); at > 1 { // the logins' half
			t.Fatalf("key %d went to %d", key, at)
		}
	}
	c := ask(nil, logins, 1, 0, statReq(1))
	req := <-arrived
	if err := req.s.Push(0, statRsp(req.m)); err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, <-c, 1)
	if !g.Up() {
		t.Error("down with two members")
	}
	logins.Close() // not its to close
	if !g.Up() {
		t.Error("closing a class closed the group")
	}
	g.Close()
	if g.Up() || logins.Up() {
		t.Error("up after Close")
	}
	wantKind(t, g.Send(1, 0, text(1, "x")), im.Unavailable)
	wantKind(t, (<-ask(nil, messages, 1, 0, statReq(1))).err, im.Unavailable)
}

// sometimes is a peer that is up when it is told so.
type sometimes struct {
	Peer
	up atomic.Bool
}

func (p *sometimes) Up() bool { return p.up.Load() && p.Peer.Up() }

// TestGroupKeepsOrder: a member that comes up takes over no key that has calls under way elsewhere, or their answers would overtake each other.
func TestGroupKeepsOrder(t *testing.T) {
	requests := make(chan struct {
		at int
		got
	}, 10)
	var peers []Peer
	for i := range 2 {
		h := newRecorder()
		h.message = func(s *session.Session, seq uint16, m pb.Message) {
			requests <- struct {
				at int
				got
			}{i, got{s, seq, m}}
		}
		peers = append(peers, &sometimes{Peer: local(t, LocalOptions{Callee: h})})
	}
	logins, messages := peers[0].(*sometimes), peers[1].(*sometimes)
	logins.up.Store(true)
	class := NewGroup("db_proxy", nil, peers...).Class(ClassMessage)
	call := func(key uint64, want int) (answer func()) {
		t.Helper()
		c := ask(nil, class, key, 0, statReq(1))
		r := <-requests
		if r.at != want {
			t.Fatalf("a call of key %d went to member %d, want %d", key, r.at, want)
		}
		return func() {
			t.Helper()
			if err := r.s.Push(0, statRsp(r.m)); err != nil {
				t.Fatal(err)
			}
			wantAnswer(t, <-c, 1)
		}
	}
	first := call(7, 0) // the messages' own member is not up yet
	messages.up.Store(true)
	second := call(7, 0)
	first()
	third := call(7, 0)
	second()
	third()
	fourth := call(8, 1) // a key with nothing under way
	messages.up.Store(false)
	// It takes no more, and still has the fourth: the next ones wait for that, and go elsewhere.
	var waiting []chan result
	for range 2 {
		waiting = append(waiting, ask(nil, class, 8, 0, statReq(1)))
	}
	other := call(9, 0)
	other()
	fourth()
	for _, c := range waiting {
		r := <-requests
		if r.at != 0 {
			t.Fatalf("a call that waited went to member %d, want 0", r.at)
		}
		if err := r.s.Push(0, statRsp(r.m)); err != nil {
			t.Fatal(err)
		}
		wantAnswer(t, <-c, 1)
	}
	class.(*classPeer).pins.mustBeEmpty(t)
}

// TestGroupRefusesBehindFailed: what waits behind a call that fails with its member is refused. A
// message would overtake the one that its sender repeats.
func TestGroupRefusesBehindFailed(t *testing.T) {
	requests := make(chan got, 10)
	var peers []Peer
	for range 2 {
		h := newRecorder()
		h.message = func(s *session.Session, seq uint16, m pb.Message) { requests <- got{s, seq, m} }
		peers = append(peers, &sometimes{Peer: local(t, LocalOptions{Callee: h})})
	}
	peers[0].(*sometimes).up.Store(true)
	g := NewGroup("db_proxy", nil, peers...)
	first := ask(nil, g, 7, 0, statReq(1))
	<-requests
	peers[0].(*sometimes).up.Store(false)
	peers[1].(*sometimes).up.Store(true)
	second := make(chan error, 1)
	if err := g.TryCall(7, 0, statReq(1), func(_ pb.Message, err error) { second <- err }); err != nil {
		t.Fatal(err)
	}
	if err := peers[0].Close(); err != nil {
		t.Fatal(err)
	}
	if r := <-first; r.err == nil || errors.Is(r.err, ErrNotSent) {
		t.Errorf("the call that was under way ended with %v", r.err)
	}
	if err := <-second; !errors.Is(err, ErrNotSent) {
		t.Errorf("the call behind it ended with %v, want ErrNotSent", err)
	}
	third := ask(nil, g, 7, 0, statReq(1))
	r := <-requests
	if err := r.s.Push(0, statRsp(r.m)); err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, <-third, 1)
	g.pins.mustBeEmpty(t)
	peers[1].(*sometimes).up.Store(false)
	if err := g.TryCall(7, 0, statReq(1), nil); !errors.Is(err, ErrNotSent) {
		t.Errorf("with nobody up: %v, want ErrNotSent", err)
	}
}

// mustBeEmpty waits for the last calls' ends, which come after their answers.
func (p *pins) mustBeEmpty(t *testing.T) {
	t.Helper()
	for i := range p.shards {
		s := &p.shards[i]
		for {
			s.mu.Lock()
			n := len(s.keys)
			s.mu.Unlock()
			if n == 0 {
				break
			}
			runtime.Gosched()
		}
	}
}

func TestGroupOfOne(t *testing.T) {
	h := newRecorder()
	g := NewGroup("db_proxy", nil, local(t, LocalOptions{Callee: h}))
	for _, c := range []Class{ClassLogin, ClassMessage} {
		if err := g.Class(c).Send(1, 0, text(1, "x")); err != nil {
			t.Error(err)
		}
		<-h.msgs
	}
}

// TestKeysSpreadTwice: a group's choice must not decide the choice among the connections of the peer chosen.
func TestKeysSpreadTwice(t *testing.T) {
	all := func(int) bool { return true }
	count := [2][2]int{}
	for key := range uint64(4000) {
		count[choose(saltPeers, key, 2, all)][choose(saltConns, key, 2, all)]++
	}
	for _, row := range count {
		for _, n := range row {
			if n < 800 || n > 1200 {
				t.Fatalf("spread %v, want about 1,000 each", count)
			}
		}
	}
}

func TestMetricsRegister(t *testing.T) {
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
