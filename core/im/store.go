package im

import "context"

// Store keeps everything that outlives a process. There are two: MySQL with Redis, and an embedded one; the suite in sql/storetest is
// their common contract, in code. All methods may be called from many goroutines; each holds at most one database
// connection, for less than ctx allows. Errors carry a Kind: Unavailable when a database cannot be reached, NotFound, Exists, Invalid as said
// below, else Internal.
type Store interface {
	UserStore
	MessageStore

	// Ping reports whether every database the store needs answers.
	Ping(ctx context.Context) error
	// Close waits for what is running and frees everything. The store is not used after it.
	Close() error
}

// UserStore keeps the directory.
type UserStore interface {
	// AccountByName returns the user with that login name, departed ones too: NotFound when there is none. The name is compared
	// as the database does: without regard to case.
	AccountByName(ctx context.Context, name string) (Account, error)
	// Users returns the users with the given ids, in no particular order, leaving out those that do not exist.
	Users(ctx context.Context, ids []uint32) ([]User, error)
	// UsersChangedSince returns the users whose Updated is at or after since, and the newest Updated among them (since when there
	// are none). With since 0, the first sync, those departed are left out; later they are in, so that clients remove them.
	// At or after: many rows share one second, and a client asks with the time it was given.
	UsersChangedSince(ctx context.Context, since uint32) ([]User, uint32, error)
	// CreateUsers adds the accounts, all or none, and returns their ids in the same order; Updated is the store's time. Exists when a name is
	// taken (the error names it), Invalid when a name is missing, or a field is too long (limits count characters) or not UTF-8.
	CreateUsers(ctx context.Context, accounts []Account) ([]uint32, error)
	// ListUsers returns up to limit users with ids above after, in order of id.
	ListUsers(ctx context.Context, after uint32, limit int) ([]User, error)
	// SetPassword replaces password and salt of a user: NotFound when there is none.
	SetPassword(ctx context.Context, id uint32, password, salt string) error
	// SetUserStatus changes a user's standing, and sets Updated to the store's time: NotFound when there is none.
	SetUserStatus(ctx context.Context, id uint32, status UserStatus) error
}

// MessageStore keeps messages and who has read what.
type MessageStore interface {
	// AppendMessages stores a batch. For each message it sets ID, or Err, or ID and Duplicate, whatever they were before; ID is 0 with Err. When it
	// returns, every message without Err is committed, counted as unread to its recipient, and visible in both sides' recent
	// sessions. Messages of one conversation get their ids in the order of the batch. One message that cannot be stored fails alone: its
	// Err is set, the others are stored.
	//
	// Err is of kind Invalid for a body that is longer than MaxContent or not UTF-8 (clients send base64; NUL, blanks and emoji come back byte for
	// byte), for a message to oneself, for a ClientID longer than MaxClientID, and for a recipient who does not exist or has departed
	// (that may come from a bounded cache, at most a minute old).
	//
	// A ClientID belongs to one sender and recipient; an empty one is none. That of a message that was not stored is not remembered.
	//
	// Callers never run two batches with messages of one conversation at once within a process; several processes
	// on one database may.
	AppendMessages(ctx context.Context, batch []*Message)

	// History returns up to count messages between user and peer with ids at most begin (0: from the newest), newest first.
	History(ctx context.Context, user, peer, begin uint32, count int) ([]Message, error)
	// MessagesByID returns the messages between user and peer with the given ids, in increasing order of id, without those that do not exist.
	MessagesByID(ctx context.Context, user, peer uint32, ids []uint32) ([]Message, error)
	// LatestID returns the id of the newest message between user and peer, 0 when there is none.
	LatestID(ctx context.Context, user, peer uint32) (uint32, error)
	// UnreadCounts returns, for every peer with unread messages to user, their count and the latest message of the conversation.
	UnreadCounts(ctx context.Context, user uint32) ([]Unread, error)
	// ClearUnread sets user's unread count for peer to zero.
	ClearUnread(ctx context.Context, user, peer uint32) error
	// RecentSessions returns up to limit of user's conversations updated at or after since, newest first, each with its
	// last message. Removed ones are left out.
	RecentSessions(ctx context.Context, user, since uint32, limit int) ([]RecentSession, error)
}
