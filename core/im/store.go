package im

import (
	"context"

	"teamtalk/proto/pb"
)

// Store keeps everything that outlives a process. There are two: MySQL with Redis, and an embedded one; the suite in sql/storetest is
// their common contract, in code. All methods may be called from many goroutines; each holds at most one database
// connection, for less than ctx allows. Errors carry a Kind: Unavailable when a database cannot be reached, NotFound, Exists, Invalid as said
// below, else Internal.
type Store interface {
	UserStore
	DepartStore
	MessageStore
	GroupStore
	PushStore
	FileStore

	// Ping reports whether every database the store needs answers.
	Ping(ctx context.Context) error
	// Close waits for what is running and frees everything. The store is not used after it.
	Close() error
}

// UserStore keeps the directory.
type UserStore interface {
	// AccountByName returns the user with that login name, departed ones too: NotFound when there is none. The name is compared
	// as the database does: without regard to case. A store that others filled may have several
	// such users: one spelled like name comes before others, one that may log in before one that
	// may not, the highest id before lower ones.
	AccountByName(ctx context.Context, name string) (Account, error)
	// AccountsByName does that for many names at once, and returns an account for each in their order: one without an id where there is no user.
	AccountsByName(ctx context.Context, names []string) ([]Account, error)
	// Users returns the users with the given ids, in no particular order, leaving out those that do not exist.
	Users(ctx context.Context, ids []uint32) ([]User, error)
	// UsersChangedSince returns the users whose Updated is at or after since, and the newest Updated among them (since when there
	// are none). With since 0, the first sync, those departed are left out; later they are in, so that clients remove them.
	// At or after: many rows share one second. Which of them a client still has to be
	// told is for the caller to say.
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
	// SetSignInfo, SetAvatar and SetUserDepart change one field of a user, and set Updated to the store's time: NotFound when there is no such user,
	// Invalid when the text is too long (128 and 255 characters) or not UTF-8, or the department does not exist (0 is none).
	SetSignInfo(ctx context.Context, id uint32, text string) error
	SetAvatar(ctx context.Context, id uint32, url string) error
	SetUserDepart(ctx context.Context, id, depart uint32) error
	// SetPushShield turns a user's nightly rest from pushes on or off: NotFound when there is no such user. Updated stays: it is nobody else's business.
	SetPushShield(ctx context.Context, id uint32, on bool) error
}

// DepartStore keeps the departments.
type DepartStore interface {
	// DepartsChangedSince returns the departments whose Updated is at or after since, and the newest Updated among them (since when there are
	// none). With since 0 deleted ones are left out.
	DepartsChangedSince(ctx context.Context, since uint32) ([]Depart, uint32, error)
	// CreateDepart adds a department and returns its id; d's ID and Updated do not matter. Invalid when the name is missing, too long or not UTF-8, or the
	// parent does not exist or is deleted; Exists when the parent has a department of that name.
	CreateDepart(ctx context.Context, d Depart) (uint32, error)
	// UpdateDepart sets name, parent, priority and status of the department with d's ID, and Updated to the store's time: NotFound when there is none;
	// Invalid and Exists as for CreateDepart, Invalid also when it would become its own ancestor, or is deleted while it has departments, or users who have not departed.
	UpdateDepart(ctx context.Context, d Depart) error
}

// MessageStore keeps messages and who has read what. Where a method names user and peer it is about messages between two users; for those of groups
// there is GroupStore.
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
	// A message whose Type is a group's goes to the group To. Its Err is of kind Denied when the sender is not a member at that moment, Invalid when there is
	// no such group; GroupVersion says against which version that was checked. It counts as unread to every member but the sender,
	// for whom the group counts as read up to this message: what comes later, be it in the same batch, does not.
	//
	// An audio message has Audio; Invalid when it has not, or the path is too long or not UTF-8. Its Data is not looked at nor stored, and comes back empty,
	// with Audio.
	//
	// A ClientID belongs to one sender and recipient, a user and a group of the same number being two; an empty one is none. That of a message that was not stored is not remembered.
	//
	// Callers never run two batches with messages of one conversation (Message.Key) at once within a process; several processes
	// on one database may.
	AppendMessages(ctx context.Context, batch []*Message)

	// History returns up to count messages between user and peer with ids at most begin (0: from the newest), newest first.
	History(ctx context.Context, user, peer, begin uint32, count int) ([]Message, error)
	// MessagesByID returns the messages between user and peer with the given ids, in increasing order of id, without those that do not exist.
	MessagesByID(ctx context.Context, user, peer uint32, ids []uint32) ([]Message, error)
	// LatestID returns the id of the newest message between user and peer, 0 when there is none.
	LatestID(ctx context.Context, user, peer uint32) (uint32, error)
	// UnreadCounts returns, for every peer with unread messages to user and every group that user is in with messages that user has not read, their count and
	// the latest message of the conversation. Messages from before the member's last joining do not count.
	UnreadCounts(ctx context.Context, user uint32) ([]Unread, error)
	// ClearUnread sets user's unread count for peer to zero.
	ClearUnread(ctx context.Context, user, peer uint32) error
	// UnreadTotals returns how many unread messages each of the users has, groups included; users that have none may be missing.
	UnreadTotals(ctx context.Context, users []uint32) (map[uint32]uint32, error)
	// RecentSessions returns up to limit of user's conversations updated at or after since, newest first, each with its
	// last message; those with groups that user is in, and has a message to see of, among them. Removed ones are left out.
	// A group's may be as late as the last SyncSessions for its members, but not for the sender.
	RecentSessions(ctx context.Context, user, since uint32, limit int) ([]RecentSession, error)
	// RemoveSession takes the conversation with peer (of that type) out of user's own list, until its next message, and clears what is
	// unread of it. NotFound when the list does not have it.
	RemoveSession(ctx context.Context, user, peer uint32, t pb.SessionType) error
	// SyncSessions brings the lists of the members of groups up to date that had messages since it last ran, whoever ran it, and returns how many
	// entries it wrote. It is called every few seconds by every db_proxy; one at a time does it, others return at once. After a crash in the middle the next
	// run does what is left.
	SyncSessions(ctx context.Context) (int, error)
}

// GroupStore keeps groups and their members.
type GroupStore interface {
	// CreateGroup makes a group with g's Name, Avatar, Creator, Type and Members, and returns it as it is stored. Members are taken once each; those that
	// do not exist or have departed are left out. Invalid when nobody is left, there are too many, name or avatar are too long or not UTF-8, the name is empty, or
	// the type is neither normal nor temporary.
	CreateGroup(ctx context.Context, g Group) (Group, error)
	// ChangeMembers adds users to a group or takes them out. It asks allow first, which gets the group as it is while nobody else can change it, must not
	// call the store nor wait, and whose error ends the call unchanged, also when there would be nothing to change; nil allows everything. Users that do not
	// exist or have departed are not added; those that are in already, or are not in, are passed over, and when nobody is left nothing is changed. Who is added again has joined
	// again: history and unread count begin anew. NotFound when there is no such group, Invalid when t is neither adding nor
	// taking out (allow is not asked about these two), or the group would get too many members.
	//
	// When it returns, every AppendMessages and read of this store, and of other processes on the same databases, goes by it.
	ChangeMembers(ctx context.Context, group uint32, t pb.GroupModifyType, users []uint32, allow func(g *Group) error) (MemberChange, error)
	// SetGroupName changes a group's name: NotFound when there is none, Invalid as for CreateGroup. The version goes up.
	SetGroupName(ctx context.Context, group uint32, name string) error
	// Groups returns the groups with the given ids, in no particular order, leaving out those that do not exist.
	Groups(ctx context.Context, ids []uint32) ([]Group, error)
	// GroupVersions returns the versions of the groups with the given ids, in no particular order, leaving out those that do not exist. It is never
	// older than the last change by whatever process.
	GroupVersions(ctx context.Context, ids []uint32) ([]GroupVersion, error)
	// GroupsOf returns the groups of type t that user is in, in increasing order of id, those only that were changed, or joined by user, at or after since.
	GroupsOf(ctx context.Context, user uint32, t pb.GroupType, since uint32) ([]GroupVersion, error)
	// ListGroups returns up to limit groups with ids above after, in order of id.
	ListGroups(ctx context.Context, after uint32, limit int) ([]Group, error)

	// GroupHistory, GroupMessagesByID and GroupLatestID are History, MessagesByID and LatestID of a group, as far as user may see it: from the
	// time of joining on, and nothing to those who are not in. Messages stored before joining, in the second of joining, may be among them.
	GroupHistory(ctx context.Context, user, group, begin uint32, count int) ([]Message, error)
	GroupMessagesByID(ctx context.Context, user, group uint32, ids []uint32) ([]Message, error)
	GroupLatestID(ctx context.Context, user, group uint32) (uint32, error)
	// ClearGroupUnread says that user has read everything in the group. It does nothing for who is not in.
	ClearGroupUnread(ctx context.Context, user, group uint32) error
}

// PushStore keeps where pushes go and who does not want them.
type PushStore interface {
	// SetDeviceToken makes t the token of its user, in place of any other, and takes it from whoever else had it: a phone changes
	// hands. An empty Token clears, whatever Client says. Invalid as CheckDeviceToken says.
	SetDeviceToken(ctx context.Context, t DeviceToken) error
	// DropDeviceToken clears a token, whoever has it: the push service said that it is dead.
	DropDeviceToken(ctx context.Context, token string) error
	// DeviceTokens returns the tokens of those of the users that have one.
	DeviceTokens(ctx context.Context, users []uint32) ([]DeviceToken, error)
	// SetGroupShield turns pushes for a group off or on for a user.
	SetGroupShield(ctx context.Context, user, group uint32, on bool) error
	// GroupShields returns those of the users that want no pushes for the group, in increasing order.
	GroupShields(ctx context.Context, group uint32, users []uint32) ([]uint32, error)
	// ShieldedGroups returns those of the groups that user wants no pushes for, in increasing order.
	ShieldedGroups(ctx context.Context, user uint32, groups []uint32) ([]uint32, error)
}
