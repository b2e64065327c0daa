// Package session holds the state that a server keeps for its connections, independent of
// the carrier of their frames. A Loop owns connections, and each is a Conn. There are two
// kinds of sessions, and neither knows the other:
//
//   - A Client is the session of a client: a Conn with its user and client type. A
//     Registry holds the clients of the users that are online.
//   - A Link is this server's end of a connection to another server. When the other server
//     dialed, it has a Conn of a loop. When this server dialed, or when both run in one
//     process, package link carries it, and it has no loop.
//
// A Conn belongs to one Loop, a single thread of control. Its state is touched on that
// loop only, so none of it needs a lock. Methods marked "Any goroutine" may be called
// elsewhere: they post an item to the mailbox of the loop. Frames that are sent during a
// turn of the loop are collected and leave in one write.
//
// # Ways to send
//
// On the loop of a client, what is sent leaves at the end of the turn, in order:
//
//   - Send: a message. SendParts: long encoded messages that count as one.
//   - SendFrame: encoded frames, copied. SendShared: encoded frames whose bytes no longer
//     change, which many sessions may share.
//
// On any goroutine, through the mailbox of the client's loop:
//
//   - Push: a message. PushShared: encoded frames that do not change.
//   - Loop.FanOut: one frame to many clients of a loop, which the handler may follow.
//
// A Link has Send alone, on any goroutine. SendFrames saves the second encoding of a message
// that goes to several servers.
package session

import (
	"errors"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// ClientHandler is a role as the engine calls it for the connections of clients. The calls
// for one client are sequential and on its loop: Open is the first and Close is the last.
type ClientHandler interface {
	// Open accepts a new client. An error rejects it: the connection is closed, nothing
	// is sent, and Close is not called.
	Open(c *Client) error
	// Frame handles one whole frame. body is valid until Frame returns.
	Frame(c *Client, h pdu.Header, body []byte)
	// Close ends the handler's work for a client that is gone. err is the reason; nil
	// means that the other side closed the connection.
	Close(c *Client, err error)
}

// LinkHandler is a role as the engine calls it for the servers that dialed it, and as
// package link calls it for the other links. The calls for one link are sequential: Open
// is the first and Close is the last.
type LinkHandler interface {
	// Open accepts a new link. An error rejects it: the connection is closed, nothing is
	// sent, and Close is not called.
	Open(l *Link) error
	// Frame handles one whole frame. body is valid until Frame returns.
	Frame(l *Link, h pdu.Header, body []byte)
	// Message handles a decoded message, as Frame handles its frame. The handler owns m.
	Message(l *Link, seq uint16, m pb.Message)
	// Close ends the handler's work for a link that is gone. err is the reason; nil means
	// that the other side closed the connection.
	Close(l *Link, err error)
}

// LoopHandler is a ClientHandler with state per loop or with periodic work.
type LoopHandler interface {
	ClientHandler
	// OpenLoop is called once for each loop, on it, before its first session. State
	// belongs in Loop.Data.
	OpenLoop(l *Loop)
	// Tick is called on each loop when it is due, and may be called earlier.
	Tick(l *Loop, now time.Time)
	// Due returns from when on, in Millis of l, Tick has something to do: a time that is
	// over means within TickInterval, and Never that nothing waits. It is called at the end
	// of turns, so it must take no lock. See Loop.Reconsider.
	Due(l *Loop) int64
}

// SentHandler is a ClientHandler that follows the delivery of tagged frames.
type SentHandler interface {
	ClientHandler
	// Sent is called on the client's loop when a frame that was posted with a tag is
	// about to be written.
	Sent(c *Client, tag Tag, frame []byte)
}

// Tag names the content of a frame. Frames with the zero Tag are not followed.
type Tag struct {
	Peer, ID uint32
	Flags    uint8
}

// Carrier moves the frames of one Conn. That of the engine is a TCP connection on an event
// loop. All methods are called on the loop of the Conn.
type Carrier interface {
	// Write sends p, which holds one or more whole frames, and does not keep the slice.
	// After an error the carrier has closed itself.
	Write(p []byte) error
	// Buffered returns the number of bytes that Write accepted and that the kernel has
	// not accepted yet.
	Buffered() int
	// Close ends the connection at once. It leads to Loop.Ended.
	Close()
}

// Admitter is a Carrier that bounds connections more tightly before the login of their
// client.
type Admitter interface {
	Carrier
	// Admitted is called when the client has logged in.
	Admitted()
}

// Gatherer is a Carrier that lets heartbeats wait.
type Gatherer interface {
	Carrier
	// Gather passes a heartbeat that waits to the handler. It is called before a session is
	// closed with ErrIdle.
	Gather()
}

// Farewell is a Carrier that tells its peer why the session ends.
type Farewell interface {
	Carrier
	// Farewell is called when everything that was sent has left. It returns true when the peer
	// was told, and will close the connection: the session then lingers. It returns false when
	// the peer cannot be told, or was told before.
	Farewell(err error) bool
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
	ErrDisplaced     = errors.New("session: closed before its login to make room")
	ErrPlain         = errors.New("session: a connection without TLS, which this port needs")
	ErrClosed        = im.Errorf(im.Closed, "session closed")
)
