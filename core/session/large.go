package session

import (
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// A frame of megabytes, such as the directory of a large company or a page of sounds, is
// sent to a peer in pieces, as fast as the peer reads, and the loop serves other sessions
// between the pieces. The bytes are not copied, and many sessions may share them. Frames
// that are sent after a large frame wait behind it, so that the order stays.
//
// MaxBuffered bounds the small frames that a peer leaves unread. A large frame alone
// exceeds that bound, so large frames have their own: above MaxLarge they are rejected,
// and while one is being sent, the peer must take some bytes within every StallLimit.

// largeFrame is the length, in bytes, from which a frame is sent in pieces.
const largeFrame = 64 << 10

const (
	// feedPiece is the length of a piece, in bytes. A carrier gets the next piece when it
	// buffers less than a piece. Pieces are shorter when MaxBuffered is small, see
	// NewLoop.
	feedPiece = 128 << 10
	// feedTurn limits the bytes that all carriers together get in one turn. A loop copies
	// that many in about 0.2 ms.
	feedTurn = 512 << 10
	// feedPause is the time until the loop looks again at carriers that buffered enough.
	feedPause = 5 * time.Millisecond
)

var errLarge = im.Errorf(im.Busy, "large frames are waiting for this peer")

// backlog holds the frames that wait for a session, from its first large frame on.
type backlog struct {
	parts []part
	pos   int   // bytes of parts[0] that the carrier has got
	small int   // bytes of small frames in parts
	fresh int   // bytes of small that were added in this turn
	given int   // bytes that the carrier has got
	taken int   // bytes of given that the carrier no longer buffers, as of moved
	moved int64 // when taken last changed, by the loop's clock
	over  bool  // the loop itself sent more than MaxLarge
}

// part is one large frame, or the head of a frame, or a run of small frames.
type part struct {
	b     []byte
	large bool
}

// reserve counts a large frame of n bytes before it is sent. It returns errLarge when
// other large bytes wait already and the sum exceeds MaxLarge. Any goroutine.
func (c *Conn) reserve(n int) error {
	if w := c.waiting.Add(int64(n)); w > int64(n) && w > int64(c.loop.opt.MaxLarge) {
		c.waiting.Add(int64(-n))
		c.loop.metrics.largeRefused.Inc()
		return errLarge
	}
	c.loop.metrics.large.Inc()
	return nil
}

// SendParts sends messages one behind the other. Their bytes count as those of one large
// frame and are not copied either: parts pass the bound exactly when one frame of their
// length would pass it. The errors are those of Send. Loop only.
func (c *Conn) SendParts(seq uint16, parts []*pb.Encoded) error {
	if c.IsClosed() {
		return nil
	}
	n := sharedBytes(parts)
	if err := c.reserve(n); err != nil {
		return err
	}
	return c.sendReserved(seq, parts, n)
}

// PushParts posts messages as SendParts sends them: nothing is sent between them. Any
// goroutine.
func (c *Conn) PushParts(seq uint16, parts []*pb.Encoded) error {
	n := sharedBytes(parts)
	if err := c.reserve(n); err != nil {
		return err
	}
	c.loop.Post(func() {
		if c.IsClosed() {
			c.waiting.Add(int64(-n))
			return
		}
		if err := c.sendReserved(seq, parts, n); err != nil {
			c.Close(err) // the peer waits for the rest of the parts
		}
	})
	return nil
}

func sharedBytes(parts []*pb.Encoded) (n int) {
	for _, p := range parts {
		n += len(p.Shared())
	}
	return n
}

// sendReserved sends messages whose shared bytes, left in all, are reserved. Loop only.
func (c *Conn) sendReserved(seq uint16, parts []*pb.Encoded, left int) error {
	c.loop.markDirty(c)
	for _, p := range parts {
		out, err := pdu.AppendHead(c.out, seq, p)
		c.out = out
		if err != nil {
			c.waiting.Add(int64(-left))
			c.loop.metrics.encodeErrors.Inc()
			return err
		}
		c.hold(p.Shared())
		left -= len(p.Shared())
	}
	return nil
}

// pushEncoded posts e, and the loop sends it without a copy of its shared bytes. Any
// goroutine.
func (c *Conn) pushEncoded(seq uint16, e *pb.Encoded) error {
	head, err := pdu.AppendHead(nil, seq, e)
	if err != nil {
		c.loop.metrics.encodeErrors.Inc()
		return err
	}
	n := len(head) + len(e.Shared())
	if err := pdu.TooLong(e.Command(), n, c.loop.opt.MaxSend); err != nil {
		return err
	}
	if err := c.reserve(len(e.Shared())); err != nil {
		return err
	}
	// The mailbox does not count the shared bytes: memory holds them once for all
	// receivers.
	if err := c.loop.post(item{c: c, frame: head, shared: e}, len(head)); err != nil {
		c.waiting.Add(int64(-len(e.Shared())))
		return err
	}
	return nil
}

// holdReserved sends head and then b, a large frame or the rest of one. The session keeps
// b without a copy. The caller has reserved the bytes of b. Loop only.
func (c *Conn) holdReserved(head, b []byte) {
	if c.IsClosed() {
		c.waiting.Add(int64(-len(b)))
		return
	}
	c.loop.markDirty(c)
	c.out = append(c.out, head...)
	c.hold(b)
}

// holdLarge sends b as holdReserved does, for callers on the loop, which cannot wait.
// When the bound is exceeded, the session is closed at the next flush.
func (c *Conn) holdLarge(b []byte) {
	err := c.reserve(len(b))
	c.hold(b)
	if err != nil {
		c.waiting.Add(int64(len(b))) // counted until the flush, which closes the session
		c.held.over = true
	}
}

// hold appends b, which is large and reserved, behind everything that was sent so far.
func (c *Conn) hold(b []byte) {
	if c.held == nil {
		c.held = &backlog{moved: c.loop.now}
		c.loop.sweepBy(c.loop.now + 1) // see stalled
	}
	c.holdSmall()
	c.held.parts = append(c.held.parts, part{b: b, large: true})
}

// holdSmall moves the small frames that were sent so far to the backlog.
func (c *Conn) holdSmall() {
	h := c.held
	h.small += c.unsent()
	h.fresh += c.unsent()
	for _, p := range c.appendPieces(nil) {
		h.parts = append(h.parts, part{b: p})
	}
	c.out = nil // the backlog owns the buffer now
	c.dropDirect()
}

// Unread returns the number of bytes that were sent and that the kernel has not accepted:
// the peer reads more slowly than it is sent to. Loop only.
func (c *Conn) Unread() int {
	n := c.unsent() + c.carrier.Buffered() + int(c.waiting.Load())
	if c.held != nil {
		n += c.held.small
	}
	return n
}

// Fits reports whether a frame of n bytes can be sent now. If it does not, sending it would
// close the session, or be rejected, because the peer has not read the frames before it. A
// frame of any length fits when the peer has read all others. Loop only.
func (c *Conn) Fits(n int) bool {
	large := int(c.waiting.Load())
	if n >= largeFrame {
		return large == 0 || large+n <= c.loop.opt.MaxLarge
	}
	small := c.Unread() - large
	return small == 0 || small+n <= c.loop.opt.MaxBuffered/2
}

// flushed reports whether the kernel has everything that was sent.
func (c *Conn) flushed() bool { return c.held == nil && c.carrier.Buffered() == 0 }

// slowHeld reports whether the backlog of c exceeds its bounds. The loop calls it at the
// end of a turn. Small frames of this turn alone do not exceed the bound, however many
// they are.
func (l *Loop) slowHeld(c *Conn) bool {
	h := c.held
	buffered := c.carrier.Buffered()
	before := buffered + h.small - h.fresh
	h.fresh = 0
	return h.over || before > 0 && buffered+h.small > l.opt.MaxBuffered
}

// feed writes the next piece of every session with a backlog, round after round, until
// the turn has written feedTurn bytes or no carrier takes more. It reports whether a
// carrier would take more at once.
func (l *Loop) feed() bool {
	left, progress := feedTurn, true
	for progress && left > 0 {
		progress = false
		for range len(l.feeding) {
			if left <= 0 || len(l.feeding) == 0 {
				break
			}
			if l.fed >= len(l.feeding) {
				l.fed = 0
			}
			c := l.feeding[l.fed]
			n := l.feedOne(c)
			left -= n
			progress = progress || n > 0
			if c.held != nil {
				l.fed++ // the next turn continues with the session behind it
				continue
			}
			c.flags &^= feeding
			last := len(l.feeding) - 1
			l.feeding[l.fed] = l.feeding[last]
			l.feeding[last] = nil
			l.feeding = l.feeding[:last]
		}
	}
	return progress && len(l.feeding) > 0
}

// feedOne writes one piece to c, unless its carrier buffers enough, and returns the
// length of the piece.
func (l *Loop) feedOne(c *Conn) int {
	h := c.held
	if h == nil || c.flags&closed != 0 || c.carrier.Buffered() >= l.piece {
		return 0
	}
	p := h.next(l)
	// The bytes are subtracted before the write, because a failed write ends the session.
	c.waiting.Add(int64(-h.advance(len(p))))
	if len(h.parts) == 0 {
		c.held = nil
	}
	l.write(c, p)
	if c.flags&(closing|closed) == closing && c.flushed() && !c.farewell() {
		c.carrier.Close()
	}
	return len(p)
}

// next returns the next bytes for the carrier. The slice is valid until the next call.
func (h *backlog) next(l *Loop) []byte {
	first := h.parts[0].b[h.pos:]
	if len(first) >= l.piece || len(h.parts) == 1 {
		return first[:min(len(first), l.piece)]
	}
	l.scratch = append(l.scratch[:0], first...)
	for _, p := range h.parts[1:] {
		if len(l.scratch) == l.piece {
			break
		}
		l.scratch = append(l.scratch, p.b[:min(len(p.b), l.piece-len(l.scratch))]...)
	}
	return l.scratch
}

// advance removes the first n bytes and returns how many of them belonged to large
// frames.
func (h *backlog) advance(n int) (large int) {
	h.given += n
	for n > 0 {
		p := &h.parts[0]
		k := min(n, len(p.b)-h.pos)
		if p.large {
			large += k
		} else {
			h.small -= k
		}
		h.pos += k
		n -= k
		if h.pos == len(p.b) {
			*p = part{}
			h.parts, h.pos = h.parts[1:], 0
		}
	}
	return large
}

// stalled reports whether the peer of c has taken nothing of its backlog for StallLimit.
// The sweep calls it.
func (l *Loop) stalled(c *Conn) bool {
	h := c.held
	if h == nil {
		return false
	}
	if taken := h.given - c.carrier.Buffered(); taken != h.taken {
		h.taken, h.moved = taken, l.now
		return false
	}
	return l.now-h.moved >= l.opt.StallLimit.Milliseconds()
}

// nudge schedules another look at carriers that buffered enough. A timer is needed
// because no event reports that a peer has read.
func (l *Loop) nudge() {
	if l.nudging || len(l.feeding) == 0 || l.feedDue {
		return
	}
	l.nudging = true
	l.opt.After(feedPause, func() {
		l.Post(func() { l.nudging, l.feedDue = false, true })
	})
}
