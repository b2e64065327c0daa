package client

import (
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Event is something a Client's owner wants to know: one of the types below.
type Event interface{ event() }

// Connected says that the Client is logged in, for the first time or again.
type Connected struct {
	User  im.User
	Again bool   // not the first time
	Addr  string // of the message server
}

// Ready comes once after each Connected, with what the server says of the user's conversations. What was missed since the last
// connection follows as Received.
type Ready struct {
	Unread []im.Unread        // nil also when the server did not say
	Recent []im.RecentSession // first time: newest first, up to 100; later only those changed
	Groups []Group            // all that the Client knows, in increasing order of id, those left too
	Again  bool
}

// Disconnected says that the connection is lost. The Client connects again by itself, unless it is closed, kicked or refused.
type Disconnected struct{ Err error }

// Retrying says that an attempt to connect again failed.
type Retrying struct {
	Attempt int // from 1
	Err     error
	Delay   time.Duration // until the next one
}

// Kicked says that the server ended the session: somebody logged in with the same account on a device of the same class, or the user's phone said so.
// The Client does not connect again.
type Kicked struct{ Reason pb.KickReasonType }

// Refused says that a login after a reconnect was refused for good. The Client does not connect again.
type Refused struct{ Err error }

// Received is a message: each one exactly once, those of one conversation in the order of their ids. Messages from the user's own id were
// sent from another device.
type Received struct {
	Peer    Peer // the conversation
	Message im.Message
	Missed  bool // fetched from the server's history, not pushed
}

// Skipped says that more messages were missed than Options.CatchUp: those below the id are in the history, and will not be Received.
type Skipped struct {
	Peer  Peer
	Below uint32
}

// Acked says that the server has stored a message of Send.
type Acked struct {
	ID    uint64 // as Send returned it
	Peer  Peer
	MsgID uint32
}

// Resent says that no ack came in time and the message was sent again.
type Resent struct {
	ID      uint64
	Peer    Peer
	Attempt int // from 2
}

// SendFailed says that the Client has given up on a message: the server had it Options.Attempts times and never acked it.
type SendFailed struct {
	ID   uint64
	Peer Peer
	Err  error
}

// Presence says that a user came or went.
type Presence struct {
	User   uint32
	Status pb.UserStatType
}

// ReadElsewhere says that the user read a conversation, up to a message, on another device.
type ReadElsewhere struct {
	Peer  Peer
	MsgID uint32
}

// SessionRemoved says that the user took a conversation out of the list, on another device. Nothing of it is unread any more; it comes back with its
// next message.
type SessionRemoved struct{ Peer Peer }

// GroupChanged says what became of a group: made, members added or taken out, by the user or by others; or, with By 0, that it is new to the Client,
// or looks different after a reconnect. Who is not among Group.Members has left.
type GroupChanged struct {
	Group          Group
	By             uint32   // user; 0: nobody said
	Added, Removed []uint32 // users
}

// SignChanged says that a user has another sign info.
type SignChanged struct {
	User uint32
	Text string
}

// AvatarChanged says that a user has another picture.
type AvatarChanged struct {
	User uint32
	URL  string
}

// PCLogin says to a phone that its user's pc client came or went.
type PCLogin struct{ Online bool }

// Typing says that a user is writing to this one, or has stopped. A client that stops without a word, or writes on for long, may say nothing.
type Typing struct {
	User uint32
	On   bool
}

// Command is a command from one client to another that the Client does not know: From or To is the user.
type Command struct {
	From, To uint32
	Data     string
}

func (SessionRemoved) event() {}
func (GroupChanged) event()   {}
func (SignChanged) event()    {}
func (AvatarChanged) event()  {}
func (PCLogin) event()        {}
func (Typing) event()         {}
func (Command) event()        {}

func (Connected) event()     {}
func (Ready) event()         {}
func (Disconnected) event()  {}
func (Retrying) event()      {}
func (Kicked) event()        {}
func (Refused) event()       {}
func (Received) event()      {}
func (Skipped) event()       {}
func (Acked) event()         {}
func (Resent) event()        {}
func (SendFailed) event()    {}
func (Presence) event()      {}
func (ReadElsewhere) event() {}

// maxQueue is how many events wait before no more frames are read.
const maxQueue = 256

// emit queues an event; c.mu is held.
func (c *Client) emit(e Event) {
	if c.opts.OnEvent == nil {
		return
	}
	c.queue = append(c.queue, e)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// tell queues an event.
func (c *Client) tell(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.emit(e)
}

// deliver reports the events that wait. Only run calls it.
func (c *Client) deliver() {
	for {
		c.mu.Lock()
		batch := c.queue
		c.queue = nil
		c.space.Broadcast()
		c.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, e := range batch {
			c.opts.OnEvent(e)
		}
	}
}

// deliverUntil reports events as they come until one of the channels says stop.
func (c *Client) deliverUntil(stop <-chan struct{}, after <-chan time.Time) {
	for {
		c.deliver()
		select {
		case <-c.wake:
		case <-stop:
			return
		case <-after:
			return
		}
	}
}

// throttle holds up the goroutine that reads while too many events wait, and with it the server.
func (c *Client) throttle(conn *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > maxQueue && conn.Err() == nil {
		c.space.Wait()
	}
}
