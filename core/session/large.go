package session

import (
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// Frames of megabytes – the directory of a large company, a page of sounds – go to a peer piece by piece, as fast as it reads, while the loop serves
// others in between. Their bytes are not copied, and many sessions may be sent the same ones. What is sent behind such a frame waits in
// order with it.
//
// The bound on what a peer may leave unread (MaxBuffered) is for small frames: a large one is more than that by itself. Large ones have a bound of their
// own, MaxLarge, beyond which they are refused, and while one is under way the peer must take something every StallLimit.

// largeFrame is from which length on a frame goes piece by piece, in bytes.
const largeFrame = 64 << 10

const (
	feedPiece = 128 << 10            // given to a carrier at a time, in bytes, when less than that waits in it; less where MaxBuffered is small
	feedTurn  = 512 << 10            // given to all carriers in one turn; what a loop copies in about 0.2 ms
	feedPause = 5 * time.Millisecond // until carriers that had enough are looked at again
)

var errLarge = im.Errorf(im.Busy, "large frames are waiting for this peer")

// backlog is what waits for a session with a large frame under way.
type backlog struct {
	parts []part
	pos   int // bytes of parts[0] that the carrier has
	small int // bytes of parts that are no large frames
	fresh int // of these, added in this turn
	given int // bytes the carrier got
	taken int // of these the peer took, at moved
	moved int64
	over  bool // more than MaxLarge was sent on the loop
}

// part is one large frame, or a frame's head, or small frames in a row.
type part struct {
	b     []byte
	large bool
}

// reserve counts a large frame of n bytes before it is sent. From anywhere.
func (s *Session) reserve(n int) error {
	if w := s.waiting.Add(int64(n)); w > int64(n) && w > int64(s.loop.opt.MaxLarge) {
		s.waiting.Add(int64(-n))
		s.loop.metrics.largeRefused.Inc()
		return errLarge
	}
	s.loop.metrics.large.Inc()
	return nil
}

// sendEncoded sends e without copying what it shares. Loop only.
func (s *Session) sendEncoded(seq uint16, e *pb.Encoded) error {
	if s.IsClosed() {
		return nil
	}
	if err := s.reserve(len(e.Shared())); err != nil {
		return err
	}
	s.loop.markDirty(s)
	out, err := pdu.AppendHead(s.out, seq, e)
	s.out = out
	if err != nil {
		s.waiting.Add(int64(-len(e.Shared())))
		s.loop.metrics.encodeErrors.Inc()
		return err
	}
	s.hold(e.Shared())
	return nil
}

// SendParts sends messages behind each other. Their bytes are counted as those of one large frame
// and, like these, not copied: what is let through as one frame is let through in parts. The error
// is that of Send. Loop only.
func (s *Session) SendParts(seq uint16, parts []*pb.Encoded) error {
	if s.link != nil {
		for _, p := range parts {
			if err := s.link.SendMessage(seq, p); err != nil {
				return err
			}
		}
		return nil
	}
	if s.IsClosed() {
		return nil
	}
	left := 0
	for _, p := range parts {
		left += len(p.Shared())
	}
	if err := s.reserve(left); err != nil {
		return err
	}
	s.loop.markDirty(s)
	for _, p := range parts {
		out, err := pdu.AppendHead(s.out, seq, p)
		s.out = out
		if err != nil {
			s.waiting.Add(int64(-left))
			s.loop.metrics.encodeErrors.Inc()
			return err
		}
		s.hold(p.Shared())
		left -= len(p.Shared())
	}
	return nil
}

// pushEncoded is sendEncoded from anywhere.
func (s *Session) pushEncoded(seq uint16, e *pb.Encoded) error {
	head, err := pdu.AppendHead(nil, seq, e)
	if err != nil {
		s.loop.metrics.encodeErrors.Inc()
		return err
	}
	if err := s.reserve(len(e.Shared())); err != nil {
		return err
	}
	// The shared bytes are not the mailbox's to count: they are kept once, however many get them.
	if err := s.loop.post(item{s: s, frame: head, shared: e}, len(head)); err != nil {
		s.waiting.Add(int64(-len(e.Shared())))
		return err
	}
	return nil
}

// holdReserved sends b, one large frame or what is left of one, which is kept and was reserved. Loop only.
func (s *Session) holdReserved(head, b []byte) {
	if s.IsClosed() {
		s.waiting.Add(int64(-len(b)))
		return
	}
	s.loop.markDirty(s)
	s.out = append(s.out, head...)
	s.hold(b)
}

// holdLarge is holdReserved for what is sent on the loop, where nobody can be told to wait.
func (s *Session) holdLarge(b []byte) {
	err := s.reserve(len(b))
	s.hold(b)
	if err != nil {
		s.waiting.Add(int64(len(b))) // until the flush, which closes the session
		s.held.over = true
	}
}

// hold puts b, which is large and reserved, behind everything sent so far.
func (s *Session) hold(b []byte) {
	if s.held == nil {
		s.held = &backlog{moved: s.loop.now}
	}
	s.holdSmall()
	s.held.parts = append(s.held.parts, part{b: b, large: true})
}

// holdSmall moves the small frames sent so far to the backlog.
func (s *Session) holdSmall() {
	h := s.held
	h.small += s.unsent()
	h.fresh += s.unsent()
	for _, p := range s.appendPieces(nil) {
		h.parts = append(h.parts, part{b: p})
	}
	s.out = nil // the backlog's now
	s.dropDirect()
}

// flushed reports whether the kernel has everything that was sent.
func (s *Session) flushed() bool { return s.held == nil && s.carrier.Buffered() == 0 }

// slowHeld applies the bounds to the backlog, at the end of a turn.
func (l *Loop) slowHeld(s *Session) bool {
	h := s.held
	buffered := s.carrier.Buffered()
	before := buffered + h.small - h.fresh
	h.fresh = 0
	return h.over || before > 0 && buffered+h.small > l.opt.MaxBuffered
}

// feed gives every session with a backlog its next piece, round after round, until the share of this turn is used or nobody takes more. It reports
// whether somebody would take more at once.
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
			s := l.feeding[l.fed]
			n := l.feedOne(s)
			left -= n
			progress = progress || n > 0
			if s.held != nil {
				l.fed++ // the next turn goes on behind it
				continue
			}
			s.flags &^= feeding
			last := len(l.feeding) - 1
			l.feeding[l.fed] = l.feeding[last]
			l.feeding[last] = nil
			l.feeding = l.feeding[:last]
		}
	}
	return progress && len(l.feeding) > 0
}

// feedOne gives s one piece, unless it has enough, and returns its length.
func (l *Loop) feedOne(s *Session) int {
	h := s.held
	if h == nil || s.flags&closed != 0 || s.carrier.Buffered() >= l.piece {
		return 0
	}
	p := h.next(l)
	s.waiting.Add(int64(-h.advance(len(p)))) // before the write, whose failure ends the session
	if len(h.parts) == 0 {
		s.held = nil
	}
	l.write(s, p)
	if s.flags&(closing|closed) == closing && s.flushed() {
		s.carrier.Close()
	}
	return len(p)
}

// next returns the next bytes for the carrier, in a slice that is valid until the next call.
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

// advance takes n bytes out and returns how many of them were large frames'.
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

// stalled reports whether the peer of s took nothing of a large frame for too long. Called from time to time.
func (l *Loop) stalled(s *Session) bool {
	h := s.held
	if h == nil {
		return false
	}
	if taken := h.given - s.carrier.Buffered(); taken != h.taken {
		h.taken, h.moved = taken, l.now
		return false
	}
	return l.now-h.moved >= l.opt.StallLimit.Milliseconds()
}

// nudge looks again soon at carriers that had enough: nobody tells when a peer has read.
func (l *Loop) nudge() {
	if l.nudging || len(l.feeding) == 0 || l.feedDue {
		return
	}
	l.nudging = true
	l.opt.After(feedPause, func() {
		l.Post(func() { l.nudging, l.feedDue = false, true })
	})
}
