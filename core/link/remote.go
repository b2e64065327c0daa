package link

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/backoff"
	"teamtalk/core/mono"
	"teamtalk/core/obs"
	"teamtalk/core/opt"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Options configures a Remote. Fields with a setting are required, the others have defaults.
type Options struct {
	// Name is the peer's name in logs and metrics. Default: Addr.
	Name string
	// Addr is host:port. Host names are resolved at each attempt.
	Addr string
	// Handler is called when the connection opens and closes, and for every message that
	// is not an answer to a call. It must not wait. Nil: messages are counted and
	// dropped.
	Handler session.LinkHandler
	// Features are bits of pb.ServerFeature that the peer is told, 0: nothing. A peer that
	// takes no more requests is left when the last call has ended, if it knows them.
	Features uint32
	Self     string // the name of this server for the log of the peer, sent with Features
	// Dial opens a connection. Default: TCP, no delay.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// DialTimeout is the longest time of an attempt. Required.
	DialTimeout time.Duration
	// Heartbeat is the time without a write after which a heartbeat is sent. Required.
	Heartbeat time.Duration
	// IdleLimit is the time without a received byte, or without progress of a write,
	// after which the connection is closed. Required.
	IdleLimit time.Duration
	// Backoff is the schedule of attempts to connect. Zero: 50 ms, 100 ms, 200 ms, then
	// 400 ms until 30 s after the last working connection was lost, growing up to
	// MaxBackoff after that. Half of each pause is random.
	Backoff backoff.Policy
	// MaxBackoff is the longest pause of the default schedule. Required with it.
	MaxBackoff time.Duration
	// CallTimeout is the longest time that a call waits for its answer. Required.
	CallTimeout time.Duration
	// MaxPending bounds the open calls. Default 16,384.
	MaxPending int
	// MaxQueueItems and MaxQueueBytes bound the frames that wait to be written. A frame
	// that alone exceeds MaxQueueBytes is accepted when no other waits. Defaults 65,536
	// and 16 MiB.
	MaxQueueItems, MaxQueueBytes int
	// MaxFrame is the longest frame accepted, in bytes. A longer one is skipped, and the
	// call that it answers fails with ErrTooLong. Required.
	MaxFrame int
	// Answers bounds the answers in parts. Required when Features says that this server
	// puts answers together.
	Answers *Answers
	// Rand returns random numbers. Several goroutines call it. Default: math/rand/v2.
	Rand func() uint64
	// Turn is waited for before the times of the connection are looked at. Default: none.
	Turn mono.Turn
	// Log receives the events of connections. Default: discarded.
	Log *slog.Logger
	// Metrics may be shared by all links. Default: not registered.
	Metrics *Metrics
}

func (o *Options) setDefaults() {
	o.Name = cmp.Or(o.Name, o.Addr)
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	opt.Require("link.DialTimeout", o.DialTimeout)
	opt.Require("link.Heartbeat", o.Heartbeat)
	opt.Require("link.IdleLimit", o.IdleLimit)
	opt.Require("link.CallTimeout", o.CallTimeout)
	opt.Require("link.MaxFrame", o.MaxFrame)
	if o.Features&uint32(pb.ServerFeature_SERVER_FEATURE_PARTS) != 0 {
		opt.Require("link.Answers", o.Answers.longest())
	}
	if o.Answers == nil {
		o.Answers = NewAnswers(0)
	}
	if o.Backoff == (backoff.Policy{}) {
		opt.Require("link.MaxBackoff", o.MaxBackoff)
		o.Backoff = defaultBackoff(o.MaxBackoff)
	}
	opt.Default(&o.MaxPending, 16384)
	opt.Default(&o.MaxQueueItems, 65536)
	opt.Default(&o.MaxQueueBytes, 16<<20)
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	o.Log = logFor(o.Log, o.Name).With("peer", o.Addr)
}

// Remote is a Peer over TCP, made by Dial.
type Remote struct {
	o       Options
	metrics *peerMetrics
	conn    atomic.Pointer[conn] // nil while down
	retired atomic.Bool          // Retire was called
	leaving atomic.Bool          // Drain was called
	ctx     context.Context      // ends with Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	often   obs.Often // bounds the log of links that were refused
}

var _ Peer = (*Remote)(nil)

// Dial returns a Remote at once. In the background it connects, and reconnects after each
// failure, until Close.
func Dial(o Options) *Remote {
	o.setDefaults()
	r := &Remote{o: o, metrics: o.Metrics.peer(o.Name)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.keepUp)
	r.wg.Go(r.watch)
	return r
}

// Name returns the peer's name.
func (r *Remote) Name() string { return r.o.Name }

// Up reports whether requests are sent to the peer, see Peer.
func (r *Remote) Up() bool { return r.usable() != nil }

// usable returns the connection if requests are sent on it, otherwise nil.
func (r *Remote) usable() *conn {
	if c := r.conn.Load(); c.usable() && !r.retired.Load() {
		return c
	}
	return nil
}

// Withdrawn reports whether the peer asked for no requests for now, see Peer.
func (r *Remote) Withdrawn() bool {
	c := r.conn.Load()
	return c != nil && c.readiness() == withdrawn
}

// Send sends m to the peer, see Peer.
func (r *Remote) Send(_ uint64, seq uint16, m pb.Message) error {
	c := r.usable()
	if c == nil {
		return r.down()
	}
	return c.enqueue(seq, m, bySend)
}

// Call sends a request to the peer, see Peer.
func (r *Remote) Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done Done) {
	if err := r.try(false, l, seq, req, done); err != nil {
		refuse(r.o.Log, l, done, err)
	}
}

// CallEncoded sends a request to the peer, see Peer.
func (r *Remote) CallEncoded(l *session.Loop, key uint64, seq uint16, req pb.Attachment,
	done Done) {
	if err := r.try(true, l, seq, req, done); err != nil {
		refuse(r.o.Log, l, done, err)
	}
}

// TryCall sends a request to the peer, see Peer.
func (r *Remote) TryCall(key uint64, seq uint16, req pb.Attachment, done Done) error {
	return r.try(false, nil, seq, req, done)
}

// try sends a request. An error means that it was not sent and done has not run.
func (r *Remote) try(encoded bool, l *session.Loop, seq uint16, req pb.Attachment,
	done Done) error {
	err := r.send(encoded, l, seq, req, done)
	if err != nil {
		err = notSent(err)
		r.metrics.failed(err)
	}
	return err
}

func (r *Remote) send(encoded bool, l *session.Loop, seq uint16, req pb.Attachment,
	done Done) error {
	c := r.usable()
	if c == nil {
		return r.down()
	}
	attach, id, err := c.calls.add(l, encoded, done)
	if err != nil {
		return err
	}
	req.SetAttachData(attach)
	if err := c.enqueue(seq, req, byCall); err != nil && c.calls.take(id) != nil {
		return err
	}
	return nil // or the call has ended with the connection meanwhile
}

// Close ends the link, see Peer. Accepted messages are written for two more seconds at
// most.
func (r *Remote) Close() error {
	r.cancel()
	if c := r.conn.Load(); c != nil {
		c.close(session.ErrShutdown)
	}
	r.wg.Wait()
	return nil
}

// Retire sends no more requests, and makes no new connection. The handler may still send on its
// session, and receives what the peer sends. The channel is closed when the connection has ended.
func (r *Remote) Retire() (ended <-chan struct{}) {
	r.retired.Store(true)
	if r.conn.Load() == nil {
		r.cancel()
	}
	return r.ctx.Done()
}

// Drain sends no more requests, and closes the link when no call is open any more: each
// ends with its answer, or after Options.CallTimeout. It returns after that. Close does not
// wait for the answers.
func (r *Remote) Drain() {
	r.Retire()
	r.leaving.Store(true)
	if c := r.conn.Load(); c != nil {
		c.leave()
	}
	r.wg.Wait()
}

func (r *Remote) down() error {
	if r.ctx.Err() != nil {
		return isClosed(r.o.Name)
	}
	return notUp(r.o.Name)
}

// keepUp keeps the connection up. A connection that ended before the first heartbeat does
// not count as working: a peer that accepts connections and closes them is still away,
// and its outage continues.
func (r *Remote) keepUp() {
	lost, away := time.Now(), obs.Repeated{}
	for failures := 0; r.ctx.Err() == nil; failures++ {
		nc, err := r.dial()
		if err == nil {
			r.metrics.dialed.Inc()
			began := time.Now()
			away = obs.Repeated{}
			r.serve(nc)
			if r.retired.Load() {
				r.cancel()
			}
			if now := time.Now(); now.Sub(began) >= r.o.Heartbeat {
				failures, lost = 0, now
			}
		} else if r.ctx.Err() == nil {
			r.metrics.dialFailed.Inc()
			away.Warn(r.o.Log, time.Now(), "cannot connect", err)
		}
		random := float64(r.o.Rand()>>11) / (1 << 53)
		_ = backoff.Sleep(r.ctx, r.o.Backoff.Delay(failures, time.Since(lost), random))
	}
}

// defaultBackoff returns a schedule that connects to a restarting peer within 400 ms of
// its first accept. With it a thousand message servers with two links each make 7,000
// attempts per second to reach a db_proxy that is down, for half a minute. Each costs a
// SYN and a RST.
func defaultBackoff(longest time.Duration) backoff.Policy {
	return backoff.Policy{First: 50 * time.Millisecond, Recent: 400 * time.Millisecond,
		Fresh: 30 * time.Second, Max: longest, Spread: 0.5}
}

func (r *Remote) dial() (net.Conn, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.o.DialTimeout)
	defer cancel()
	return r.o.Dial(ctx, r.o.Addr)
}

// watch checks the times of the connection when one may be over.
func (r *Remote) watch() {
	shortest := min(r.o.Heartbeat, r.o.IdleLimit, r.o.CallTimeout)
	mono.Watch(r.ctx.Done(), mono.Unit(shortest), func(now time.Time) time.Time {
		if c := r.conn.Load(); c != nil {
			r.o.Turn.Wait("watch") // the times of several links are over at the same instant
			return c.check(now)
		}
		return mono.Next(now, shortest) // no time of a new connection is over before
	})
}

// serve runs one connection from its first to its last byte.
func (r *Remote) serve(nc net.Conn) {
	c := newConn(r, nc)
	// Before Open, so that messages of others are held back behind those of Open from
	// here on.
	r.conn.Store(c)
	if r.ctx.Err() != nil {
		c.close(session.ErrShutdown) // Close may have run before the Store
	}
	opened := c.open()
	if opened {
		r.metrics.up.Inc()
		r.o.Log.Info("link up", "conn", c.session.ID())
		var writer sync.WaitGroup
		writer.Go(c.writeLoop)
		c.fail(c.readLoop())
		writer.Wait()
		if _, tls := nc.(encrypted); !c.heard && !tls && r.ctx.Err() == nil {
			r.often.Warn(r.o.Log, time.Now(), "link refused", "err", errNothing)
		}
		r.metrics.up.Dec()
		r.metrics.dropouts.Inc()
	}
	_ = nc.Close() // read and write have reported the errors
	r.conn.Store(nil)
	err := notUp(r.o.Name)
	if r.ctx.Err() != nil {
		err = isClosed(r.o.Name)
	}
	c.calls.failAll(err)
	if opened {
		reason, down := c.reason(), []any{"conn", c.session.ID()}
		if reason != nil { // the peer has not just closed it
			down = append(down, "err", reason)
		}
		r.o.Log.Info("link down", down...)
		if h := r.o.Handler; h != nil {
			_ = guard(r.o.Log, r.metrics, func() { h.Close(c.session, reason) })
		}
	}
}
