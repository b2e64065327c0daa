package link

import (
	"cmp"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/batch"
	"teamtalk/core/mono"
	"teamtalk/core/opt"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// LocalOptions configures a Pipe. Zero values mean the defaults.
type LocalOptions struct {
	// Name is the peer's name for the caller. Default "local".
	Name string
	// CallerName is the caller's name for the peer: Link.Remote. Default "local".
	CallerName string
	// Caller handles the peer's messages that are not answers, as the handler of a Remote
	// does. Nil: they are counted and dropped.
	Caller session.LinkHandler
	// Callee is the peer: it handles all requests and messages. Required. Neither handler
	// may wait.
	Callee session.LinkHandler
	// Features are bits of pb.ServerFeature that the callee is told, 0: nothing.
	Features uint32
	// MaxQueue bounds the messages that wait in one direction. Default 16,384.
	MaxQueue int
	// CallTimeout is the longest time that a call waits for its answer. Required.
	CallTimeout time.Duration
	// MaxPending bounds the open calls. Default 16,384.
	MaxPending int
	// Rand returns random numbers. Default: math/rand/v2.
	Rand func() uint64
	// Turn is waited for by the goroutines of the Pipe before they work. Default: none.
	Turn mono.Turn
	// Log receives failures. Default: discarded.
	Log *slog.Logger
	// Metrics may be shared by all links. Default: not registered.
	Metrics *Metrics
}

// Pipe is a Peer in the same process, made by Local. It is a pair of sessions and the
// queues between them: near is the caller's session with the peer, far the peer's session
// with the caller.
type Pipe struct {
	o         LocalOptions
	metrics   *peerMetrics
	near, far *session.Link
	there     *mailbox // to the callee
	back      *mailbox // to the caller
	calls     *calls
	ready     atomic.Uint32 // readiness of the peer
	stop      chan struct{} // closed by Close
	once      sync.Once
	wg        sync.WaitGroup

	mu     sync.Mutex  // for changes of closed and err
	closed atomic.Bool // each call reads it
	err    error       // the reason
}

var _ Peer = (*Pipe)(nil)

// Local links two roles of this process. It calls Open of both handlers, the callee's
// first, and returns after both. An error is from the handler that refused. When either
// side closes its session, the Pipe stays closed: there is no network that could return.
func Local(o LocalOptions) (*Pipe, error) {
	o.Name, o.CallerName = cmp.Or(o.Name, "local"), cmp.Or(o.CallerName, "local")
	opt.Default(&o.MaxQueue, 16384)
	opt.Require("link.CallTimeout", o.CallTimeout)
	opt.Default(&o.MaxPending, 16384)
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	o.Log = logFor(o.Log, o.Name)
	p := &Pipe{o: o, metrics: o.Metrics.peer(o.Name), stop: make(chan struct{})}
	p.there, p.back = newMailbox(p), newMailbox(p)
	p.calls = newCalls(o.Name, uint32(o.Rand()), o.MaxPending, o.CallTimeout, o.Log, p.metrics)
	p.near = session.NewLink(session.NextID(), o.Name, nearEnd{p})
	p.far = session.NewLink(session.NextID(), o.CallerName, farEnd{p})
	if err := p.open(); err != nil {
		return nil, fmt.Errorf("join %s: %w", o.Name, err)
	}
	p.wg.Go(p.run)
	p.wg.Go(p.watch)
	return p, nil
}

func (p *Pipe) open() error {
	if err := p.openEnd(p.o.Callee, p.far); err != nil {
		return err
	}
	if err := p.openEnd(p.o.Caller, p.near); err != nil {
		p.closeEnd(p.o.Callee, p.far, err)
		return err
	}
	return introduce(p.near, p.o.Features, "")
}

func (p *Pipe) openEnd(h session.LinkHandler, s *session.Link) (err error) {
	if h == nil {
		return nil
	}
	if failed := guard(p.o.Log, p.metrics, func() { err = h.Open(s) }); failed != nil {
		return failed
	}
	return err
}

func (p *Pipe) closeEnd(h session.LinkHandler, s *session.Link, err error) {
	if h != nil {
		_ = guard(p.o.Log, p.metrics, func() { h.Close(s, err) })
	}
}

// Name returns the peer's name.
func (p *Pipe) Name() string { return p.o.Name }

// Up reports whether requests are sent to the peer, see Peer.
func (p *Pipe) Up() bool {
	return p.readiness() != stopped && !p.closed.Load()
}

// Withdrawn reports whether the peer asked for no requests for now, see Peer.
func (p *Pipe) Withdrawn() bool { return p.readiness() == withdrawn }

// readiness returns what the peer said last.
func (p *Pipe) readiness() readiness { return readiness(p.ready.Load()) }

// Send passes m to the peer, see Peer.
func (p *Pipe) Send(_ uint64, seq uint16, m pb.Message) error {
	if !p.Up() {
		return p.down()
	}
	return p.there.put(seq, m)
}

// Call sends a request to the peer, see Peer. The answer is the peer's message itself,
// not a copy.
func (p *Pipe) Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done Done) {
	if err := p.try(false, l, seq, req, done); err != nil {
		refuse(p.o.Log, l, done, err)
	}
}

// CallEncoded sends a request to the peer, see Peer. The answer is encoded only if the
// peer sent it encoded.
func (p *Pipe) CallEncoded(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done Done) {
	if err := p.try(true, l, seq, req, done); err != nil {
		refuse(p.o.Log, l, done, err)
	}
}

// TryCall sends a request to the peer, see Peer.
func (p *Pipe) TryCall(key uint64, seq uint16, req pb.Attachment, done Done) error {
	return p.try(false, nil, seq, req, done)
}

// try sends a request. An error means that it was not sent and done has not run.
func (p *Pipe) try(encoded bool, l *session.Loop, seq uint16, req pb.Attachment, done Done) error {
	err := p.send(encoded, l, seq, req, done)
	if err != nil {
		err = notSent(err)
		p.metrics.failed(err)
	}
	return err
}

func (p *Pipe) send(encoded bool, l *session.Loop, seq uint16, req pb.Attachment, done Done) error {
	if !p.Up() {
		return p.down()
	}
	attach, id, err := p.calls.add(l, encoded, done)
	if err != nil {
		return err
	}
	req.SetAttachData(attach)
	if err := p.there.put(seq, req); err != nil && p.calls.take(id) != nil {
		return err
	}
	return nil // or the call has ended meanwhile
}

// Close ends the link, see Peer. The messages sent in both directions are handled before
// it returns.
func (p *Pipe) Close() error {
	p.once.Do(func() { close(p.stop) })
	p.close(session.ErrShutdown)
	p.wg.Wait()
	return nil
}

// close stops the sending of messages to the callee. The first reason is kept.
func (p *Pipe) close(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed.Load() {
		p.err = err
		p.closed.Store(true)
		p.there.close()
	}
}

func (p *Pipe) reason() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *Pipe) down() error {
	select {
	case <-p.stop:
		return isClosed(p.o.Name)
	default:
		return notUp(p.o.Name)
	}
}

// run moves the messages of both directions until the Pipe is closed and its queues are
// empty.
func (p *Pipe) run() {
	p.metrics.up.Inc()
	var back sync.WaitGroup
	back.Go(func() { p.back.run(p.o.Caller, p.near) })
	p.there.run(p.o.Callee, p.far)
	p.back.close() // after the callee's last message
	back.Wait()
	p.metrics.up.Dec()
	p.metrics.dropouts.Inc()
	p.calls.failAll(p.down())
	p.closeEnd(p.o.Callee, p.far, p.reason())
	p.closeEnd(p.o.Caller, p.near, p.reason())
}

// watch fails overdue calls: a peer that cannot carry out a request may stay silent.
func (p *Pipe) watch() {
	mono.Watch(p.stop, mono.Unit(p.o.CallTimeout), p.o.Turn.Before("watch", p.calls.expire))
}

// nearEnd carries the messages that the caller's handler sends on its session.
type nearEnd struct{ *Pipe }

func (e nearEnd) SendMessage(seq uint16, m pb.Message) error { return e.there.put(seq, m) }
func (e nearEnd) Close(err error)                            { e.close(err) }

// farEnd carries the messages that the peer sends: answers go to their calls, all others
// to the caller's handler.
type farEnd struct{ *Pipe }

func (e farEnd) SendMessage(seq uint16, m pb.Message) error {
	switch m.Command() {
	case pb.CmdHeartBeat:
		return nil
	case pb.CmdStopReceivePacket:
		e.stop(m)
		return nil
	}
	if e.calls.reply(m) {
		return nil
	}
	return e.back.put(seq, m)
}

// stop takes an IMStopReceivePacket. Several goroutines of the peer may send one.
func (e farEnd) stop(m pb.Message) {
	for stop, _ := m.(*pb.IMStopReceivePacket); ; {
		now := e.ready.Load()
		if e.ready.CompareAndSwap(now, uint32(readiness(now).after(stop))) {
			return
		}
	}
}

func (e farEnd) Close(err error) { e.close(err) }

// keepNotes is the largest capacity of a mailbox that is kept after a flood, in messages.
const keepNotes = 4096

// mailbox is the queue of one direction of a Pipe.
type mailbox struct {
	p    *Pipe
	wake chan struct{} // holds one token after put or close

	mu     sync.Mutex
	notes  batch.Buffer[note]
	closed bool
}

// note is a message in a mailbox.
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
	if len(b.notes.Waiting) >= b.p.o.MaxQueue {
		b.p.metrics.busy.Inc()
		return queueFull(b.p.o.Name)
	}
	b.notes.Waiting = append(b.notes.Waiting, note{seq, m})
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
	default: // it holds a token already
	}
}

// take returns the waiting messages; last reports that no further messages follow.
func (b *mailbox) take() (waiting []note, last bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.notes.Take(keepNotes), b.closed
}

// run passes every message to h until the mailbox is closed and empty.
func (b *mailbox) run(h session.LinkHandler, s *session.Link) {
	for {
		waiting, last := b.take()
		for i, n := range waiting {
			waiting[i] = note{}
			if h == nil {
				b.p.metrics.ignored.Inc()
				continue
			}
			b.p.metrics.in.Inc()
			// A panic ends only this message: there is no connection with a state to
			// doubt.
			_ = guard(b.p.o.Log, b.p.metrics, func() { h.Message(s, n.seq, n.m) })
		}
		if last {
			return
		}
		if len(waiting) == 0 {
			<-b.wake
			b.p.o.Turn.Wait(s.Remote())
		}
	}
}
