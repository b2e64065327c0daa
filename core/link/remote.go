package link

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/backoff"
	"teamtalk/core/obs"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Options of a Remote. Zero values mean the defaults.
type Options struct {
	// Name is what logs and metrics call the peer. Default: Addr.
	Name string
	// Addr is host:port. Names are resolved at each attempt.
	Addr string
	// Conns is the number of connections kept up, over which keys are spread. The handler's Open is called for each, so a peer that must see
	// this server once gets 1. Default 1.
	Conns int
	// Handler is told of connections, and gets every message that is no answer to a call. Several connections call it at the same time,
	// one session at a time. It must not wait. nil: messages are counted and ignored.
	Handler session.Handler
	// Dial opens a connection. Default: TCP, no delay.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// DialTimeout bounds an attempt. Default 5 s.
	DialTimeout time.Duration
	// Heartbeat is how long nothing may be sent before a heartbeat is. Default 5 s.
	Heartbeat time.Duration
	// IdleLimit is how long nothing may be received, and a write may make no progress, before the connection is dropped. Default 30 s.
	IdleLimit time.Duration
	// Backoff is the schedule of attempts to connect. Zero: 50 ms, 100 ms, 200 ms, then 400 ms
	// until 30 s after the last working connection was lost, growing up to MaxBackoff after that.
	// Half of each pause is random.
	Backoff backoff.Policy
	// MaxBackoff is the longest pause of the default schedule. Default 64 s.
	MaxBackoff time.Duration
	// CallTimeout is how long a call waits for its answer. Default 10 s.
	CallTimeout time.Duration
	// MaxPending bounds the open calls of one connection. Default 16,384.
	MaxPending int
	// MaxQueueItems and MaxQueueBytes bound what waits to be written on one connection. A message that alone is larger is taken when
	// nothing else waits. Defaults 65,536 and 16 MiB.
	MaxQueueItems, MaxQueueBytes int
	// MaxFrame is the longest frame accepted, in bytes. Default pdu.MaxServerFrame.
	MaxFrame int
	// Rand gives random numbers; called from several goroutines. Default: math/rand/v2.
	Rand func() uint64
	// Log gets what happens to connections. Default: discarded.
	Log *slog.Logger
	// Metrics may be shared by all links. Default: not registered.
	Metrics *Metrics
}

func (o *Options) setDefaults() {
	o.Name = named(o.Name, o.Addr)
	o.Conns = orDefault(o.Conns, 1)
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	o.DialTimeout = orDefault(o.DialTimeout, 5*time.Second)
	o.Heartbeat = orDefault(o.Heartbeat, 5*time.Second)
	o.IdleLimit = orDefault(o.IdleLimit, 30*time.Second)
	o.MaxBackoff = orDefault(o.MaxBackoff, 64*time.Second)
	if o.Backoff == (backoff.Policy{}) {
		o.Backoff = defaultBackoff(o.MaxBackoff)
	}
	o.CallTimeout = orDefault(o.CallTimeout, 10*time.Second)
	o.MaxPending = orDefault(o.MaxPending, 16384)
	o.MaxQueueItems = orDefault(o.MaxQueueItems, 65536)
	o.MaxQueueBytes = orDefault(o.MaxQueueBytes, 16<<20)
	o.MaxFrame = orDefault(o.MaxFrame, pdu.MaxServerFrame)
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	o.Log = logFor(o.Log, o.Name)
}

// Remote is a Peer behind TCP. Make one with Dial.
type Remote struct {
	o       Options
	metrics *peerMetrics
	slots   []atomic.Pointer[conn] // nil while down
	ctx     context.Context        // ends with Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	often   obs.Often // keeps failed attempts to connect from filling the log
}

var _ Peer = (*Remote)(nil)

// Dial makes a Remote and returns at once; it connects, and connects again, in the background until Close.
func Dial(o Options) *Remote {
	o.setDefaults()
	r := &Remote{o: o, metrics: o.Metrics.peer(o.Name), slots: make([]atomic.Pointer[conn], o.Conns)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	for i := range r.slots {
		r.wg.Go(func() { r.keepUp(&r.slots[i]) })
	}
	r.wg.Go(r.watch)
	return r
}

// Name is the peer's name.
func (r *Remote) Name() string { return r.o.Name }

// Up reports whether a connection takes requests.
func (r *Remote) Up() bool { return r.pick(0) != nil }

// Send sends m to the peer, see Peer.
func (r *Remote) Send(key uint64, seq uint16, m pb.Message) error {
	c := r.pick(key)
	if c == nil {
		return r.down()
	}
	return c.enqueue(seq, m, false)
}

// Call asks the peer, see Peer.
func (r *Remote) Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) {
	r.call(false, l, key, seq, req, done)
}

// CallEncoded asks the peer, see Peer.
func (r *Remote) CallEncoded(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) {
	r.call(true, l, key, seq, req, done)
}

// TryCall asks the peer, see Peer.
func (r *Remote) TryCall(key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) error {
	return r.try(false, nil, key, seq, req, done)
}

func (r *Remote) call(encoded bool, l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) {
	if err := r.try(encoded, l, key, seq, req, done); err != nil {
		refuse(r.o.Log, l, done, err)
	}
}

// try sends a request; with an error it was not sent, and done is still to be run.
func (r *Remote) try(encoded bool, l *session.Loop, key uint64, seq uint16, req pb.Attachment,
	done func(pb.Message, error)) error {
	err := r.send(encoded, l, key, seq, req, done)
	if err != nil {
		err = notSent(err)
		r.metrics.failed(err)
	}
	return err
}

func (r *Remote) send(encoded bool, l *session.Loop, key uint64, seq uint16, req pb.Attachment,
	done func(pb.Message, error)) error {
	c := r.pick(key)
	if c == nil {
		return r.down()
	}
	attach, id, err := c.calls.add(l, encoded, done)
	if err != nil {
		return err
	}
	req.SetAttachData(attach)
	if err := c.enqueue(seq, req, false); err != nil && c.calls.take(id) != nil {
		return err
	}
	return nil // or the call has ended with the connection meanwhile
}

// Close ends the link, see Peer. What was accepted has two seconds to leave.
func (r *Remote) Close() error {
	r.cancel()
	for i := range r.slots {
		if c := r.slots[i].Load(); c != nil {
			c.close(session.ErrShutdown)
		}
	}
	r.wg.Wait()
	return nil
}

func (r *Remote) down() error {
	if r.ctx.Err() != nil {
		return isClosed(r.o.Name)
	}
	return notUp(r.o.Name)
}

// pick returns the connection for a key, nil when none takes requests.
func (r *Remote) pick(key uint64) *conn {
	if len(r.slots) == 1 {
		if c := r.slots[0].Load(); c.usable() {
			return c
		}
		return nil
	}
	i := choose(saltConns, key, len(r.slots), func(i int) bool { return r.slots[i].Load().usable() })
	if i < 0 {
		return nil
	}
	return r.slots[i].Load() // nil if it ended just now
}

// keepUp keeps one connection up. A connection that ended sooner than a heartbeat was none that
// worked: a peer that accepts and hangs up is away all the same, and its outage goes on.
func (r *Remote) keepUp(slot *atomic.Pointer[conn]) {
	lost := time.Now()
	for failures := 0; r.ctx.Err() == nil; failures++ {
		nc, err := r.dial()
		if err == nil {
			r.metrics.dialed.Inc()
			began := time.Now()
			r.serve(slot, nc)
			if now := time.Now(); now.Sub(began) >= r.o.Heartbeat {
				failures, lost = 0, now
			}
		} else if r.ctx.Err() == nil {
			r.metrics.dialFailed.Inc()
			if held, ok := r.often.Allow(time.Now()); ok {
				r.o.Log.Warn("cannot connect", "err", err, "held", held)
			}
		}
		random := float64(r.o.Rand()>>11) / (1 << 53)
		r.pause(r.o.Backoff.Delay(failures, time.Since(lost), random))
	}
}

// defaultBackoff connects a peer that restarts within 400 ms of its first accept. A thousand
// message servers with two links each make 7,000 attempts a second at a db_proxy that is down, for
// half a minute: each is a SYN and a RST.
func defaultBackoff(longest time.Duration) backoff.Policy {
	return backoff.Policy{First: 50 * time.Millisecond, Recent: 400 * time.Millisecond,
		Fresh: 30 * time.Second, Max: longest, Spread: 0.5}
}

func (r *Remote) dial() (net.Conn, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.o.DialTimeout)
	defer cancel()
	return r.o.Dial(ctx, r.o.Addr)
}

func (r *Remote) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.ctx.Done():
	}
}

// watch looks at the clocks of all connections.
func (r *Remote) watch() {
	every := min(r.o.Heartbeat, r.o.IdleLimit, r.o.CallTimeout) / 5
	t := time.NewTicker(max(10*time.Millisecond, min(every, time.Second)))
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-r.ctx.Done():
			return
		}
		now := time.Now()
		for i := range r.slots {
			if c := r.slots[i].Load(); c != nil {
				c.check(now)
			}
		}
	}
}

// serve runs one connection from its first to its last byte.
func (r *Remote) serve(slot *atomic.Pointer[conn], nc net.Conn) {
	c := newConn(r, nc)
	slot.Store(c) // before Open: what others send from here on is held back behind what Open sends
	if r.ctx.Err() != nil {
		c.close(session.ErrShutdown) // Close may have come too early to see it
	}
	opened := c.open()
	if opened {
		r.metrics.up.Inc()
		r.o.Log.Info("link up", "conn", c.session.ID())
		var writer sync.WaitGroup
		writer.Go(c.writeLoop)
		c.fail(c.readLoop())
		writer.Wait()
		r.metrics.up.Dec()
		r.metrics.dropouts.Inc()
	}
	_ = nc.Close() // what matters was said by read or write
	slot.Store(nil)
	err := notUp(r.o.Name)
	if r.ctx.Err() != nil {
		err = isClosed(r.o.Name)
	}
	c.calls.failAll(err)
	if opened {
		reason := c.reason()
		r.o.Log.Info("link down", "conn", c.session.ID(), "err", reason)
		if h := r.o.Handler; h != nil {
			_ = guard(r.o.Log, r.metrics, func() { h.Close(c.session, reason) })
		}
	}
}
