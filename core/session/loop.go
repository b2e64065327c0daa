package session

import (
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/batch"
	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// TickInterval is how often a loop looks at its deadlines.
const TickInterval = 100 * time.Millisecond

// maxTurnBytes is how much is sent in a turn, in bytes, before sockets get their turn again: encoding and writing it takes some milliseconds.
const maxTurnBytes = 4 << 20

// longTurn is from when on the length of a turn is worth noting.
const longTurn = time.Millisecond

// lingerLimit is how long a session that is closing may take to flush, and how long one that
// lingers waits for its peer to close, in milliseconds.
const lingerLimit = 2000

// LoopOptions sets up a Loop. Zero values mean the defaults.
type LoopOptions struct {
	// Wake makes Turn(l) be called soon, on the loop's own thread. It is called from anywhere, at most once per
	// turn. again says that the call comes from the loop itself, out of a turn. Required.
	Wake func(l *Loop, again bool)
	// Handler is told of ticks and loops when it is a LoopHandler.
	Handler Handler
	// MaxItems and MaxBytes bound the mailbox: frames for sessions of this loop that did not leave yet. Defaults 65,536 and 64 MiB. A fan-out counts
	// what it takes: its frame, once, and 8 bytes for each session. An empty mailbox takes a frame of any size.
	// What is posted with Post and PostResult is not counted: the callers have bounds of their own.
	MaxItems, MaxBytes int
	// MaxTurn is how many items one turn works off before sockets get their turn again. Default 4,096.
	MaxTurn int
	// MaxBuffered is how many bytes may wait for a peer that does not read; beyond it the session is closed with ErrSlow. Frames of 64 KiB and more do
	// not count. Default 1 MiB.
	MaxBuffered int
	// MaxLarge is how many bytes of frames of 64 KiB and more may wait for a peer; what is more is refused. One such frame of any length is
	// taken. Default 16 times MaxBuffered.
	MaxLarge int
	// StallLimit is how long a peer may take nothing of a large frame before the session is closed with ErrSlow. Default 10 s.
	StallLimit time.Duration
	// After runs f after d, on a goroutine of its own. Default time.AfterFunc.
	After func(d time.Duration, f func())
	// Now tells the time. Default time.Now.
	Now func() time.Time
	// Log gets failures of handlers. Default: discarded.
	Log *slog.Logger
	// Metrics may be shared by many loops. Default: not registered.
	Metrics *Metrics
}

// Loop is one thread of control and the sessions it owns.
//
// Begin and End bracket everything done on it: the engine calls them around each event, and Turn when the mailbox has something. At the
// end of a turn every session that was written to gets one write.
type Loop struct {
	// Data is the role's own state for this loop. Loop only.
	Data any

	opt     LoopOptions
	metrics *Metrics
	sent    SentHandler // nil when the handler is none

	mu       sync.Mutex
	in       batch.Buffer[item]
	inBytes  int
	active   bool                  // a turn is on: it will look at the mailbox before it ends
	woken    bool                  // Wake was called and Turn has not come yet
	overflow map[*Session]struct{} // to be closed, what was for them was refused

	// Below: the loop's thread only.
	batch     []item // taken from in; from pos on still to do
	pos       int
	now       int64 // milliseconds: the wall clock's at begun, and monotonic from there
	begun     time.Time
	nowTime   time.Time
	sessions  []*Session
	dirty     []*Session
	buffers   [][]byte   // free output buffers
	directs   []*direct  // free lists of frames
	pieces    [][]byte   // of the write that is being made
	feeding   []*Session // those with a backlog
	fed       int        // where in feeding the next piece goes
	feedDue   bool       // feeding is to be looked at
	full      bool       // a turn had more to do than it may: the rest is for the next Turn
	nudging   bool       // and will be soon
	piece     int        // length of the pieces
	scratch   []byte
	turnBytes int // sent in this turn
	swept     int64
	lingers   bool // a session waits to be closed until its peer has read
	opened    bool
	turn      bool // between Begin and End
}

// item is one note in the mailbox: exactly one of frame, result, fn.
type item struct {
	s      *Session // with frame
	group  []*Session
	frame  []byte
	shared *pb.Encoded // with frame as its head
	tag    Tag

	done func(pb.Message, error) // with msg, err
	msg  pb.Message
	err  error

	fn func()
}

// sessionIDs counts sessions of all loops in the process.
var sessionIDs atomic.Uint64

// NextID returns a number for a new session: increasing, unique in the process.
func NextID() uint64 { return sessionIDs.Add(1) }

// NewLoop makes a loop.
func NewLoop(opt LoopOptions) *Loop {
	if opt.MaxItems <= 0 {
		opt.MaxItems = 65536
	}
	if opt.MaxBytes <= 0 {
		opt.MaxBytes = 64 << 20
	}
	if opt.MaxTurn <= 0 {
		opt.MaxTurn = 4096
	}
	if opt.MaxBuffered <= 0 {
		opt.MaxBuffered = 1 << 20
	}
	if opt.MaxLarge <= 0 {
		opt.MaxLarge = 16 * opt.MaxBuffered
	}
	if opt.StallLimit <= 0 {
		opt.StallLimit = 10 * time.Second
	}
	if opt.After == nil {
		opt.After = func(d time.Duration, f func()) { time.AfterFunc(d, f) }
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Metrics == nil {
		opt.Metrics = NewMetrics(nil, "")
	}
	l := &Loop{opt: opt, metrics: opt.Metrics, begun: opt.Now(), piece: max(1, min(feedPiece, opt.MaxBuffered/4))}
	l.sent, _ = opt.Handler.(SentHandler)
	return l
}

// Now is the time at the beginning of the turn. Loop only.
func (l *Loop) Now() time.Time { return l.nowTime }

// Sessions is the number of sessions the loop owns. Loop only.
func (l *Loop) Sessions() int { return len(l.sessions) }

// Each calls f for every session of the loop. f may close sessions. Loop only.
func (l *Loop) Each(f func(*Session)) {
	for i := len(l.sessions) - 1; i >= 0; i-- {
		f(l.sessions[i])
	}
}

// Post runs f on the loop, soon, in the order of the posts. From anywhere. It is for few and bounded things: nothing refuses it.
func (l *Loop) Post(f func()) { l.post(item{fn: f}, 0) }

// PostResult runs done(m, err) on the loop. From anywhere. Links answer calls with it; their bound on open calls bounds it.
func (l *Loop) PostResult(done func(pb.Message, error), m pb.Message, err error) {
	l.post(item{done: done, msg: m, err: err}, 0)
}

// PostFrame sends frame to s, which this loop owns. From anywhere. The slice must not change afterwards. When the mailbox is full the session is
// closed, and the error is of kind im.Busy.
func (l *Loop) PostFrame(s *Session, frame []byte) error {
	return l.post(item{s: s, frame: frame}, len(frame))
}

// PostFanOut sends one frame to many sessions, all of this loop. From anywhere. Neither slice may change afterwards. When the mailbox
// is full all of them are closed.
func (l *Loop) PostFanOut(group []*Session, frame []byte) error {
	return l.post(item{group: group, frame: frame}, fanOutSize(group, frame))
}

// PostTagged is PostFanOut for a frame that the SentHandler follows.
func (l *Loop) PostTagged(group []*Session, frame []byte, tag Tag) error {
	return l.post(item{group: group, frame: frame, tag: tag}, fanOutSize(group, frame))
}

// fanOutSize is what a fan-out takes in the mailbox. The frame is copied for each session only as it leaves, see run.
func fanOutSize(group []*Session, frame []byte) int { return len(frame) + 8*len(group) }

var errOverflow = im.Errorf(im.Busy, "mailbox full")

func (l *Loop) post(it item, size int) error {
	l.mu.Lock()
	if size > 0 && (len(l.in.Waiting) >= l.opt.MaxItems || (l.inBytes > 0 && l.inBytes+size > l.opt.MaxBytes)) {
		l.overflowed(it)
		l.mu.Unlock()
		l.metrics.mailboxDrops.Inc()
		return errOverflow
	}
	l.in.Waiting = append(l.in.Waiting, it)
	l.inBytes += size
	wake := !l.active && !l.woken
	if wake {
		l.woken = true
	}
	l.mu.Unlock()
	if wake {
		l.opt.Wake(l, false)
	}
	return nil
}

// overflowed notes whom a frame that was refused was for. With l.mu held.
func (l *Loop) overflowed(it item) {
	if l.overflow == nil {
		l.overflow = map[*Session]struct{}{}
	}
	if it.s != nil {
		l.overflow[it.s] = struct{}{}
	}
	for _, s := range it.group {
		l.overflow[s] = struct{}{}
	}
}

// Nested runs f within the turn that is on, or within one of its own: connections also end outside of a turn, and inside.
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

// Begin starts a turn. Loop only, as all below.
func (l *Loop) Begin() {
	l.turn = true
	l.mu.Lock()
	l.active = true
	l.mu.Unlock()
	l.nowTime = l.opt.Now()
	l.now = l.begun.UnixMilli() + l.nowTime.Sub(l.begun).Milliseconds()
	if !l.opened {
		l.opened = true
		if h, ok := l.opt.Handler.(LoopHandler); ok {
			h.OpenLoop(l)
		}
	}
}

// End works off the mailbox, up to MaxTurn items or maxTurnBytes sent, and writes what was sent. When more is left, it asks to be woken again, and
// the turns before that, for traffic, leave the mailbox alone: fifty sockets with something to read would each have a full turn's work done before the
// fifty-first is looked at.
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
			l.flush() // a write that fails ends a session, and its handler may send to others
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

// finish ends a turn.
func (l *Loop) finish() {
	l.nudge()
	l.turn, l.turnBytes = false, 0
	if took := l.opt.Now().Sub(l.nowTime); took >= longTurn {
		l.metrics.longTurns.Observe(took.Seconds())
	}
}

// swap takes what is in the mailbox. With l.mu held.
func (l *Loop) swap() {
	if len(l.overflow) > 0 {
		slow := l.overflow
		l.overflow = nil
		l.in.Waiting = append(l.in.Waiting, item{fn: func() {
			for s := range slow {
				s.Close(ErrOverflow)
			}
		}})
	}
	l.batch, l.pos, l.inBytes = l.in.Take(4*l.opt.MaxTurn), 0, 0
}

// Turn works off the mailbox. The engine calls it after Wake.
func (l *Loop) Turn() {
	l.mu.Lock()
	l.woken = false
	l.mu.Unlock()
	l.full = false
	l.Begin()
	l.End()
}

func (l *Loop) run(it item) {
	defer l.rescue(it.s)
	switch {
	case it.fn != nil:
		it.fn()
	case it.done != nil:
		it.done(it.msg, it.err)
	case it.shared != nil:
		it.s.holdReserved(it.frame, it.shared.Shared())
	case it.s != nil:
		it.s.SendKept(it.frame)
	default:
		l.fanOut(it)
	}
}

// fanOut sends a frame to a group. What was copied for its sessions is written in between, so that frames for a large group do not take memory for all
// of them at once.
func (l *Loop) fanOut(it item) {
	flushed := l.turnBytes
	for _, s := range it.group {
		if it.tag != (Tag{}) && l.sent != nil {
			l.tellSent(s, it)
		}
		s.SendKept(it.frame)
		if l.turnBytes-flushed >= maxTurnBytes {
			l.flush()
			flushed = l.turnBytes
		}
	}
}

// tellSent tells the handler that s is about to get a tagged frame. A panic there ends s, the rest of the group gets the frame.
func (l *Loop) tellSent(s *Session, it item) {
	if s.IsClosed() {
		return
	}
	defer l.rescue(s)
	l.sent.Sent(s, it.tag, it.frame)
}

// rescue keeps a panic in one handler from taking all sessions with it.
func (l *Loop) rescue(s *Session) {
	r := recover()
	if r == nil {
		return
	}
	l.metrics.panics.Inc()
	l.opt.Log.Error("handler panicked", "err", r, "stack", string(debug.Stack()))
	if s != nil {
		s.Close(ErrPanic)
	}
}

// Add makes the session of a new connection. The handler's Open comes next.
func (l *Loop) Add(remote netip.AddrPort, c Carrier) *Session {
	s := &Session{
		id: NextID(), loop: l, carrier: c, remote: remote,
		opened: l.now, lastIn: l.now, lastOut: l.now, slot: int32(len(l.sessions)),
	}
	l.sessions = append(l.sessions, s)
	l.metrics.sessions.Inc()
	return s
}

// Remove takes a session out whose connection is gone; the first error wins as the reason. It returns the reason.
func (l *Loop) Remove(s *Session, err error) error {
	if s.flags&closed != 0 {
		return s.closeErr
	}
	last := len(l.sessions) - 1
	moved := l.sessions[last]
	l.sessions[s.slot] = moved
	moved.slot = s.slot
	l.sessions[last] = nil
	l.sessions = l.sessions[:last]
	if s.flags&closing == 0 {
		s.closeErr = err
	}
	s.flags |= closed
	s.held = nil
	l.metrics.sessions.Dec()
	l.metrics.closed(s.closeErr)
	return s.closeErr
}

// Open asks the handler whether it takes s; an error refuses it. A panic there is ErrPanic.
func (l *Loop) Open(s *Session) (err error) {
	defer l.rescue(nil)
	err = ErrPanic
	return l.opt.Handler.Open(s)
}

// Deliver hands one frame to the handler. A panic there closes this session only. A frame of a
// session that lingers is dropped and counted.
func (l *Loop) Deliver(s *Session, h pdu.Header, body []byte) {
	if s.flags&lingering != 0 {
		l.metrics.ignored.Inc()
		return
	}
	defer l.rescue(s)
	s.lastIn = l.now
	l.opt.Handler.Frame(s, h, body)
}

func (l *Loop) markDirty(s *Session) {
	if s.flags&dirty != 0 {
		return
	}
	s.flags |= dirty
	l.dirty = append(l.dirty, s)
	if s.out == nil {
		if n := len(l.buffers); n > 0 {
			s.out = l.buffers[n-1]
			l.buffers = l.buffers[:n-1]
		}
	}
}

// keepBuffer is the largest output buffer kept for the next session, in bytes.
const keepBuffer = 64 << 10

// flush writes once to every session that was sent something, and closes those that are to be closed.
func (l *Loop) flush() {
	// Closing a session calls the handler, which may send to others: they are appended, and served in this same run.
	for i := 0; i < len(l.dirty); i++ {
		s := l.dirty[i]
		l.dirty[i] = nil
		l.flushOne(s)
	}
	l.dirty = l.dirty[:0]
}

func (l *Loop) flushOne(s *Session) {
	s.flags &^= dirty
	switch {
	case s.flags&closed != 0:
	case s.held != nil:
		l.flushHeld(s)
	case s.unsent() > 0 && s.carrier.Buffered() > 0 && s.carrier.Buffered()+s.unsent() > l.opt.MaxBuffered:
		l.closeSlow(s)
	case s.direct != nil:
		l.writePieces(s)
	case len(s.out) > 0:
		l.write(s, s.out)
	}
	if out := s.out; out != nil && cap(out) <= keepBuffer && len(l.buffers) < 1024 {
		l.buffers = append(l.buffers, out[:0])
	}
	s.out = nil
	s.dropDirect()
	if s.flags&(closing|closed) == closing {
		if s.flags&lingering == 0 && s.flushed() {
			s.carrier.Close()
			return
		}
		l.lingers = true // Tick looks again
		if s.deadline == 0 || s.deadline > l.now+lingerLimit {
			s.deadline = l.now + lingerLimit
		}
	}
}

func (l *Loop) flushHeld(s *Session) {
	s.holdSmall()
	if l.slowHeld(s) {
		l.closeSlow(s)
		return
	}
	l.feedDue = true
	if s.flags&feeding == 0 {
		s.flags |= feeding
		l.feeding = append(l.feeding, s)
	}
}

// write gives p to the carrier of s.
func (l *Loop) write(s *Session, p []byte) {
	s.lastOut = l.now
	l.metrics.writes.Inc()
	l.metrics.writtenBytes.Add(float64(len(p)))
	// An error means that the carrier closed itself: Remove came already.
	_ = s.carrier.Write(p)
}

// closeSlow ends a session whose peer does not read.
func (l *Loop) closeSlow(s *Session) {
	l.metrics.slow.Inc()
	if s.flags&closing == 0 {
		s.flags |= closing
		s.closeErr = ErrSlow
	}
	s.carrier.Close()
}

// Tick looks at deadlines and lets the handler do the same. The engine calls it on the loop every TickInterval.
func (l *Loop) Tick() {
	l.full = false
	l.Begin()
	defer l.End()
	if l.now-l.swept >= 1000 || l.swept == 0 || l.lingers {
		l.swept = l.now
		l.sweep()
	}
	if h, ok := l.opt.Handler.(LoopHandler); ok {
		func() {
			defer l.rescue(nil)
			h.Tick(l, l.nowTime)
		}()
	}
}

// sweep closes what is over time and sends heartbeats. Once a second, and with every tick while something lingers; 100,000 sessions take
// less than a millisecond.
func (l *Loop) sweep() {
	l.lingers = false
	for i := len(l.sessions) - 1; i >= 0; i-- {
		s := l.sessions[i]
		switch {
		case s.flags&closing != 0:
			if s.flags&lingering == 0 && s.flushed() || l.now >= s.deadline {
				s.carrier.Close()
			} else {
				l.lingers = true
			}
		case l.stalled(s):
			l.closeSlow(s)
		case s.deadline != 0 && l.now >= s.deadline:
			s.Close(ErrLoginDeadline)
		case s.idleLimit != 0 && l.now-s.lastIn >= int64(s.idleLimit):
			s.Close(ErrIdle)
		case s.keepAlive != 0 && l.now-s.lastOut >= int64(s.keepAlive):
			s.SendFrame(heartbeat)
		}
	}
}

var heartbeat = pdu.AppendHeader(nil, pb.CmdHeartBeat, 0)
