// Package im holds the messenger's domain: users, messages, conversations, the contract
// of a store, and the kinds of errors. It contains no sockets, no SQL and no
// configuration, and every other package may import it.
package im

import "teamtalk/proto/pb"

// User is a person's entry in the directory, without credentials.
type User struct {
	ID         uint32
	Name       string // login name, unique
	Domain     string // the name in pinyin, for search
	Nick       string // display name
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

// UserStatus is a user's standing in the company.
type UserStatus uint32

// The values of IMUser.status. A login needs StatusOK.
const (
	StatusOK       UserStatus = 0
	StatusTrial    UserStatus = 1
	StatusRegular  UserStatus = 2
	StatusDeparted UserStatus = 3 // left the company; not listed to clients
	StatusIntern   UserStatus = 4
)

// Account is a user with the credentials that a login is checked against.
type Account struct {
	User
	Password string // see StoredPassword.Hash
	Salt     string // see StoredPassword.Salt
}

// Credential says whether a login of a user would still succeed.
type Credential struct {
	User    uint32
	Updated uint32 // unix seconds
	Status  UserStatus
	Digest  string // of password and salt, see CredentialDigest
	// Moved: the password was moved from md5 to a form of package kdf, and did not change
	// then. A session from before has the Digest of md5.
	Moved bool
}

// PasswordCounts are the numbers of users by the form of their passwords.
type PasswordCounts struct {
	KDF  int // in a form of package kdf
	Weak int // in md5, or in a form that matches no password
}

// Message is one chat message that is stored or was read from a store.
type Message struct {
	ID       uint32 // increases by one within a conversation, from 1
	From     uint32 // user
	To       uint32 // user, or group when Type.IsGroup()
	Created  uint32 // unix seconds
	Type     pb.MsgType
	Data     []byte // as the client sent it; unused with Audio
	Audio    *Audio // of an audio message, instead of Data
	ClientID []byte // client_msg_id, nil without one; at most MaxClientID bytes

	// SentAs is how the client numbered the message (pb.SentAs); 0: unknown. Reads do not
	// return it. ResentWithin says that the client may have sent the message before, at
	// most so many seconds ago; 0: it did not.
	SentAs, ResentWithin uint32

	// WantWhereabouts asks for Whereabouts. Without effect in messages to groups, and in a
	// store for one process.
	WantWhereabouts bool

	// AppendMessages sets the following fields.

	Err error // the reason why the message was not stored
	// Duplicate: ClientID was seen within ClientIDTTL, or the message was sent before
	// within ResentWithin. ID is that of the first message, and nothing was stored.
	Duplicate bool
	// FirstCreated is when the first message was stored, of a Duplicate. It differs from
	// its Created by less than two seconds, and by the difference between two servers'
	// clocks.
	FirstCreated uint32
	// GroupVersion is the version of the group in which the sender of a stored group
	// message was a member.
	GroupVersion uint32
	// Whereabouts is where From and To had devices at a moment after the commit of a message
	// with WantWhereabouts, see whereabouts.OfMessage; nil: not known.
	Whereabouts []byte
}

// clockSkew is by how many seconds the clocks of message servers may differ.
const clockSkew = 5

// ResentSince returns the creation time from which on the message may have been sent
// before.
func (m *Message) ResentSince() uint32 {
	return m.Created - min(m.Created, m.ResentWithin+clockSkew)
}

// MaxClientID is the longest client_msg_id accepted, in bytes (a UUID in text is 36).
const MaxClientID = 64

// ClientIDTTL is the time for which a client_msg_id is remembered, in seconds: 24 hours.
const ClientIDTTL = 24 * 60 * 60

// MaxContent is the longest message body that a store accepts, in bytes. The column
// message.content holds 4,096 characters of utf8mb4. Clients send base64, where one
// character is one byte.
const MaxContent = 4096

// Unread is a conversation with unread messages, and its latest message.
type Unread struct {
	Peer   uint32 // user, or group
	Type   pb.SessionType
	Count  uint32
	Latest Message
}

// RecentSession is an entry in a user's list of conversations.
type RecentSession struct {
	Peer    uint32 // user, or group
	Type    pb.SessionType
	Removed bool
	Updated uint32 // when the last message was stored, by Store.Now, unix seconds
	Latest  Message
}

// ConversationKey returns the key of the conversation between users a and b, the same for
// both sides. Messages with the same key are kept in order. The key also selects the
// worker and the connection.
func ConversationKey(a, b uint32) uint64 {
	if a > b {
		a, b = b, a
	}
	return uint64(a)<<32 | uint64(b)
}
