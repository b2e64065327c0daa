package im

import (
	"context"
	"time"

	"teamtalk/proto/pb"
)

// Store keeps all data that outlives a process. There are two implementations: one on
// MySQL with Redis, and an embedded one. The test suite in sql/storetest is their common
// contract in code. Each method holds at most one database connection, for less time than
// ctx allows. Errors carry a Kind: Unavailable when a database cannot be reached,
// NotFound, Exists and Invalid as described below, otherwise Internal. Any goroutine.
type Store interface {
	UserStore
	DepartStore
	MessageStore
	GroupStore
	PushStore
	FileStore
	LoginStore
	BudgetStore

	// Now returns the store's time, with which it stamps rows: as Updated of users,
	// departments, groups and conversations, and as LastChat. It is not the clock of one
	// process: all processes with the same databases have nearly the same time. It does
	// not go back when a clock is set back by up to two hours. A stamp that becomes
	// visible later is at most seconds before the time of an earlier call.
	Now() time.Time
	// Ping returns an error unless every database that the store needs answers and accepts
	// writes.
	Ping(ctx context.Context) error
	// Close waits for running calls and frees all resources. The store must not be used
	// after it.
	Close() error
}

// UserStore keeps the directory.
type UserStore interface {
	// AccountByName returns the user with a login name, also a departed one: NotFound
	// when there is none. Names are compared as the database does, without regard to
	// case. A store that other programs filled may hold several such users. Then one
	// spelled like name takes precedence, next one that may log in, next the highest id.
	AccountByName(ctx context.Context, name string) (Account, error)
	// AccountsByName does the same for many names at once. It returns one account for
	// each name, in their order; without a user the account has no id.
	AccountsByName(ctx context.Context, names []string) ([]Account, error)
	// Users returns the users with the given ids, in no particular order. Ids without a
	// user are left out.
	Users(ctx context.Context, ids []uint32) ([]User, error)
	// UsersChangedSince returns the users whose Updated is at or after since, and the
	// newest Updated among them (since when there are none). With since 0, the first
	// sync, departed users are left out. Later they are included, so that clients remove
	// them. Many rows share one second, so rows of the second since are returned again:
	// the caller decides which of them a client still needs.
	UsersChangedSince(ctx context.Context, since uint32) ([]User, uint32, error)
	// CreateUsers adds the accounts, all or none, and returns their ids in the same
	// order. Updated is the store's time. Exists when a name is taken; the error names
	// it. Invalid as CheckAccount says.
	CreateUsers(ctx context.Context, accounts []Account) ([]uint32, error)
	// ListUsers returns up to limit users with ids above after, in order of id.
	ListUsers(ctx context.Context, after uint32, limit int) ([]User, error)
	// CredentialsChangedSince returns up to limit credentials of users whose Updated is
	// at or after since, in order of Updated, then of id. Those of the second since with
	// an id up to after are left out, so that a page continues behind the last one. It
	// returns also the newest Updated of all users, read before the credentials; 0
	// without users.
	CredentialsChangedSince(ctx context.Context, since, after uint32,
		limit int) ([]Credential, uint32, error)
	// SetPassword replaces a user's password and salt, and sets Updated to the store's
	// time: NotFound when there is no such user, Invalid when one is too long.
	SetPassword(ctx context.Context, id uint32, password, salt string) error
	// ReplacePassword stores another form of a user's password, and reports whether it did:
	// it changes nothing when the user does not exist or the password is not old any more.
	// Updated does not change, because the password remains. Invalid as for SetPassword.
	ReplacePassword(ctx context.Context, id uint32, old, now StoredPassword) (bool, error)
	// CountPasswords counts all users by the form of their passwords.
	CountPasswords(ctx context.Context) (PasswordCounts, error)
	// SetUserStatus changes a user's standing, and sets Updated to the store's time:
	// NotFound when there is no such user.
	SetUserStatus(ctx context.Context, id uint32, status UserStatus) error
	// SetSignInfo, SetAvatar and SetUserDepart change one field of a user, and set
	// Updated to the store's time. NotFound when there is no such user. Invalid when the
	// text is longer than MaxSignInfo or MaxAvatar or not UTF-8, or the department does
	// not exist (0 is none).
	SetSignInfo(ctx context.Context, id uint32, text string) error
	SetAvatar(ctx context.Context, id uint32, url string) error
	SetUserDepart(ctx context.Context, id, depart uint32) error
	// EditUser changes fields of a user, all or none, and sets Updated to the store's time.
	// NotFound when there is no such user. Invalid as UserEdit.Check says, and when
	// the department does not exist. Exists when another user has the name.
	EditUser(ctx context.Context, id uint32, e UserEdit) error
	// SetPushShield turns a user's nightly rest from pushes on or off: NotFound when
	// there is no such user. Updated does not change, because other users do not see the
	// setting.
	SetPushShield(ctx context.Context, id uint32, on bool) error
}

// DepartStore keeps the departments.
type DepartStore interface {
	// DepartsChangedSince returns the departments whose Updated is at or after since, and
	// the newest Updated among them (since when there are none). With since 0 deleted
	// departments are left out.
	DepartsChangedSince(ctx context.Context, since uint32) ([]Depart, uint32, error)
	// CreateDepart adds a department and returns its id. It ignores d's ID and Updated.
	// Invalid when the name is empty, too long or not UTF-8, or the parent does not exist
	// or is deleted. Exists when the parent has a department with that name.
	CreateDepart(ctx context.Context, d Depart) (uint32, error)
	// UpdateDepart sets name, parent, priority and status of the department with d's ID,
	// and sets Updated to the store's time. NotFound when there is no such department.
	// Invalid and Exists as for CreateDepart. Invalid also when the department would
	// become its own ancestor, or when it is to be deleted while it contains departments
	// or users that have not departed.
	UpdateDepart(ctx context.Context, d Depart) error
}

// MessageStore keeps messages and the unread counts. Methods with the parameters user and
// peer are about messages between two users. GroupStore has those for groups.
type MessageStore interface {
	// AppendMessages stores a batch. For each message it sets ID, or Err, or ID and
	// Duplicate, and ignores their values from before. ID is 0 when Err is set. When it
	// returns, every message without Err is committed, counted as unread for its
	// recipient, and visible in both sides' recent sessions. Messages of one conversation
	// get their ids in the order of the batch. A message that cannot be stored fails
	// alone: its Err is set, and the others are stored. It is then not stored and never
	// will be, unless ErrInDoubt is in the chain of its Err.
	//
	// Err has kind Invalid for a body longer than MaxContent or not UTF-8 (clients send
	// base64; NUL, blanks and emoji are returned byte for byte), for a message to
	// oneself, for a ClientID longer than MaxClientID, and for a recipient that does not
	// exist or has departed. The last may come from a bounded cache, at most a minute
	// old.
	//
	// A message with a group type goes to the group To. Its Err has kind Denied when the
	// sender is not a member at that moment, Invalid when the group does not exist.
	// GroupVersion is the version against which the membership was checked. The message
	// counts as unread for every member but the sender. For the sender the group counts
	// as read up to this message; later messages, also of the same batch, do not.
	//
	// An audio message needs Audio: Invalid without it, or when its path is too long or
	// not UTF-8. Its Data is neither read nor stored, and is returned empty, together
	// with Audio.
	//
	// A ClientID belongs to one sender and one recipient; a user and a group with the
	// same number are different recipients. An empty ClientID means none. The ClientID of
	// a message that was not stored is not remembered.
	//
	// A message without a ClientID, with SentAs and ResentWithin, is a Duplicate of an
	// earlier one with the same sender, recipient, type, SentAs and Data, or the same size
	// and duration of Audio, created within ResentWithin seconds. Without ResentWithin it may
	// be one of a message that another process has stored as such a repeat of it.
	//
	// Within a process, callers must not run two batches with messages of one
	// conversation (Message.Key) at the same time. Several processes on one database may.
	AppendMessages(ctx context.Context, batch []*Message)

	// History returns up to count messages between user and peer with ids of at most
	// begin (0: from the newest), newest first.
	History(ctx context.Context, user, peer, begin uint32, count int) ([]Message, error)
	// MessagesByID returns the messages between user and peer with the given ids, in
	// increasing order of id. Ids without a message are left out.
	MessagesByID(ctx context.Context, user, peer uint32, ids []uint32) ([]Message, error)
	// LatestID returns the id of the newest message between user and peer, 0 when there
	// is none.
	LatestID(ctx context.Context, user, peer uint32) (uint32, error)
	// UnreadCounts returns the number of unread messages and the latest message of the
	// conversations that have unread messages for user, and the number of messages in all of
	// them. With more than limit, at least 1, these are the conversations with the latest
	// messages; the number still covers all. Conversations are those with other users and
	// with groups that user is in. Messages from before user's last joining of a group do
	// not count. Conversations whose counts cannot be read for now may be missing while
	// others can be read.
	UnreadCounts(ctx context.Context, user uint32, limit int) (list []Unread, total uint32,
		err error)
	// ClearUnread sets user's unread count for peer to zero.
	ClearUnread(ctx context.Context, user, peer uint32) error
	// UnreadTotals returns the number of unread messages of each of the users, groups
	// included. Users without unread messages may be missing, and so may counts as in
	// UnreadCounts.
	UnreadTotals(ctx context.Context, users []uint32) (map[uint32]uint32, error)
	// RecentSessions returns up to limit of user's conversations that were updated at or
	// after since, newest first, each with its last message. They include groups that
	// user is in and may see a message of. Removed conversations are left out. For other
	// members than the sender, a group's entry may be as old as the last SyncSessions.
	RecentSessions(ctx context.Context, user, since uint32, limit int) ([]RecentSession, error)
	// RemoveSession removes the conversation with peer (of type t) from user's own list
	// until its next message, and clears its unread count. NotFound when the list does
	// not hold it.
	RemoveSession(ctx context.Context, user, peer uint32, t pb.SessionType) error
	// SyncSessions updates the members' lists of conversations for the groups that had
	// messages since its last run in any process. It returns the number of entries that
	// it wrote. Every db_proxy calls it every few seconds: one runs at a time, and the
	// others return at once. After a crash in the middle, the next run does the rest.
	SyncSessions(ctx context.Context) (int, error)
}

// GroupStore keeps groups and their members.
type GroupStore interface {
	// CreateGroup creates a group with g's Name, Avatar, Creator, Type and Members, and
	// returns it as it is stored. Repeated members are stored once. Users that do not
	// exist or have departed are left out. The other members have their membership from
	// user by; 0: from an administrator or another system. Invalid as CheckGroup says, and
	// when no member remains or there are more than MaxGroupMembers.
	CreateGroup(ctx context.Context, g Group, by uint32) (Group, error)
	// ChangeMembers adds users to a group or removes them.
	//
	// It calls e.Allow first. Allow gets the group while no other call can change it; it
	// must not call the store nor wait. Its error ends the call without a change, also
	// when there would be nothing to change. NotFound when the group does not exist,
	// Invalid when e.Type is neither adding nor removing: in these two cases Allow is not
	// called. Invalid also when the group would get too many members.
	//
	// Users that do not exist or have departed are not added. Users that are members
	// already, or that are to be removed and are not members, are ignored. When no user
	// remains, nothing is changed. A user that is added again has joined again: the
	// visible history and the unread count start anew.
	//
	// When it returns, every AppendMessages and every read of this store, and of other
	// processes on the same databases, uses the new members.
	ChangeMembers(ctx context.Context, e MemberEdit) (MemberChange, error)
	// LeftGroup returns those of users, in increasing order, that are not in the group
	// because they left it by themselves at or after since, in unix seconds; none with
	// since 0. A user that was removed by another has not left. A removal by a server of the
	// first implementation is not known as leaving.
	LeftGroup(ctx context.Context, group uint32, users []uint32, since uint32) ([]uint32, error)
	// GivenMemberships returns those of users, in increasing order, that have at least n
	// memberships from user by; by 0: from any user. Memberships that a server of the first
	// implementation has added are not from any user. n must be at least 1.
	GivenMemberships(ctx context.Context, users []uint32, by uint32, n int) ([]uint32, error)
	// SetGroupName changes a group's name: NotFound when there is no such group, Invalid
	// as CheckGroupName says. The version increases.
	SetGroupName(ctx context.Context, group uint32, name string) error
	// Groups returns the groups with the given ids, in no particular order. Ids without a
	// group are left out.
	Groups(ctx context.Context, ids []uint32) ([]Group, error)
	// GroupVersions returns the versions of the groups with the given ids, in no
	// particular order. Ids without a group are left out. A version is never older than
	// the last change by any process.
	GroupVersions(ctx context.Context, ids []uint32) ([]GroupVersion, error)
	// GroupsOf returns the groups of type t that user is in, in increasing order of id; 0:
	// of every type. Only those are returned that changed, or that user joined, at or after
	// since. A change of members by any process that has returned is seen.
	GroupsOf(ctx context.Context, user uint32, t pb.GroupType, since uint32) ([]GroupVersion, error)
	// ListGroups returns up to limit groups with ids above after, in order of id.
	ListGroups(ctx context.Context, after uint32, limit int) ([]Group, error)

	// GroupHistory, GroupMessagesByID and GroupLatestID do the same as History,
	// MessagesByID and LatestID for a group. They return the messages that were stored
	// since user joined, whatever their Created, and none to a user that is not a member.
	// For a member that a server of the first implementation has added, Created decides.
	GroupHistory(ctx context.Context, user, group, begin uint32, count int) ([]Message, error)
	GroupMessagesByID(ctx context.Context, user, group uint32, ids []uint32) ([]Message, error)
	GroupLatestID(ctx context.Context, user, group uint32) (uint32, error)
	// ClearGroupUnread marks all messages in the group as read by user. It does nothing
	// for a user that is not a member.
	ClearGroupUnread(ctx context.Context, user, group uint32) error
}

// PushStore keeps push tokens and the groups from which users want no pushes.
type PushStore interface {
	// SetDeviceToken makes t the only token of its user, and removes it from every other
	// user, because phones change hands. An empty Token clears the stored one, for any
	// Client. Invalid as CheckDeviceToken says.
	SetDeviceToken(ctx context.Context, t DeviceToken) error
	// DropDeviceToken clears a token of any user. It is called when the push service
	// reports the token as dead.
	DropDeviceToken(ctx context.Context, token string) error
	// DeviceTokens returns the tokens of the given users. Users without a token are left
	// out.
	DeviceTokens(ctx context.Context, users []uint32) ([]DeviceToken, error)
	// SetGroupShield turns pushes for a group off or on for a user.
	SetGroupShield(ctx context.Context, user, group uint32, on bool) error
	// GroupShields returns the given users that want no pushes for the group, in
	// increasing order.
	GroupShields(ctx context.Context, group uint32, users []uint32) ([]uint32, error)
	// ShieldedGroups returns the given groups from which user wants no pushes, in
	// increasing order.
	ShieldedGroups(ctx context.Context, user uint32, groups []uint32) ([]uint32, error)
}
