// Package session holds the state that a server keeps for its connections, independent of
// the carrier of their frames: Session is one connection, Loop owns sessions, and
// Registry holds the sessions of the users that are online.
//
// A Session belongs to one Loop, a single thread of control. Its state is touched on that
// loop only, so none of it needs a lock. Methods marked "Any goroutine" may be called
// elsewhere: they post an item to the mailbox of the loop. Frames that are sent to a
// session during a turn of the loop are collected and leave in one write.
//
// Links between servers are sessions too, so that a handler answers a client, a server
// behind TCP and a server in the same process in the same way. A link's session has no
// loop; its Push passes the message to the link.
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

// Handler is a role as the engine calls it for incoming connections, and as a link calls
// it for outgoing ones. The calls for one session are sequential: Open is the first and
// Close is the last.
type Handler interface {
	// Open accepts a new session. An error rejects it: the connection is closed, nothing
	// is sent, and Close is not called.
	Open(s *Session) error
	// Frame handles one whole frame. body is valid until Frame returns.
	Frame(s *Session, h pdu.Header, body []byte)
	// Message handles a decoded message from a peer in the same process, as Frame handles
	// its frame. The handler owns m.
	Message(s *Session, seq uint16, m pb.Message)
	// Close ends the handler's work for a session that is gone. err is the reason; nil
	// means that the other side closed the connection.
	Close(s *Session, err error)
}

// LoopHandler is a Handler with state per loop or with periodic work.
type LoopHandler interface {
	Handler
	// OpenLoop is called once for each loop, on it, before its first session. State
	// belongs in Loop.Data.
	OpenLoop(l *Loop)
	// Tick is called on each loop every TickInterval.
	Tick(l *Loop, now time.Time)
}

// SentHandler is a Handler that follows the delivery of tagged frames.
type SentHandler interface {
	Handler
	// Sent is called on the session's loop when a frame that was posted with a tag is
	// about to be written.
	Sent(s *Session, tag Tag, frame []byte)
}

// Tag names the content of a frame. Frames with the zero Tag are not followed.
type Tag struct {
	Peer, ID uint32
	Flags    uint8
}

// Carrier moves the frames of one session. That of the engine is a TCP connection on an
// event loop. All methods are called on the session's loop.
type Carrier interface {
	// Write sends p, which holds one or more whole frames, and does not keep the slice.
	// After an error the carrier has closed itself.
	Write(p []byte) error
	// Buffered returns the number of bytes that Write accepted and that the kernel has
	// not accepted yet.
	Buffered() int
	// Close ends the connection at once. It leads to Loop.Remove.
	Close()
}

// MessageCarrier moves the messages of a link's session. All methods: any goroutine.
type MessageCarrier interface {
	// SendMessage sends m. The carrier owns m from then on.
	SendMessage(seq uint16, m pb.Message) error
	// Close ends the link's connection.
	Close(err error)
}

// The reasons for which this side closes a session.
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

// Session holds the state of one connection.
type Session struct {
	// User and Client identify the logged-in user and its client; both are zero before
	// the login. The loop sets them once, before the session enters a Registry. A caller
	// that got the session from a Registry may read them on any goroutine.
	User   uint32
	Client pb.ClientType
	// Data is the state that the role keeps for the session. Loop only; for links the
	// role decides.
	Data any

	id      uint64
	loop    *Loop
	carrier Carrier
	link    MessageCarrier
	remote  netip.AddrPort
	name    string // name of a link's peer

	out       []byte       // frames for the end of the turn; borrowed from the loop
	direct    *direct      // waiting frames that are not copied; borrowed too
	held      *backlog     // nil unless a large frame waits
	waiting   atomic.Int64 // bytes of large frames that the carrier has not got yet
	closeErr  error
	opened    int64 // milliseconds of the loop's clock, as all times here
	lastIn    int64 // when the last whole frame arrived
	lastOut   int64
	deadline  int64 // 0: none
	idleLimit int32 // milliseconds; 0: none
	keepAlive int32 // milliseconds; 0: no heartbeats of our own
	slot      int32 // place in loop.sessions
	flags     flags
	malformed uint8 // malformed frames in a row
}

type flags uint8

const (
	loggedIn  flags = 1 << iota
	dirty           // in loop.dirty
	closing         // to be closed once flushed
	closed          // the carrier is gone
	feeding         // in loop.feeding
	lingering       // closing, and waits until the peer closes
)

// NewLink returns the session of a link to the server called name.
func NewLink(id uint64, name string, c MessageCarrier) *Session {
	return &Session{id: id, name: name, link: c}
}

// ID returns a number that is unique within the process and never used again.
func (s *Session) ID() uint64 { return s.id }

// Loop returns the loop that owns the session; nil for links.
func (s *Session) Loop() *Loop { return s.loop }

// Remote names the other side: the address of a client, or the name of a link's server.
func (s *Session) Remote() string {
	if s.link != nil {
		return s.name
	}
	return s.remote.String()
}

// RemoteAddr returns the address of the other side; it is not valid for links.
func (s *Session) RemoteAddr() netip.AddrPort { return s.remote }

// LoggedIn reports whether the session may use commands that need a login. Links always
// may. Loop only.
func (s *Session) LoggedIn() bool { return s.link != nil || s.flags&loggedIn != 0 }

// SetLoggedIn records the user and the client of a login and removes the deadline. Loop
// only.
func (s *Session) SetLoggedIn(user uint32, client pb.ClientType) {
	s.User, s.Client = user, client
	s.flags |= loggedIn
	s.deadline = 0
}

// IsClosed reports whether the session is closed or about to be closed. Loop only.
func (s *Session) IsClosed() bool { return s.flags&(closing|closed) != 0 }

// SetDeadline makes the loop close the session with ErrLoginDeadline when d has passed
// since it was opened, unless SetLoggedIn is called before. 0 means never. Loop only.
func (s *Session) SetDeadline(d time.Duration) {
	s.deadline = 0
	if d > 0 {
		s.deadline = s.opened + d.Milliseconds()
	}
}

// SetIdleLimit makes the loop close the session with ErrIdle when no whole frame arrives
// for d. 0 means never. Loop only.
func (s *Session) SetIdleLimit(d time.Duration) { s.idleLimit = int32(d.Milliseconds()) }

// SetKeepAlive makes the loop send a heartbeat when nothing was sent for d. 0 means
// never. Loop only.
func (s *Session) SetKeepAlive(d time.Duration) { s.keepAlive = int32(d.Milliseconds()) }

// Opened returns the time at which the session began. A later step of the wall clock does
// not change it.
func (s *Session) Opened() time.Time { return time.UnixMilli(s.opened) }

// Malformed counts a frame that did not decode. A call with ok, for a frame that did,
// resets the count. The third malformed frame in a row closes the session. A link closes
// by its own count. Loop only.
func (s *Session) Malformed(ok bool) {
	if ok {
		s.malformed = 0
		return
	}
	if s.malformed++; s.malformed >= pdu.MaxMalformed && s.link == nil {
		s.Close(ErrMalformed)
	}
}

// Send sends m at the end of the loop's turn, or at once on a link. Nothing is sent to a
// closed session, and the result is nil.
//
// An error means that m cannot be encoded, which is a fault of this program: Send counts
// it and returns it for the log. A large pb.Encoded is not copied. It is rejected with an
// error of kind im.Busy when too many bytes of large frames wait for the peer. Loop only.
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

// SendFrame sends one or more encoded frames and does not keep the slice. Loop only; not
// for links.
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

// SendKept sends frames whose bytes no longer change. Long ones are not copied, and other
// sessions may share them. Loop only; not for links.
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

// Push posts m to the session's loop, which sends it. Messages that one goroutine pushes
// arrive in that order.
//
// The error is of kind im.Busy when the mailbox is full or too many bytes of large frames
// wait. A full mailbox closes the session, so that its client reconnects and fetches the
// messages that it missed; waiting large frames do not close it. The error is of kind
// im.Closed when a link is down. Any other error means that m cannot be encoded. Any
// goroutine.
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

// usualBody is the capacity, in bytes, for the body of a message that does not report its
// size. Most bodies fit; a longer one costs a second slice.
const usualBody = 112

// PushFrame posts encoded frames to the session's loop. The slice must not change
// afterwards; other sessions may share it. Any goroutine; not for links.
func (s *Session) PushFrame(frame []byte) error { return s.loop.PostFrame(s, frame) }

// Close ends the session when everything that was sent has left, at the latest after two
// seconds. The reason of the first call stands. Loop only; for links any goroutine.
func (s *Session) Close(err error) {
	if s.link != nil {
		s.link.Close(err)
		return
	}
	if s.flags&(closing|closed|lingering) == closing|lingering {
		s.loop.markDirty(s)
		s.flags &^= lingering // stop waiting for the peer; the first reason stands
		return
	}
	if s.IsClosed() {
		return
	}
	s.loop.markDirty(s)
	s.flags |= closing
	s.closeErr = err
}

// Linger ends the session as Close does, but lets the peer close the connection. Frames
// that were sent before still leave. Nothing is sent after them, and arriving frames are
// dropped and counted. The connection is closed when the peer closes it, by Close, or at
// the latest after two seconds. IsClosed reports true from now on. Loop only; not for
// links.
func (s *Session) Linger(err error) {
	if s.IsClosed() {
		return
	}
	s.Close(err)
	s.flags |= lingering
}

// Lingers reports whether the session waits until its peer closes the connection. Loop
// only.
func (s *Session) Lingers() bool { return s.flags&lingering != 0 }

// PushClose does what Close does. Any goroutine.
func (s *Session) PushClose(err error) {
	if s.link != nil {
		s.link.Close(err)
		return
	}
	s.loop.Post(func() { s.Close(err) })
}
