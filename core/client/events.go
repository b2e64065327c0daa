package client

import (
	"time"

	"teamtalk/core/client/transfer"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Event is one of the types below. The Client reports it to its owner.
type Event interface{ event() }

// Connected reports that the Client has logged in.
type Connected struct {
	User  im.User
	Again bool   // after a reconnect
	Addr  string // of the message server
}

// Ready follows each Connected once, with the server's lists of the user's conversations.
// Messages missed since the last connection follow as Received.
type Ready struct {
	Unread []im.Unread        // nil also when the server did not answer
	Recent []im.RecentSession // the first time up to 100, newest first; later only changed ones
	Groups []Group            // all known groups, also left ones, in increasing order of id
	Again  bool
}

// Disconnected reports that the connection is lost. The Client reconnects, unless it is
// closed, kicked or refused.
type Disconnected struct{ Err error }

// Retrying reports that an attempt to reconnect failed.
type Retrying struct {
	Attempt int // from 1
	Err     error
	Delay   time.Duration // until the next attempt
}

// Kicked reports that the server ended the session: the account logged in on another
// device of the same class, the user's phone ended it, or the user was disabled or has
// another password. The Client does not reconnect.
type Kicked struct {
	Reason pb.KickReasonType
	Text   string // the server's reason in words; may be empty
}

// Refused reports that the server refused the login after a reconnect for good. The
// Client does not reconnect.
type Refused struct{ Err error }

// Received reports a message: each message exactly once, and those of one conversation in
// the order of their ids. Messages from the user's own id were sent by another device.
type Received struct {
	Peer    Peer // the conversation
	Message im.Message
	Missed  bool // fetched from the server's history, not pushed
}

// Skipped reports that more messages were missed than Options.CatchUp. The messages with
// ids below Below are in the history and are not reported as Received.
type Skipped struct {
	Peer  Peer
	Below uint32
}

// Acked reports that the server has stored a message of Send.
type Acked struct {
	ID    uint64 // as Send returned it
	Peer  Peer
	MsgID uint32
}

// Resent reports that a message was sent again because its ack did not arrive in time.
type Resent struct {
	ID      uint64
	Peer    Peer
	Attempt int // from 2
}

// SendFailed reports that a message of Send was given up: the server did not ack it in
// Options.Attempts attempts, or rejected it.
type SendFailed struct {
	ID   uint64
	Peer Peer
	Err  error
}

// Presence reports that a user's status changed.
type Presence struct {
	User   uint32
	Status pb.UserStatType
}

// ReadElsewhere reports that the user read a conversation, up to a message, on another
// device.
type ReadElsewhere struct {
	Peer  Peer
	MsgID uint32
}

// SessionRemoved reports that the user removed a conversation from the list on another
// device. It has no unread messages any more, and reappears with its next message.
type SessionRemoved struct{ Peer Peer }

// GroupChanged reports a change of a group: it was created, or members were added or
// removed. With By 0 the group is new to the Client, or differs after a reconnect. A user
// that is not in Group.Members has left.
type GroupChanged struct {
	Group          Group
	By             uint32   // user; 0: not known
	Added, Removed []uint32 // users
}

// SignChanged reports that a user changed the sign info.
type SignChanged struct {
	User uint32
	Text string
}

// AvatarChanged reports that a user changed the picture.
type AvatarChanged struct {
	User uint32
	URL  string
}

// PCLogin reports to a phone that its user's pc client logged in or out.
type PCLogin struct{ Online bool }

// Typing reports that a user has begun or stopped typing to this user. Clients are not
// required to report the end, or to repeat a report.
type Typing struct {
	User uint32
	On   bool
}

// Command reports a command of another client that the Client does not handle. From or To
// is this user.
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

// FileOffered reports that another user sends a file to this one. The owner answers with
// Files.Fetch or Files.Refuse.
type FileOffered struct {
	File  transfer.File
	Ready bool // false: the file is still being uploaded, and another event follows
}

func (FileOffered) event() {}

// maxQueue is the number of waiting events above which no further frames are read.
const maxQueue = 256
