package link

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// LocalOptions of a Pipe. Zero values mean the defaults.
type LocalOptions struct {
	// Name is the peer as the caller sees it. Default "local".
	Name string
	// CallerName is the caller as its peer sees it: Session.Remote. Default "local".
	CallerName string
	// Caller gets what the peer sends and is no answer, as the handler of a Remote does. nil: counted and ignored.
	Caller session.Handler
	// Callee is the peer: it gets what is sent and asked. Required. Neither handler may wait.
	Callee session.Handler
	// Lanes is how many sessions lead to the peer, over which keys are spread: the Conns of a Remote. Default 1.
	Lanes int
	// MaxQueue bounds the messages that wait in one lane and direction. Default 16,384.
	MaxQueue int
	// CallTimeout is how long a call waits for its answer. Default 10 s.
	CallTimeout time.Duration
	// MaxPending bounds the open calls of one lane. Default 16,384.
	MaxPending int
	// Rand gives random numbers. Default: math/rand/v2.
	Rand func() uint64
	// Log gets failures. Default: discarded.
	Log *slog.Logger
	// Metrics may be shared by all links. Default: not registered.
	Metrics *Metrics
}

// Pipe is a Peer in the same process. Make one with Local.
type Pipe struct {
	o       LocalOptions
	metrics *peerMetrics
	lanes   []*lane
	stop    chan struct{} // closed by Close
	once    sync.Once
	wg      sync.WaitGroup
}

var _ Peer = (*Pipe)(nil)

// Local joins two roles of this process. Both handlers' Open have returned when it does, the callee's first; the error is that of the one that
// refused. A lane that either side closes stays closed: there is no network that could come back.
func Local(o LocalOptions) (*Pipe, error) {
	o.Name, o.CallerName = named(o.Name, "local"), named(o.CallerName, "local")
	o.Lanes = orDefault(o.Lanes, 1)
	o.MaxQueue = orDefault(o.MaxQueue, 16384)
	o.CallTimeout = orDefault(o.CallTimeout, 10*time.Second)
	o.MaxPending = orDefault(o.MaxPending, 16384)
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	o.Log = logFor(o.Log, o.Name)
	p := &Pipe{o: o, metrics: o.Metrics.peer(o.Name), stop: make(chan struct{})}
	for range o.Lanes {
		l := newLane(p)
		if err := l.open(); err != nil {
			_ = p.Close() // the lanes before
			return nil, fmt.Errorf("join %s: %w", o.Name, err)
		}
		p.lanes = append(p.lanes, l)
		p.wg.Go(l.run)
	}
	p.wg.Go(p.watch)
	return p, nil
}

// Name is the peer's name.
func (p *Pipe) Name() string { return p.o.Name }

// Up reports whether a lane takes requests.
func (p *Pipe) Up() bool { return p.pick(0) != nil }

// Send hands m to the peer, see Peer.
func (p *Pipe) Send(key uint64, seq uint16, m pb.Message) error {
	l := p.pick(key)
	if l == nil {
		return p.down()
	}
	return l.there.put(seq, m)
}

// Call asks the peer, see Peer. The answer is the message that the peer sent, not a copy.
func (p *Pipe) Call(loop *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) {
	p.call(false, loop, key, seq, req, done)
}

// CallEncoded asks the peer, see Peer. The answer is encoded only if that is how the peer sent it.
func (p *Pipe) CallEncoded(loop *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) {
	p.call(true, loop, key, seq, req, done)
}

// TryCall asks the peer, see Peer.
func (p *Pipe) TryCall(key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) error {
	return p.try(false, nil, key, seq, req, done)
}

func (p *Pipe) call(encoded bool, loop *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) {
	if err := p.try(encoded, loop, key, seq, req, done); err != nil {
		refuse(p.o.Log, loop, done, err)
	}
}

// try sends a request; with an error it was not sent, and done is still to be run.
func (p *Pipe) try(encoded bool, loop *session.Loop, key uint64, seq uint16, req pb.Attachment,
	done func(pb.Message, error)) error {
	err := error(nil)
	l := p.pick(key)
	if l == nil {
		err = p.down()
	} else {
		err = l.call(encoded, loop, seq, req, done)
	}
	if err != nil {
		err = notSent(err)
		p.metrics.failed(err)
	}
	return err
}

// Close ends the link, see Peer. What was sent in both directions is handled before it returns.
func (p *Pipe) Close() error {
	p.once.Do(func() { close(p.stop) })
	for _, l := range p.lanes {
		l.close(session.ErrShutdown)
	}
	p.wg.Wait()
	return nil
}

func (p *Pipe) down() error {
	select {
	case <-p.stop:
		return isClosed(p.o.Name)
	default:
		return notUp(p.o.Name)
	}
}

func (p *Pipe) pick(key uint64) *lane {
	if i := choose(saltConns, key, len(p.lanes), func(i int) bool { return p.lanes[i].usable() }); i >= 0 {
		return p.lanes[i]
	}
	return nil
}

// watch fails overdue calls: a peer that cannot do what it is asked may say nothing.
func (p *Pipe) watch() {
	t := time.NewTicker(max(10*time.Millisecond, min(p.o.CallTimeout/5, time.Second)))
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-p.stop:
			return
		}
		for _, l := range p.lanes {
			l.calls.expire(time.Now())
		}
	}
}

// lane is a pair of sessions and the queues between them: near is the caller's view of the peer, far the peer's view of the caller.
type lane struct {
	p         *Pipe
	near, far *session.Session
	there     *mailbox // to the callee
	back      *mailbox // to the caller
	calls     *calls
	stopped   atomic.Bool // the peer takes no more requests

	mu     sync.Mutex
	closed bool
	err    error
}

func newLane(p *Pipe) *lane {
	l := &lane{p: p, there: newMailbox(p), back: newMailbox(p)}
	l.calls = newCalls(p.o.Name, uint32(p.o.Rand()), p.o.MaxPending, p.o.CallTimeout, p.o.Log, p.metrics)
	l.near = session.NewLink(session.NextID(), p.o.Name, nearEnd{l})
	l.far = session.NewLink(session.NextID(), p.o.CallerName, farEnd{l})
	return l
}

func (l *lane) open() error {
	if err := openEnd(l.p, l.p.o.Callee, l.far); err != nil {
		return err
	}
	if err := openEnd(l.p, l.p.o.Caller, l.near); err != nil {
		l.closeEnd(l.p.o.Callee, l.far, err)
		return err
	}
	return nil
}

func openEnd(p *Pipe, h session.Handler, s *session.Session) (err error) {
	if h == nil {
		return nil
	}
	if failed := guard(p.o.Log, p.metrics, func() { err = h.Open(s) }); failed != nil {
		return failed
	}
	return err
}

// run moves the messages of both directions until the lane is closed and its queues are empty.
func (l *lane) run() {
	l.p.metrics.up.Inc()
	var back sync.WaitGroup
	back.Go(func() { l.back.run(l.p.o.Caller, l.near) })
	l.there.run(l.p.o.Callee, l.far)
	l.back.close() // after the callee's last word
	back.Wait()
	l.p.metrics.up.Dec()
	l.p.metrics.dropouts.Inc()
	l.calls.failAll(l.p.down())
	l.closeEnd(l.p.o.Callee, l.far, l.reason())
	l.closeEnd(l.p.o.Caller, l.near, l.reason())
}

func (l *lane) closeEnd(h session.Handler, s *session.Session, err error) {
	if h != nil {
		_ = guard(l.p.o.Log, l.p.metrics, func() { h.Close(s, err) })
	}
}

func (l *lane) usable() bool {
	if l.stopped.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed
}

func (l *lane) close(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed, l.err = true, err
		l.there.close()
	}
}

func (l *lane) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// call asks; with an error the continuation is still to be run.
func (l *lane) call(encoded bool, loop *session.Loop, seq uint16, req pb.Attachment, done func(pb.Message, error)) error {
	attach, id, err := l.calls.add(loop, encoded, done)
	if err != nil {
		return err
	}
	req.SetAttachData(attach)
	if err := l.there.put(seq, req); err != nil && l.calls.take(id) != nil {
		return err
	}
	return nil
}

// nearEnd carries what the caller's handler sends on its session.
type nearEnd struct{ *lane }

func (e nearEnd) SendMessage(seq uint16, m pb.Message) error { return e.there.put(seq, m) }
func (e nearEnd) Close(err error)                            { e.close(err) }

// farEnd carries what the peer sends: answers go to their calls, the rest to the caller's handler.
type farEnd struct{ *lane }

func (e farEnd) SendMessage(seq uint16, m pb.Message) error {
	switch m.Command() {
	case pb.CmdHeartBeat:
		return nil
	case pb.CmdStopReceivePacket:
		e.stopped.Store(true)
		return nil
	}
	if e.calls.reply(m) {
		return nil
	}
	return e.back.put(seq, m)
}

func (e farEnd) Close(err error) { e.close(err) }

// mailbox is one direction of a lane.
type mailbox struct {
	p    *Pipe
	wake chan struct{} // one token: run has something to look at

	mu     sync.Mutex
	in     []note
	closed bool
}

type note struct {
	seq uint16
	m   pb.Message
}

func newMailbox(p *Pipe) *mailbox { return &mailbox{p: p, wake: make(chan struct{}, 1)} }

func (b *mailbox) put(seq uint16, m pb.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return b.p.down()
	}
	if len(b.in) >= b.p.o.MaxQueue {
		b.p.metrics.busy.Inc()
		return queueFull(b.p.o.Name)
	}
	b.in = append(b.in, note{seq, m})
	b.p.metrics.out.Inc()
	b.signal()
	return nil
}

func (b *mailbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.signal()
}

func (b *mailbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default: // run will look anyway
	}
}

// take takes all messages, leaving spare in their place. last says that none will follow.
func (b *mailbox) take(spare []note) (batch []note, last bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch, b.in = b.in, spare
	return batch, b.closed
}

// run hands every message to h until the mailbox is closed and empty.
func (b *mailbox) run(h session.Handler, s *session.Session) {
	var spare []note
	for {
		batch, last := b.take(spare)
		for i, n := range batch {
			batch[i] = note{}
			if h == nil {
				b.p.metrics.ignored.Inc()
				continue
			}
			b.p.metrics.in.Inc()
			// A panic ends this message only: there is no connection whose state it could have left in doubt.
			_ = guard(b.p.o.Log, b.p.metrics, func() { h.Message(s, n.seq, n.m) })
		}
		if last {
			return
		}
		if spare = batch[:0]; cap(spare) > 4096 {
			spare = nil
		}
		if len(batch) == 0 {
			<-b.wake
		}
	}
}
