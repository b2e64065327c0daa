package im

import "teamtalk/proto/pb"

// Group is a group of users.
type Group struct {
	ID      uint32
	Name    string // at most MaxGroupName characters
	Avatar  string // URL, at most MaxGroupName characters
	Creator uint32 // user; 0 when another system created the group
	Type    pb.GroupType
	// Version starts at 1 and increases by one with every change of name or members.
	Version uint32
	Created uint32 // unix seconds
	Updated uint32 // unix seconds of the last change of name or members
	// LastChat is the time at which the last message was stored, by Store.Now, in unix
	// seconds; 0 before the first.
	LastChat uint32
	// Members are the users in the group, in increasing order.
	Members []uint32
}

// MaxGroupName is the longest name or avatar of a group, in characters.
const MaxGroupName = 256

// MaxGroupMembers is the most members a group may have. A frame of 64 KiB holds a list of
// them, and the cost of a message grows with their number.
const MaxGroupMembers = 10_000

// GroupVersion identifies a state of a group.
type GroupVersion struct{ ID, Version uint32 }

// MemberEdit is a change of members that is asked for; see GroupStore.ChangeMembers.
type MemberEdit struct {
	Group uint32
	Type  pb.GroupModifyType
	Users []uint32 // to add or to remove
	// By is the user that changes the members; 0: an administrator or another system. A user
	// that removes itself has left. Users that By adds have their membership from By.
	By uint32
	// LeftSince, in unix seconds, is when a user must have left, at the earliest, for Allow
	// to hear of it; 0: Allow hears of none.
	LeftSince uint32
	// Allow returns those of Users whose membership may change, or the reason why none may.
	// It gets the group, and in increasing order those of Users that are not members because
	// they left the group by themselves at or after LeftSince. Only for an addition there may
	// be any. nil allows everything.
	Allow func(g *Group, left []uint32) ([]uint32, error)
}

// MemberChange is the result of a change of members.
type MemberChange struct {
	// Version is the group's version after the change. It is the old one when no user was
	// added or removed.
	Version uint32
	// Current holds the users in the group after the change, Changed the users that were
	// added or removed. Both are in increasing order.
	Current, Changed []uint32
}

// GroupKey returns the key of a group's conversation. It differs from every
// ConversationKey of two users.
func GroupKey(group uint32) uint64 { return uint64(group) }

// Key returns the key of m's conversation. Messages with the same key are kept in order.
func (m *Message) Key() uint64 {
	if m.Type.IsGroup() {
		return GroupKey(m.To)
	}
	return ConversationKey(m.From, m.To)
}

// Audio describes the sound of an audio message.
type Audio struct {
	Path     string // as the small file server named it, at most MaxAudioPath characters
	Size     uint32 // bytes
	Duration uint32 // seconds
}

// MaxAudio is the longest sound of an audio message, in bytes. Phones record some 2 KiB a
// second and stop after a minute.
const MaxAudio = 1 << 20

// Depart is a department.
type Depart struct {
	ID       uint32
	Name     string // at most MaxDepartName characters
	Parent   uint32 // department; 0: the top level
	Priority uint32 // lower is displayed first
	Status   pb.DepartmentStatusType
	Updated  uint32 // unix seconds
}

// DeviceToken is the address at a push service of a user's phone.
type DeviceToken struct {
	User   uint32
	Client pb.ClientType // CLIENT_TYPE_IOS or CLIENT_TYPE_ANDROID
	Token  string        // at most MaxDeviceToken bytes
}

// MaxDeviceToken is the longest push token accepted, in bytes. Apple's have 64
// hexadecimal digits, Google's some 160 characters. Both vendors say that the length may
// grow.
const MaxDeviceToken = 4096
