package session

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"teamtalk/proto/pb"
)

// Link is this server's end of a connection to another server. Its handler uses every link
// alike: one that this server dialed, one that the other server dialed, and one to a server
// in the same process. Except Malformed, all methods: any goroutine.
type Link struct {
	// Data is the state that the role keeps for the link. The role decides where it is
	// touched.
	Data any

	id      uint64
	remote  string
	name    atomic.Pointer[string] // see SetName
	carrier MessageCarrier
	conn    *Conn // nil unless the other server dialed
}

// MessageCarrier moves the messages of a Link. All methods: any goroutine.
type MessageCarrier interface {
	// SendMessage sends m. The carrier owns m from then on.
	SendMessage(seq uint16, m pb.Message) error
	// Close ends the connection after the accepted messages have left.
	Close(err error)
}

// NewLink returns a link to the server called name that has no loop.
func NewLink(id uint64, name string, c MessageCarrier) *Link {
	return &Link{id: id, remote: name, carrier: c}
}

// ID returns a number that is unique within the process and never used again.
func (l *Link) ID() uint64 { return l.id }

// Remote names the other side for the log: its configured name, or its address when it dialed,
// behind the name that it has given itself.
func (l *Link) Remote() string {
	if name := l.name.Load(); name != nil {
		return *name + "@" + l.remote
	}
	return l.remote
}

// Log logs that the link opened or ended, or what its server said of itself, with the link's id and
// the other side. A link inside this process lives as long as the process, so its lines have the
// level debug.
func (l *Link) Log(log *slog.Logger, text string, args ...any) {
	level := slog.LevelDebug
	if l.TakesFrames() {
		level = slog.LevelInfo
	}
	log.Log(context.Background(), level, text,
		append([]any{"conn", l.id, "peer", l.Remote()}, args...)...)
}

// maxLinkName is the longest name of the other side that is kept, in bytes.
const maxLinkName = 128

// SetName sets the name that the other side has given itself. Of a long one the beginning is kept.
// An empty one changes nothing.
func (l *Link) SetName(name string) {
	if name != "" {
		name = strings.ToValidUTF8(name[:min(len(name), maxLinkName)], "")
		l.name.Store(&name)
	}
}

// UserID returns 0: a server is no user.
func (l *Link) UserID() uint32 { return 0 }

// LoggedIn returns true: a server may use every command.
func (l *Link) LoggedIn() bool { return true }

// Malformed does what Conn.Malformed does, on a link that the other server dialed. Package
// link counts the malformed frames of other links itself. Only the caller of the handler's
// Frame may call it.
func (l *Link) Malformed(ok bool) {
	if l.conn != nil {
		l.conn.Malformed(ok)
	}
}

// SetTimeouts makes the loop of a link that the other server dialed close it with ErrIdle
// when no whole frame arrives for idle, and send a heartbeat when nothing was sent for
// heartbeat. 0 means never. Other links have the timeouts of their options. Only the
// handler's Open may call it.
func (l *Link) SetTimeouts(idle, heartbeat time.Duration) {
	if l.conn != nil {
		l.conn.SetIdleLimit(idle)
		l.conn.SetKeepAlive(heartbeat)
	}
}

// Send sends m. Messages that one goroutine sends arrive in that order. From here on m
// belongs to the link. The error is of kind im.Busy when a queue is full, and of kind
// im.Closed or im.Unavailable when the link is down. Any other error means that m cannot be
// encoded.
func (l *Link) Send(seq uint16, m pb.Message) error { return l.carrier.SendMessage(seq, m) }

// TakesFrames reports whether SendFrames and SendParts may be called: the other server
// dialed, so its messages are encoded.
func (l *Link) TakesFrames() bool { return l.conn != nil }

// SendFrames sends encoded frames as Send sends their messages. The bytes must not change
// afterwards, and other links may share them.
func (l *Link) SendFrames(frames []byte) error { return l.conn.PushShared(frames) }

// SendParts sends the parts of one message as Send sends their messages. TakesFrames must
// have returned true.
func (l *Link) SendParts(seq uint16, parts []*pb.Encoded) error {
	return l.conn.PushParts(seq, parts)
}

// Close ends the link after the messages that were sent have left.
func (l *Link) Close(err error) { l.carrier.Close(err) }

// acceptedLink is a link that another server dialed, and its Conn.
type acceptedLink struct {
	Link
	own Conn
}

// AddLink creates the end of a link that another server dialed. The caller calls Open next.
// Loop only.
func (l *Loop) AddLink(remote netip.AddrPort, c Carrier) *Link {
	a := &acceptedLink{}
	l.add(&a.own, a, remote, c)
	a.id, a.remote, a.carrier, a.conn = a.own.id, remote.String(), connCarrier{&a.own}, &a.own
	return &a.Link
}

// connCarrier carries the messages of a link on a Conn.
type connCarrier struct{ c *Conn }

func (cc connCarrier) SendMessage(seq uint16, m pb.Message) error { return cc.c.Push(seq, m) }
func (cc connCarrier) Close(err error)                            { cc.c.PushClose(err) }
