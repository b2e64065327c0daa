// Package views makes the forms in which clients receive stored messages and conversations.
package views

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy/sounds"
	"teamtalk/proto/pb"
)

// Views makes lists for answers.
type Views struct {
	// Bytes is the largest number of bytes in an answer. The longest sounds reach it.
	Bytes int
	// AudioText is the encrypted text that replaces a sound in lists of conversations.
	AudioText []byte
}

// Unread returns conversations with unread messages, users before groups. Only those with the
// latest messages that fit an answer are listed. It sorts list.
func (v *Views) Unread(list []im.Unread) []*pb.UnreadInfo {
	slices.SortStableFunc(list, func(a, b im.Unread) int {
		return cmp.Compare(b.Latest.Created, a.Latest.Created)
	})
	list = list[:v.fit(len(list), func(i int) *im.Message { return &list[i].Latest })]
	slices.SortFunc(list, func(a, b im.Unread) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Peer, b.Peer))
	})
	infos := make([]*pb.UnreadInfo, len(list))
	for i := range list {
		u := &list[i]
		infos[i] = pb.UnreadInfo_builder{
			SessionId: proto.Uint32(u.Peer), SessionType: u.Type.Enum(),
			UnreadCnt: proto.Uint32(u.Count), LatestMsgId: proto.Uint32(u.Latest.ID),
			LatestMsgData: v.preview(&u.Latest), LatestMsgType: msgType(&u.Latest, u.Type),
			LatestMsgFromUserId: proto.Uint32(from(u.Peer, u.Type, &u.Latest)),
		}.Build()
	}
	return infos
}

// Recent returns the first conversations that fit an answer. Their times are at most settled.
func (v *Views) Recent(list []im.RecentSession, settled uint32) []*pb.ContactSessionInfo {
	list = list[:v.fit(len(list), func(i int) *im.Message { return &list[i].Latest })]
	infos := make([]*pb.ContactSessionInfo, len(list))
	for i := range list {
		r := &list[i]
		infos[i] = pb.ContactSessionInfo_builder{
			SessionId: proto.Uint32(r.Peer), SessionType: r.Type.Enum(),
			SessionStatus: pb.SessionStatusType_SESSION_STATUS_OK.Enum(),
			UpdatedTime:   proto.Uint32(min(r.Updated, settled)),
			LatestMsgId:   proto.Uint32(r.Latest.ID), LatestMsgData: v.preview(&r.Latest),
			LatestMsgType:       msgType(&r.Latest, r.Type),
			LatestMsgFromUserId: proto.Uint32(from(r.Peer, r.Type, &r.Latest)),
		}.Build()
	}
	return infos
}

// entryBytes is at least the length of an entry in a list of conversations, without its text.
const entryBytes = 64

// fit returns how many of n entries with these messages fit an answer, at least one.
func (v *Views) fit(n int, of func(i int) *im.Message) int {
	size := 0
	for i := range n {
		if size += entryBytes + len(v.preview(of(i))); size > v.Bytes && i > 0 {
			return i
		}
	}
	return n
}

// Page cuts a list, newest first, to v.Bytes, but keeps at least one message. A client
// requests the older ones from there.
func (v *Views) Page(list []im.Message) []im.Message {
	size := 0
	for i := range list {
		size += len(list[i].Data)
		if a := list[i].Audio; a != nil {
			size += int(min(a.Size, im.MaxAudio))
		}
		if size > v.Bytes && i > 0 {
			return list[:i]
		}
	}
	return list
}

// MsgInfos returns messages for a history.
func MsgInfos(list []im.Message) []*pb.MsgInfo {
	infos := make([]*pb.MsgInfo, len(list))
	for i := range list {
		m := &list[i]
		infos[i] = pb.MsgInfo_builder{MsgId: proto.Uint32(m.ID),
			FromSessionId: proto.Uint32(m.From), CreateTime: proto.Uint32(m.Created),
			MsgType: m.Type.Enum(), MsgData: data(m)}.Build()
	}
	return infos
}

// from returns the sender of a conversation's latest message for clients. Between two
// users it is the peer, also when the user sent the message: the first implementation
// answered so, and clients depend on it.
func from(peer uint32, t pb.SessionType, latest *im.Message) uint32 {
	if t == pb.SessionType_SESSION_TYPE_SINGLE {
		return peer
	}
	return latest.From
}

// data returns a message's body for a required field, which must not be nil.
func data(m *im.Message) []byte {
	if m.Data == nil {
		return []byte{}
	}
	return m.Data
}

// preview returns a message's body for a list of conversations, where a text replaces a
// sound.
func (v *Views) preview(m *im.Message) []byte {
	if sounds.IsAudio(m.Type) {
		return v.AudioText
	}
	return data(m)
}

// msgType returns a message's type. A conversation without messages gets a text type,
// because clients reject unknown types.
func msgType(m *im.Message, t pb.SessionType) *pb.MsgType {
	switch {
	case m.Type != 0:
		return m.Type.Enum()
	case t == pb.SessionType_SESSION_TYPE_SINGLE:
		return pb.MsgType_MSG_TYPE_SINGLE_TEXT.Enum()
	}
	return pb.MsgType_MSG_TYPE_GROUP_TEXT.Enum()
}
