package im

import "teamtalk/proto/pb"

// Group is a group of users.
type Group struct {
	ID      uint32
	Name    string // at most MaxGroupName characters
	Avatar  string // URL, at most MaxGroupName characters
	Creator uint32 // user; 0 for one made by another system
	Type    pb.GroupType
	// Version goes up by one with every change of name or members, from 1.
	Version uint32
	Created uint32 // unix seconds
	Updated uint32 // unix seconds of the last change of name or members
	// LastChat is the time of the last message, unix seconds; 0 before the first.
	LastChat uint32
	// Members are the users in it, in increasing order.
	Members []uint32
}

// MaxGroupName is the longest name or avatar of a group, in characters.
const MaxGroupName = 256

// MaxGroupMembers is the most members a group may have. A frame of 64 KiB holds a list of them; sending to a group costs by member.
const MaxGroupMembers = 10_000

// GroupVersion names a state of a group.
type GroupVersion struct{ ID, Version uint32 }

// MemberChange is what became of a change of members.
type MemberChange struct {
	// Version is the group's version now. It has not changed when nobody was changed.
	Version uint32
	// Current are the users in the group now, Changed those that were added or taken out, both in increasing order.
	Current, Changed []uint32
}

// GroupKey is to a group what ConversationKey is to two users. The keys of both kinds are distinct.
func GroupKey(group uint32) uint64 { return uint64(group) }

// Key is what m's order is kept by: that of its conversation.
func (m *Message) Key() uint64 {
	if m.Type.IsGroup() {
		return GroupKey(m.To)
	}
	return ConversationKey(m.From, m.To)
}

// Audio is where the sound of an audio message is.
type Audio struct {
	Path     string // as the small file server named it, at most 255 characters
	Size     uint32 // bytes
	Duration uint32 // seconds
}

// MaxAudio is the longest sound of an audio message, in bytes. Phones record some 2 KiB a second and stop at a minute.
const MaxAudio = 1 << 20

// Depart is a department.
type Depart struct {
	ID       uint32
	Name     string // at most 64 characters
	Parent   uint32 // department; 0: the company
	Priority uint32 // lower is shown first
	Status   pb.DepartmentStatusType
	Updated  uint32 // unix seconds
}

// DeviceToken is where pushes for a user go.
type DeviceToken struct {
	User   uint32
	Client pb.ClientType // CLIENT_TYPE_IOS or CLIENT_TYPE_ANDROID
	Token  string        // at most MaxDeviceToken bytes
}

// MaxDeviceToken is the longest push token accepted, in bytes. Apple's are 64 hexadecimal digits, Google's some 160 characters, both "may grow".
const MaxDeviceToken = 4096
