package session

import (
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/batch"
	"teamtalk/core/mono"
	option "teamtalk/core/opt"
	"teamtalk/core/pdu"
)

// maxTurnBytes limits the bytes that one turn sends before the sockets are served again.
// To encode and write that many takes some milliseconds.
const maxTurnBytes = 4 << 20

// longTurn is the duration from which a turn enters the metrics.
const longTurn = time.Millisecond

// lingerLimit is the time, in milliseconds, that a closing session has to flush, and that
// a lingering session waits until its peer closes.
const lingerLimit = 2000

// LoopOptions configures a Loop. Zero values select the defaults.
type LoopOptions struct {
	// Wake schedules a call of Turn on the thread of the loop, soon. It is called from
	// any goroutine, at most once before each Turn. again reports that the call comes
	// from the loop itself, at the end of a turn. Required.
	Wake func(l *Loop, again bool)
	// Schedule makes the caller call Tick when d has passed, and drops what was scheduled
	// before; with a negative d nothing is. It is called on the loop. Default: the caller
	// calls Tick every TickInterval.
	Schedule func(d time.Duration)
	// Clients or Links handles the connections of the loop: the clients, or the links
	// that other servers dialed. Clients also receives ticks and new loops when it is a
	// LoopHandler, and tagged frames when it is a SentHandler.
	Clients ClientHandler
	Links   LinkHandler
	// MaxItems and MaxBytes bound the mailbox, which holds frames that have not left yet
	// for sessions of this loop. Defaults: 65,536 and 64 MiB. A fan-out counts with its
	// memory: its frame, once, and 8 bytes for each session. An empty mailbox accepts a
	// frame of any size. Functions from Post and results from PostResult do not count,
	// because their callers have bounds of their own.
	MaxItems, MaxBytes int
	// MaxTurn limits the items that one turn takes from the mailbox before the sockets
	// are served again. Default 4,096.
	MaxTurn int
	// MaxBuffered limits the bytes that wait for a peer that does not read. Above it the
	// session is closed with ErrSlow. Frames of 64 KiB and more do not count. Default 1
	// MiB.
	MaxBuffered int
	// MaxLarge limits the bytes of frames of 64 KiB and more that wait for a peer. A
	// frame above it is rejected. When no large frame waits, one of any length is
	// accepted. Default 16 times MaxBuffered.
	MaxLarge int
	// MaxSend is the longest frame that Push accepts, in bytes: the other side would close
	// the connection. Default pdu.MaxFrame.
	MaxSend int
	// StallLimit is the time for which a peer may take nothing of a large frame before
	// the session is closed with ErrSlow. Default 10 s.
	StallLimit time.Duration
	// Ended is called at the end of each turn, with the time at which it began. Default: nobody
	// is told. Loop only.
	Ended func(began time.Time)
	// After runs f after d, on a goroutine of its own. Default time.AfterFunc.
	After func(d time.Duration, f func())
	// Now returns the time. Default mono.Now.
	Now func() time.Time
	// Log receives the failures of handlers. Default: discarded.
	Log *slog.Logger
	// Metrics may be shared by many loops. Default: metrics that are not registered.
	Metrics *Metrics
}

// Loop is one thread of control and the sessions that it owns.
//
// Begin and End enclose all work on the loop: the engine calls them around each event,
// and Turn when the mailbox holds items. At the end of a turn the loop writes once to
// every session that was sent something.
type Loop struct {
	// Data is the state that the role keeps for this loop. Loop only.
	Data any

	opt     LoopOptions
	metrics *Metrics
	sent    SentHandler // nil when the handler is no SentHandler
	ticker  LoopHandler // nil when the handler is no LoopHandler

	mu       sync.Mutex
	in       batch.Buffer[item]
	inBytes  int
	active   bool               // a turn runs; it looks at the mailbox before it ends
	woken    bool               // Wake was called and Turn was not called yet
	overflow map[*Conn]struct{} // to be closed, because a frame for them was dropped

	// All fields below: loop only.
	batch []item // items taken from in; those from pos on have not run yet
	pos   int
	times
	realTime  bool // Now is the default
	sessions  []*Conn
	dirty     []*Conn
	buffers   [][]byte  // free output buffers
	directs   []*direct // free lists of frames
	pieces    [][]byte  // slices of the current write
	feeding   []*Conn   // sessions with a backlog
	fed       int       // index in feeding of the session that gets the next piece
	feedDue   bool      // the next turn gives pieces to feeding
	full      bool      // a turn reached its bound: the rest waits for the next Turn
	nudging   bool      // a timer runs that sets feedDue
	piece     int       // length of the pieces, in bytes
	scratch   []byte
	turnBytes int  // sent in this turn
	lingers   bool // a closing session waits for its peer
	opened    bool
	turn      bool // between Begin and End
}

// sessionIDs holds the id of the newest session in the process.
var sessionIDs atomic.Uint64

// NextID returns the id of a new session. Ids increase and are unique in the process. Any
// goroutine.
func NextID() uint64 { return sessionIDs.Add(1) }

// NewLoop returns a loop without sessions.
func NewLoop(opt LoopOptions) *Loop {
	option.Default(&opt.MaxItems, 65536)
	option.Default(&opt.MaxBytes, 64<<20)
	option.Default(&opt.MaxTurn, 4096)
	option.Default(&opt.MaxBuffered, 1<<20)
	option.Default(&opt.MaxLarge, 16*opt.MaxBuffered)
	option.Default(&opt.MaxSend, pdu.MaxFrame)
	option.Default(&opt.StallLimit, 10*time.Second)
	if opt.After == nil {
		opt.After = func(d time.Duration, f func()) { time.AfterFunc(d, f) }
	}
	realTime := opt.Now == nil
	if realTime {
		opt.Now = mono.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Metrics == nil {
		opt.Metrics = NewMetrics(nil, "")
	}
	l := &Loop{
		opt: opt, metrics: opt.Metrics, realTime: realTime,
		times: times{begun: opt.Now(), sweepAt: Never, tickAt: Never},
		piece: max(1, min(feedPiece, opt.MaxBuffered/4)),
	}
	l.begunMs = l.begun.UnixMilli()
	l.sent, _ = opt.Clients.(SentHandler)
	l.ticker, _ = opt.Clients.(LoopHandler)
	return l
}

// Sessions returns the number of sessions that the loop owns. Loop only.
func (l *Loop) Sessions() int { return len(l.sessions) }

// Each calls f for every connection of the loop. f may close connections. Loop only.
func (l *Loop) Each(f func(*Conn)) {
	for i := len(l.sessions) - 1; i >= 0; i-- {
		f(l.sessions[i])
	}
}

// Clients calls f for every client of the loop. f may close clients. Loop only.
func (l *Loop) Clients(f func(*Client)) {
	l.Each(func(c *Conn) {
		if s, ok := c.session.(*Client); ok {
			f(s)
		}
	})
}

// Nested runs f within the current turn, or in a turn of its own when none runs:
// connections end both inside and outside of turns. Loop only.
func (l *Loop) Nested(f func()) {
	if l.turn {
		defer l.rescue(nil)
		f()
		return
	}
	l.Begin()
	func() {
		defer l.rescue(nil)
		f()
	}()
	l.End()
}

// Begin starts a turn. Loop only, as all methods below.
func (l *Loop) Begin() {
	l.turn = true
	l.mu.Lock()
	l.active = true
	l.mu.Unlock()
	l.nowTime = l.opt.Now()
	l.now = l.begunMs + l.nowTime.Sub(l.begun).Milliseconds()
	if !l.opened {
		l.opened = true
		if l.ticker != nil {
			l.ticker.OpenLoop(l)
		}
	}
}

// End runs the items of the mailbox, at most MaxTurn of them and until maxTurnBytes are
// sent, and writes the frames that were sent.
//
// When items remain, End calls Wake, and turns for traffic before the next Turn leave the
// mailbox alone. Otherwise fifty readable sockets would each run a full turn's work
// before the loop serves the fifty-first.
func (l *Loop) End() {
	defer l.finish()
	left, fed := l.opt.MaxTurn, false
	for {
		for !l.full && l.pos < len(l.batch) && left > 0 && l.turnBytes < maxTurnBytes {
			it := l.batch[l.pos]
			l.batch[l.pos] = item{}
			l.pos++
			left--
			l.run(it)
		}
		l.flush()
		if l.feedDue && !fed && !l.full {
			fed = true
			l.feedDue = l.feed()
			l.flush() // a failed write ends a session, and its handler may send to others
		}
		l.mu.Lock()
		if l.pos == len(l.batch) && (len(l.in.Waiting) > 0 || len(l.overflow) > 0) {
			l.swap()
		}
		done := l.pos == len(l.batch)
		if done || l.full || left <= 0 || l.turnBytes >= maxTurnBytes {
			l.active = false
			l.full = !done || l.feedDue
			wake := l.full && !l.woken
			l.woken = l.woken || wake
			l.mu.Unlock()
			if wake {
				l.opt.Wake(l, true)
			}
			return
		}
		l.mu.Unlock()
	}
}

// finish ends a turn and measures it.
func (l *Loop) finish() {
	l.nudge()
	l.schedule()
	l.turn, l.turnBytes = false, 0
	if l.opt.Ended != nil {
		l.opt.Ended(l.nowTime)
	}
	if took := l.took(); took >= longTurn {
		l.metrics.longTurns.Observe(took.Seconds())
	}
}

// took returns how long the turn has taken. Every frame that arrives alone is a turn, so
// the time of day is not read again: the monotonic clock alone takes half as long.
func (l *Loop) took() time.Duration {
	if l.realTime {
		return time.Since(l.nowTime)
	}
	return l.opt.Now().Sub(l.nowTime)
}

// Turn runs the items of the mailbox. The engine calls it after Wake.
func (l *Loop) Turn() {
	l.mu.Lock()
	l.woken = false
	l.mu.Unlock()
	l.full = false
	l.Begin()
	l.End()
}

// rescue recovers from a panic in a handler, so that the other sessions survive it. It
// counts and logs the panic, and closes c unless c is nil. It must be deferred.
func (l *Loop) rescue(c *Conn) {
	r := recover()
	if r == nil {
		return
	}
	l.metrics.panics.Inc()
	l.opt.Log.Error("handler panicked", "err", r, "stack", string(debug.Stack()))
	if c != nil {
		c.Close(ErrPanic)
	}
}

// Add creates the session of a new connection, a Link when the options name a handler of
// links, and else a Client. The caller calls Open next. Loop only.
func (l *Loop) Add(remote netip.AddrPort, carrier Carrier) *Conn {
	if l.opt.Links != nil {
		return l.AddLink(remote, carrier).conn
	}
	return &l.AddClient(remote, carrier).Conn
}

func (l *Loop) add(c *Conn, s any, remote netip.AddrPort, carrier Carrier) {
	*c = Conn{
		id: NextID(), loop: l, carrier: carrier, session: s, remote: remote,
		opened: l.now, lastIn: l.now, lastOut: l.now, slot: int32(len(l.sessions)),
	}
	l.sessions = append(l.sessions, c)
	l.metrics.sessions.Inc()
}

// Ended removes a connection that is gone, as Remove does, and calls the handler's Close.
func (l *Loop) Ended(c *Conn, err error) {
	reason := l.Remove(c, err)
	l.Nested(func() {
		switch s := c.session.(type) {
		case *Client:
			l.opt.Clients.Close(s, reason)
		case *acceptedLink:
			l.opt.Links.Close(&s.Link, reason)
		}
	})
}

// Remove deletes a session whose connection is gone. It returns the reason for the end:
// that of the first close, or err when this side did not close the session.
func (l *Loop) Remove(c *Conn, err error) error {
	if c.flags&closed != 0 {
		return c.closeErr
	}
	last := len(l.sessions) - 1
	moved := l.sessions[last]
	l.sessions[c.slot] = moved
	moved.slot = c.slot
	l.sessions[last] = nil
	if l.sessions = l.sessions[:last]; last == 0 {
		l.sweepAt = Never
	}
	if c.flags&closing == 0 {
		c.closeErr = err
	}
	c.flags |= closed
	c.held = nil
	l.metrics.sessions.Dec()
	l.metrics.closed(c.closeErr)
	return c.closeErr
}

// Open asks the handler to accept c. An error rejects the session; after a panic of the
// handler it is ErrPanic.
func (l *Loop) Open(c *Conn) (err error) {
	defer l.rescue(nil)
	err = ErrPanic
	if s, ok := c.session.(*acceptedLink); ok {
		return l.opt.Links.Open(&s.Link)
	}
	return l.opt.Clients.Open(c.session.(*Client))
}

// Deliver passes one frame to the handler. A panic of the handler closes only this
// session. A frame for a lingering session is dropped and counted.
func (l *Loop) Deliver(c *Conn, h pdu.Header, body []byte) {
	if c.flags&lingering != 0 {
		l.metrics.ignored.Inc()
		return
	}
	defer l.rescue(c)
	c.lastIn = l.now
	switch s := c.session.(type) {
	case *Client:
		l.opt.Clients.Frame(s, h, body)
	case *acceptedLink:
		l.opt.Links.Frame(&s.Link, h, body)
	}
}

// Tick checks the deadlines of the sessions and calls the Tick of a LoopHandler. The
// engine calls it on the loop when it was scheduled. A Tick at another time does no harm.
func (l *Loop) Tick() {
	l.full = false
	l.tickAt = 0
	l.Begin()
	defer l.End()
	if l.now >= l.sweepAt || l.lingers {
		l.sweep()
	}
	if l.ticker != nil {
		func() {
			defer l.rescue(nil)
			l.ticker.Tick(l, l.nowTime)
		}()
	}
}

// sweep closes the sessions that are over time and sends heartbeats. Tick calls it when a
// session may be over time, and with every tick while a closing session waits. A sweep of
// 100,000 sessions takes less than a millisecond (BenchmarkSweep).
func (l *Loop) sweep() {
	l.lingers = false
	next := int64(Never)
	for i := len(l.sessions) - 1; i >= 0; i-- {
		next = min(next, l.sessions[i].overTime(l))
	}
	l.sweepAt = Never
	l.sweepBy(next)
}
