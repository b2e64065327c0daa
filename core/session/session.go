// Package session holds what a server knows of a connection, independent of what carries its frames: the Session, the Loop that
// owns it, and the Registry of who is online.
//
// Ownership is the rule that makes this fast: a Session belongs to one Loop, a single thread of control, and all its state is touched on that loop
// only, so none of it needs a lock. Whoever is elsewhere uses the methods marked "from anywhere", which leave a note in the
// loop's mailbox. What is written to a session while its loop works is collected and leaves in one write.
//
// Links between servers are sessions too, so that a handler answers a client, a server behind TCP and a server in the same
// process in the same way. A link's session has no loop; its Push hands the message to the link.
package session

import (
	"bytes"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// Handler is a role as seen by what carries its frames: the engine for connections that come in, a link for those that go out. For one
// session the calls come one after another, Open first, Close last.
type Handler interface {
	// Open is told of a new session. An error refuses it: the connection is closed without a word, Close is not called.
	Open(s *Session) error
	// Frame gets one whole frame. body is valid until Frame returns.
	Frame(s *Session, h pdu.Header, body []byte)
	// Message gets what Frame would, decoded, from a peer in the same process. m belongs to the handler.
	Message(s *Session, seq uint16, m pb.Message)
	// Close is told that the session is gone, and why: nil when the other side closed.
	Close(s *Session, err error)
}

// LoopHandler is a Handler that keeps state per loop, or has to be called from time to time.
type LoopHandler interface {
	Handler
	// OpenLoop is called once for each loop, on it, before its first session. State goes to Loop.Data.
	OpenLoop(l *Loop)
	// Tick is called on each loop every TickInterval.
	Tick(l *Loop, now time.Time)
}

// SentHandler is a Handler that follows what becomes of certain frames.
type SentHandler interface {
	Handler
	// Sent is called on the session's loop when a frame posted with a tag is about to be written.
	Sent(s *Session, tag Tag, frame []byte)
}

// Tag names what a frame holds. The zero Tag is for frames nobody follows.
type Tag struct {
	Peer, ID uint32
	Flags    uint8
}

// Carrier moves the frames of one session: the engine's is a TCP connection on an event loop. All methods are called on the session's
// loop.
type Carrier interface {
	// Write sends p, one or more whole frames, and does not keep it. After an error the carrier is closed.
	Write(p []byte) error
	// Buffered is how many bytes were taken by Write that the kernel has not taken yet.
	Buffered() int
	// Close ends the connection at once. It leads to Loop.Remove.
	Close()
}

// MessageCarrier moves the messages of a link's session. Its methods may be called from anywhere.
type MessageCarrier interface {
	// SendMessage sends m, which belongs to the carrier from then on.
	SendMessage(seq uint16, m pb.Message) error
	// Close ends the link's connection.
	Close(err error)
}

// Why a session was closed by this side.
var (
	ErrSlow          = errors.New("session: peer reads too slowly")
	ErrOverflow      = errors.New("session: mailbox full")
	ErrIdle          = errors.New("session: nothing received in time")
	ErrLoginDeadline = errors.New("session: not logged in in time")
	ErrMalformed     = errors.New("session: malformed frames")
	ErrPanic         = errors.New("session: handler failed")
	ErrShutdown      = errors.New("session: server is shutting down")
	ErrClosed        = im.Errorf(im.Closed, "session closed")
)

// Session is one connection.
type Session struct {
	// User and Client say who logged in; zero before. They are set once, on the loop, before the session enters a Registry, and may be
	// read from anywhere by those who got the session from there.
	User   uint32
	Client pb.ClientType
	// Data is the role's own. Loop only, for links as the role decides.
	Data any

	id      uint64
	loop    *Loop
	carrier Carrier
	link    MessageCarrier
	remote  netip.AddrPort
	name    string // of a link's peer

	out       []byte       // frames waiting for the end of the loop's turn; borrowed from the loop
	direct    *direct      // those among them that are not copied; borrowed too
	held      *backlog     // with a large frame under way
	waiting   atomic.Int64 // bytes of large frames that were sent and that the carrier did not get yet
	closeErr  error
	opened    int64 // by the loop's clock, as all times here
	lastIn    int64 // last whole frame received
	lastOut   int64
	deadline  int64 // 0: none
	idleLimit int32 // milliseconds; 0: none
	keepAlive int32 // milliseconds; 0: no heartbeats of our own
	slot      int32 // place in loop.sessions
	flags     flags
	malformed uint8 // in a row
}

type flags uint8

const (
	loggedIn  flags = 1 << iota
	dirty           // in loop.dirty
	closing         // close once flushed
	closed          // carrier is gone
	feeding         // in loop.feeding
	lingering       // closing, and waits for the peer to close
)

// NewLink makes the session of a link to the server called name.
func NewLink(id uint64, name string, c MessageCarrier) *Session {
	return &Session{id: id, name: name, link: c}
}

// ID is unique within the process and never used again.
func (s *Session) ID() uint64 { return s.id }

// Loop is the loop that owns the session, nil for links.
func (s *Session) Loop() *Loop { return s.loop }

// Remote names the other side: an address, or a link's name.
func (s *Session) Remote() string {
	if s.link != nil {
		return s.name
	}
	return s.remote.String()
}

// RemoteAddr is the other side's address; not valid for links.
func (s *Session) RemoteAddr() netip.AddrPort { return s.remote }

// LoggedIn reports whether the session may do what needs a login. Loop only; links always may.
func (s *Session) LoggedIn() bool { return s.link != nil || s.flags&loggedIn != 0 }

// SetLoggedIn records who logged in, and lifts the deadline. Loop only.
func (s *Session) SetLoggedIn(user uint32, client pb.ClientType) {
	s.User, s.Client = user, client
	s.flags |= loggedIn
	s.deadline = 0
}

// IsClosed reports whether the session is closed or about to be. Loop only.
func (s *Session) IsClosed() bool { return s.flags&(closing|closed) != 0 }

// SetDeadline closes the session with ErrLoginDeadline d after it was opened, unless SetLoggedIn came before; 0 means never. Loop only.
func (s *Session) SetDeadline(d time.Duration) {
	s.deadline = 0
	if d > 0 {
		s.deadline = s.opened + d.Milliseconds()
	}
}

// SetIdleLimit closes the session with ErrIdle when no whole frame came for d; 0 means never. Loop only.
func (s *Session) SetIdleLimit(d time.Duration) { s.idleLimit = int32(d.Milliseconds()) }

// SetKeepAlive sends a heartbeat whenever nothing was sent for d; 0 means never. Loop only.
func (s *Session) SetKeepAlive(d time.Duration) { s.keepAlive = int32(d.Milliseconds()) }

// Opened is when the session began. A later step of the wall clock does not change it.
func (s *Session) Opened() time.Time { return time.UnixMilli(s.opened) }

// Malformed counts a frame that did not decode, or with ok one that did. The third in a row closes the session. Loop only; links
// count for themselves.
func (s *Session) Malformed(ok bool) {
	if ok {
		s.malformed = 0
		return
	}
	if s.malformed++; s.malformed >= pdu.MaxMalformed && s.link == nil {
		s.Close(ErrMalformed)
	}
}

// Send sends m at the end of the loop's turn, or at once on a link. Loop only. An error means that m cannot be encoded, which is a
// fault of ours: it is counted, and returned for the log. To a session that is closed, nothing is sent and nothing said. A large pb.Encoded is not
// copied; it is refused, with an error of kind im.Busy, when too much of that size waits for the peer.
func (s *Session) Send(seq uint16, m pb.Message) error {
	if s.link != nil {
		return s.link.SendMessage(seq, m)
	}
	if e, ok := m.(*pb.Encoded); ok && len(e.Shared()) >= largeFrame {
		return s.sendEncoded(seq, e)
	}
	if s.IsClosed() {
		return nil
	}
	s.loop.markDirty(s)
	before := len(s.out)
	out, err := pdu.Append(s.out, seq, m)
	s.out = out
	if err != nil {
		s.loop.metrics.encodeErrors.Inc()
	}
	n := len(out) - before
	s.loop.turnBytes += n
	if n >= largeFrame {
		s.out = out[:before:before]
		s.holdLarge(out[before:])
	}
	return err
}

// SendFrame sends one or more encoded frames, which are not kept. Loop only; not for links.
func (s *Session) SendFrame(frame []byte) {
	if s.IsClosed() {
		return
	}
	s.loop.markDirty(s)
	s.loop.turnBytes += len(frame)
	if len(frame) >= largeFrame {
		s.holdLarge(bytes.Clone(frame))
		return
	}
	s.out = append(s.out, frame...)
}

// SendKept is SendFrame for frames that nobody changes any more: long ones are not copied. They may be shared with other sessions.
func (s *Session) SendKept(frame []byte) {
	switch {
	case len(frame) < directFrame:
		s.SendFrame(frame)
	case s.IsClosed():
	case len(frame) < largeFrame:
		s.sendDirect(frame)
	default:
		s.loop.markDirty(s)
		s.holdLarge(frame)
	}
}

// Push sends m, from anywhere. Messages pushed from one goroutine arrive in that order. The error is im.Busy when the mailbox is full (the
// session is closed then, so that its client comes back and asks for what it missed) or when too many large frames wait (it is not closed then), im.Closed
// when a link is down, or says that m does not encode.
func (s *Session) Push(seq uint16, m pb.Message) error {
	if s.link != nil {
		return s.link.SendMessage(seq, m)
	}
	if e, ok := m.(*pb.Encoded); ok && len(e.Shared()) >= largeFrame {
		return s.pushEncoded(seq, e)
	}
	room := usualBody
	if sized, ok := m.(interface{ BodySize() int }); ok {
		room = sized.BodySize()
	}
	frame, err := pdu.Append(make([]byte, 0, pdu.HeaderLen+room), seq, m)
	if err != nil {
		s.loop.metrics.encodeErrors.Inc()
		return err
	}
	return s.loop.PostFrame(s, frame)
}

// usualBody is what most bodies fit in, in bytes, of messages that do not say how long they will be. Longer ones take a second slice.
const usualBody = 112

// PushFrame sends encoded frames from anywhere. The slice must not change afterwards; it may be shared with other sessions. Not for links.
func (s *Session) PushFrame(frame []byte) error { return s.loop.PostFrame(s, frame) }

// Close ends the session once what was sent has left, at the latest after two seconds. Loop only; for links from anywhere. The
// first reason given stands.
func (s *Session) Close(err error) {
	if s.link != nil {
		s.link.Close(err)
		return
	}
	if s.flags&(closing|closed|lingering) == closing|lingering {
		s.loop.markDirty(s)
		s.flags &^= lingering // the peer is no longer waited for; the first reason stands
		return
	}
	if s.IsClosed() {
		return
	}
	s.loop.markDirty(s)
	s.flags |= closing
	s.closeErr = err
}

// Linger ends the session as Close does, but leaves it to the peer to close the connection.
// Frames sent before still leave; nothing is sent after them, and frames that arrive are
// dropped and counted. The connection is closed when the peer closes it, at the latest after
// two seconds, or by Close. IsClosed reports true from now on. Loop only; not for links.
func (s *Session) Linger(err error) {
	if s.IsClosed() {
		return
	}
	s.Close(err)
	s.flags |= lingering
}

// Lingers reports whether the session waits for its peer to close. Loop only.
func (s *Session) Lingers() bool { return s.flags&lingering != 0 }

// PushClose is Close from anywhere.
func (s *Session) PushClose(err error) {
	if s.link != nil {
		s.link.Close(err)
		return
	}
	s.loop.Post(func() { s.Close(err) })
}
