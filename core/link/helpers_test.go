package link

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"teamtalk/core/backoff"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/link/frames"
	"teamtalk/core/opt/opttest"
	"teamtalk/core/pdu"
	"teamtalk/core/porttest"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// rig is the peer's side of a link under test: a listener and the connections that it
// accepted.
type rig struct {
	t     testing.TB
	ln    net.Listener
	conns chan *wire
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, conns: make(chan *wire, 100)}
	r.listen(porttest.Reserve(t)) // a test may close it and listen again
	t.Cleanup(func() { r.ln.Close() })
	return r
}

func (r *rig) listen(addr string) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.ln = ln
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			r.conns <- newWire(r.t, nc)
		}
	}()
}

func (r *rig) addr() string { return r.ln.Addr().String() }

// accept returns the next connection.
func (r *rig) accept() *wire {
	w := <-r.conns
	r.t.Cleanup(func() { w.nc.Close() })
	return w
}

// wire is one connection at the peer.
type wire struct {
	t  testing.TB
	nc net.Conn
	fr *frames.Reader
}

func newWire(t testing.TB, nc net.Conn) *wire {
	return &wire{t: t, nc: nc, fr: frames.New(nc, pdu.MaxServerFrame)}
}

func (w *wire) read() (uint16, pb.Message) {
	w.t.Helper()
	h, body, err := w.fr.Next()
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := pdu.Decode(h.Command, body)
	if err != nil {
		w.t.Fatal(err)
	}
	return h.Seq, m
}

func (w *wire) send(seq uint16, m pb.Message) {
	w.t.Helper()
	b, err := pdu.Append(nil, seq, m)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(b)
}

func (w *wire) write(b []byte) {
	w.t.Helper()
	if _, err := w.nc.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

// waitClosed reads until the other side closes.
func (w *wire) waitClosed() {
	io.Copy(io.Discard, w.nc)
}

type got struct {
	s   *session.Link
	seq uint16
	m   pb.Message
}

// recorder is a handler that records its calls.
type recorder struct {
	open    func(*session.Link) error
	message func(s *session.Link, seq uint16, m pb.Message)

	opened  chan *session.Link
	frames  chan pdu.Header
	msgs    chan got
	closed  chan error
	mu      sync.Mutex
	inside  map[*session.Link]bool
	overlap bool
}

func newRecorder() *recorder {
	return &recorder{opened: make(chan *session.Link, 100),
		frames: make(chan pdu.Header, 100), msgs: make(chan got, 10000),
		closed: make(chan error, 100), inside: map[*session.Link]bool{}}
}

// discard drops what is recorded of the beginnings and ends of connections, until the end of the
// test: a recorder that is full keeps the link from its work.
func (r *recorder) discard(t testing.TB) {
	quit := make(chan struct{})
	var dropping sync.WaitGroup
	dropping.Go(func() {
		for {
			select {
			case <-r.opened:
			case <-r.closed:
			case <-quit:
				return
			}
		}
	})
	t.Cleanup(func() { close(quit); dropping.Wait() })
}

// enter records whether calls for one session overlap.
func (r *recorder) enter(s *session.Link) func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inside[s] {
		r.overlap = true
	}
	r.inside[s] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.inside[s] = false
	}
}

func (r *recorder) Open(s *session.Link) error {
	defer r.enter(s)()
	if r.open != nil {
		if err := r.open(s); err != nil {
			return err
		}
	}
	r.opened <- s
	return nil
}

func (r *recorder) Frame(s *session.Link, h pdu.Header, body []byte) {
	defer r.enter(s)()
	r.frames <- h
}

func (r *recorder) Message(s *session.Link, seq uint16, m pb.Message) {
	defer r.enter(s)()
	if r.message != nil {
		r.message(s, seq, m)
		return
	}
	r.msgs <- got{s, seq, m}
}

func (r *recorder) Close(s *session.Link, err error) {
	defer r.enter(s)()
	r.closed <- err
}

// newLoop returns a loop with its own goroutine.
func newLoop(t testing.TB) *session.Loop {
	wake, quit := make(chan *session.Loop, 1), make(chan struct{})
	wakeUp := func(l *session.Loop, _ bool) {
		select {
		case wake <- l:
		case <-quit: // a link that is closed later may still answer
		}
	}
	l := session.NewLoop(session.LoopOptions{Links: newRecorder(), Wake: wakeUp})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case l := <-wake:
				l.Turn()
			case <-quit:
				return
			}
		}
	})
	t.Cleanup(func() { close(quit); wg.Wait() })
	return l
}

type result struct {
	m   pb.Message
	err error
}

// ask starts a call and returns the channel for its result.
func ask(l *session.Loop, p Peer, key uint64, seq uint16, req pb.Attachment) chan result {
	c := make(chan result, 2)
	p.Call(l, key, seq, req, func(m pb.Message, err error) { c <- result{m, err} })
	return c
}

func statReq(user uint32) *pb.IMUsersStatReq {
	m := &pb.IMUsersStatReq{}
	m.SetUserId(user)
	return m
}

// statRsp returns an answer to m that echoes attach_data, as servers do.
func statRsp(m pb.Message) *pb.IMUsersStatRsp {
	req := m.(*pb.IMUsersStatReq)
	rsp := &pb.IMUsersStatRsp{}
	rsp.SetUserId(req.GetUserId() + 1000)
	if req.HasAttachData() {
		rsp.SetAttachData(req.GetAttachData())
	}
	return rsp
}

func text(from uint32, data string) *pb.MsgData {
	return &pb.MsgData{FromUserID: from, ToSessionID: 2,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte(data)}
}

func wantKind(t testing.TB, err error, k im.Kind) {
	t.Helper()
	if err == nil || im.KindOf(err) != k {
		t.Fatalf("got %v, want an error of kind %v", err, k)
	}
}

func wantAnswer(t testing.TB, r result, user uint32) {
	t.Helper()
	if r.err != nil {
		t.Error(r.err)
		return
	}
	rsp, ok := r.m.(*pb.IMUsersStatRsp)
	if !ok || rsp.GetUserId() != user+1000 || rsp.HasAttachData() {
		t.Errorf("answer to %d: %v", user, r.m)
	}
}

// always returns a schedule of one pause.
func always(d time.Duration) backoff.Policy {
	return backoff.Policy{First: d, Recent: d, Fresh: time.Hour, Max: d, Spread: 0.5}
}

// patience is the limit for what must happen on a loaded machine, in tests without a clock of
// their own. Tests of the limits have one. No heartbeat is sent in that time, because a test
// reads the frames that it expects.
const patience = 10 * time.Minute

// dial returns a Remote with short pauses and long limits. The test closes it at its end.
func dial(t testing.TB, o Options) *Remote {
	t.Helper()
	if o.Backoff == (backoff.Policy{}) {
		o.Backoff = always(time.Millisecond)
	}
	o.MaxBackoff = max(o.MaxBackoff, 5*time.Millisecond)
	r := startRemote(opttest.Fill(o, Options{DialTimeout: patience, Heartbeat: patience,
		IdleLimit: patience, CallTimeout: patience}))
	t.Cleanup(func() { r.Close() })
	return r
}

// filled returns o with the defaults of the settings in place of missing values.
func filled(o Options) Options {
	c := config.Default().Link
	return opttest.Fill(o, Options{
		DialTimeout: c.DialTimeout, Heartbeat: c.Heartbeat, IdleLimit: c.Timeout,
		MaxBackoff: c.BackoffMax, CallTimeout: c.CallTimeout, MaxFrame: int(c.MaxFrame),
	})
}

// startRemote calls Dial with filled options.
func startRemote(o Options) *Remote { return Dial(filled(o)) }

// startLocal calls Local with the default of the setting where o has no value.
func startLocal(o LocalOptions) (*Pipe, error) {
	if o.CallTimeout == 0 {
		o.CallTimeout = config.Default().Link.CallTimeout
	}
	return Local(o)
}
