// Package im holds the messenger's domain: users, messages, conversations, the contract of a store, and the kinds of errors. It
// knows no sockets, no SQL and no configuration; everything else may import it.
package im

import "teamtalk/proto/pb"

// User is a person's entry in the directory, without credentials.
type User struct {
	ID         uint32
	Name       string // login name, unique
	Domain     string // the name in pinyin, for searching
	Nick       string // shown name
	Gender     uint32 // 1 male, 2 female, 0 unknown
	Phone      string
	Email      string
	Avatar     string // URL
	DepartID   uint32
	Status     UserStatus
	SignInfo   string
	PushShield bool   // no pushes from 22:00 to 07:00
	Updated    uint32 // unix seconds
}

// UserStatus is a person's standing in the company.
type UserStatus uint32

// The values of IMUser.status. Login needs StatusOK.
const (
	StatusOK       UserStatus = 0
	StatusTrial    UserStatus = 1
	StatusRegular  UserStatus = 2
	StatusDeparted UserStatus = 3 // left the company; not listed to clients
	StatusIntern   UserStatus = 4
)

// Account is a user with what a login is checked against.
type Account struct {
	User
	Password string // hex md5( hex md5(clear) + Salt ), see HashPassword
	Salt     string // up to 4 characters
}

// Message is one chat message on its way into or out of a store.
type Message struct {
	ID       uint32 // increases by one within a conversation, from 1
	From     uint32 // user
	To       uint32 // user, or group when Type.IsGroup()
	Created  uint32 // unix seconds
	Type     pb.MsgType
	Data     []byte // as the client sent it; not used with Audio
	Audio    *Audio // of an audio message, instead of Data
	ClientID []byte // client_msg_id, nil without; at most MaxClientID bytes

	// What AppendMessages says of it.
	Err       error // not stored; Kind says why
	Duplicate bool  // ClientID was seen within ClientIDTTL: ID is the first message's, nothing was stored
	// GroupVersion is the version of the group that a stored group message was checked against: its sender was a member then.
	GroupVersion uint32
}

// MaxClientID is the longest client_msg_id accepted, in bytes (a UUID in text is 36).
const MaxClientID = 64

// ClientIDTTL is how long a client_msg_id is remembered, in seconds: 24 hours.
const ClientIDTTL = 24 * 60 * 60

// MaxContent is the longest message body a store takes, in bytes. The column message.content holds 4,096 characters of utf8mb4; clients send
// base64, where one character is one byte.
const MaxContent = 4096

// Unread is one conversation with unread messages, and its latest message.
type Unread struct {
	Peer   uint32 // user, or group
	Type   pb.SessionType
	Count  uint32
	Latest Message
}

// RecentSession is one side's entry in its list of conversations.
type RecentSession struct {
	Peer    uint32 // user, or group
	Type    pb.SessionType
	Removed bool
	Updated uint32 // unix seconds of the last message
	Latest  Message
}

// ConversationKey is the same number for both sides of a conversation between users a and b: what messages are ordered by, and spread over
// workers and connections.
func ConversationKey(a, b uint32) uint64 {
	if a > b {
		a, b = b, a
	}
	return uint64(a)<<32 | uint64(b)
}
