package dbproxy

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy/settle"
	"teamtalk/handlers/dbproxy/sounds"
	"teamtalk/proto/pb"
)

// sessionLimit is the largest number of conversations in the answer to
// IMRecentContactSessionReq.
const sessionLimit = 100

// audioText is the text that replaces a sound in lists of conversations. Stock clients
// show it unchanged.
const audioText = "[语音]"

// conversations answers the requests about stored messages and conversations. A request
// about a group that the user is not in has an empty answer.
type conversations struct {
	*runner
	store  conversationStore
	sounds *sounds.Sounds
	limit  int // largest number of messages in one answer
	bytes  int // largest number of bytes in them, sounds included; the longest sounds reach it
	// audioText is the encrypted text that replaces a sound.
	audioText []byte
}

// conversationStore is what conversations needs of the store.
type conversationStore interface {
	im.MessageStore
	im.GroupStore
}

func newConversations(r *runner, store conversationStore, s *sounds.Sounds,
	opt *Options) *conversations {
	return &conversations{runner: r, store: store, sounds: s, limit: opt.HistoryLimit,
		bytes: opt.MaxFrame / 2, audioText: opt.Text.Encrypt(audioText)}
}

func (c *conversations) register() {
	r := c.runner
	handle(r, work[*pb.IMMsgDataReadAck]{user: userOf[*pb.IMMsgDataReadAck], run: c.readAck})
	handle(r, work[*pb.IMUnreadMsgCntReq]{user: userOf[*pb.IMUnreadMsgCntReq], run: c.unread})
	handle(r, work[*pb.IMGetMsgListReq]{user: userOf[*pb.IMGetMsgListReq], run: c.history})
	handle(r, work[*pb.IMGetMsgByIdReq]{user: userOf[*pb.IMGetMsgByIdReq], run: c.messagesByID})
	handle(r, work[*pb.IMGetLatestMsgIdReq]{user: userOf[*pb.IMGetLatestMsgIdReq], run: c.latestID})
	handle(r, work[*pb.IMRecentContactSessionReq]{user: userOf[*pb.IMRecentContactSessionReq],
		run: c.recentSessions})
	handle(r, work[*pb.IMRemoveSessionReq]{user: userOf[*pb.IMRemoveSessionReq],
		run: c.removeSession,
		refuse: func(m *pb.IMRemoveSessionReq, _ error) pb.Message {
			return sessionRemoved(m, resultRefused)
		}})
}

// single reports whether a conversation is between two users.
func single(t pb.SessionType) bool { return t == pb.SessionType_SESSION_TYPE_SINGLE }

// readAck clears the unread count of a conversation. It is not answered.
func (c *conversations) readAck(ctx context.Context, m *pb.IMMsgDataReadAck) (pb.Message, error) {
	clear := c.store.ClearUnread
	if !single(m.GetSessionType()) {
		clear = c.store.ClearGroupUnread
	}
	return nil, clear(ctx, m.GetUserId(), m.GetSessionId())
}

func (c *conversations) unread(ctx context.Context, m *pb.IMUnreadMsgCntReq) (pb.Message, error) {
	unread, err := c.store.UnreadCounts(ctx, m.GetUserId())
	if err != nil {
		return nil, err
	}
	slices.SortFunc(unread, func(a, b im.Unread) int {
		// Users come before groups.
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Peer, b.Peer))
	})
	total := uint32(0)
	list := make([]*pb.UnreadInfo, len(unread))
	for i := range unread {
		u := &unread[i]
		total += u.Count
		list[i] = pb.UnreadInfo_builder{
			SessionId: proto.Uint32(u.Peer), SessionType: u.Type.Enum(),
			UnreadCnt: proto.Uint32(u.Count), LatestMsgId: proto.Uint32(u.Latest.ID),
			LatestMsgData: c.preview(&u.Latest), LatestMsgType: msgType(&u.Latest, u.Type),
			LatestMsgFromUserId: proto.Uint32(from(u.Peer, u.Type, &u.Latest)),
		}.Build()
	}
	rsp := pb.IMUnreadMsgCntRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		TotalCnt: proto.Uint32(total), UnreadinfoList: list}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// recentSessions returns the conversations changed since a time. The answer has no time
// of its own: a client sends the latest updated_time that it received. So a conversation
// that has not settled is returned with the latest settled time.
func (c *conversations) recentSessions(ctx context.Context,
	m *pb.IMRecentContactSessionReq) (pb.Message, error) {
	now := c.storeTime() // before the read
	earliest := settle.From(m.GetLatestUpdateTime(), now, settle.Sessions)
	sessions, err := c.store.RecentSessions(ctx, m.GetUserId(), earliest, sessionLimit)
	if err != nil {
		return nil, err
	}
	list := make([]*pb.ContactSessionInfo, len(sessions))
	for i := range sessions {
		r := &sessions[i]
		list[i] = pb.ContactSessionInfo_builder{
			SessionId: proto.Uint32(r.Peer), SessionType: r.Type.Enum(),
			SessionStatus: pb.SessionStatusType_SESSION_STATUS_OK.Enum(),
			UpdatedTime:   proto.Uint32(min(r.Updated, settle.At(now, settle.Sessions))),
			LatestMsgId:   proto.Uint32(r.Latest.ID), LatestMsgData: c.preview(&r.Latest),
			LatestMsgType:       msgType(&r.Latest, r.Type),
			LatestMsgFromUserId: proto.Uint32(from(r.Peer, r.Type, &r.Latest)),
		}.Build()
	}
	rsp := pb.IMRecentContactSessionRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		ContactSessionList: list}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// removeSession removes a conversation from the user's own list. The list of the peer keeps
// it.
func (c *conversations) removeSession(ctx context.Context, m *pb.IMRemoveSessionReq) (pb.Message,
	error) {
	if err := c.store.RemoveSession(ctx, m.GetUserId(), m.GetSessionId(),
		m.GetSessionType()); err != nil {
		return nil, err
	}
	return sessionRemoved(m, resultOK), nil
}

func sessionRemoved(m *pb.IMRemoveSessionReq, code uint32) *pb.IMRemoveSessionRsp {
	rsp := pb.IMRemoveSessionRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		ResultCode: proto.Uint32(code), SessionType: m.GetSessionType().Enum(),
		SessionId: proto.Uint32(m.GetSessionId())}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp
}

func (c *conversations) history(ctx context.Context, m *pb.IMGetMsgListReq) (pb.Message, error) {
	var list []im.Message
	// The comparison is unsigned: a client that requests four billion messages receives
	// the limit.
	if count := min(m.GetMsgCnt(), uint32(c.limit)); count > 0 {
		read := c.store.History
		if !single(m.GetSessionType()) {
			read = c.store.GroupHistory
		}
		var err error
		if list, err = read(ctx, m.GetUserId(), m.GetSessionId(), m.GetMsgIdBegin(),
			int(count)); err != nil {
			return nil, err
		}
	}
	list = c.page(list)
	c.sounds.PlayBack(ctx, list)
	rsp := pb.IMGetMsgListRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		SessionType: m.GetSessionType().Enum(),
		SessionId:   proto.Uint32(m.GetSessionId()), MsgIdBegin: proto.Uint32(m.GetMsgIdBegin()),
		MsgList: msgInfos(list)}.Build()
	if m.GetAskRepeats() {
		rsp.SetRecognisesRepeats(true)
	}
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// page cuts a list, newest first, to c.bytes, but keeps at least one message. A client
// requests the older ones from there.
func (c *conversations) page(list []im.Message) []im.Message {
	size := 0
	for i := range list {
		size += len(list[i].Data)
		if a := list[i].Audio; a != nil {
			size += int(min(a.Size, im.MaxAudio))
		}
		if size > c.bytes && i > 0 {
			return list[:i]
		}
	}
	return list
}

// messagesByID returns the messages newest first, in any order of the request.
func (c *conversations) messagesByID(ctx context.Context, m *pb.IMGetMsgByIdReq) (pb.Message,
	error) {
	var list []im.Message
	ids := m.GetMsgIdList()
	if ids = ids[:min(len(ids), c.limit)]; len(ids) > 0 {
		read := c.store.MessagesByID
		if !single(m.GetSessionType()) {
			read = c.store.GroupMessagesByID
		}
		var err error
		if list, err = read(ctx, m.GetUserId(), m.GetSessionId(), ids); err != nil {
			return nil, err
		}
		slices.Reverse(list)
	}
	list = c.page(list)
	c.sounds.PlayBack(ctx, list)
	rsp := pb.IMGetMsgByIdRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		SessionType: m.GetSessionType().Enum(),
		SessionId:   proto.Uint32(m.GetSessionId()), MsgList: msgInfos(list)}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

func (c *conversations) latestID(ctx context.Context, m *pb.IMGetLatestMsgIdReq) (pb.Message,
	error) {
	read := c.store.LatestID
	if !single(m.GetSessionType()) {
		read = c.store.GroupLatestID
	}
	id, err := read(ctx, m.GetUserId(), m.GetSessionId())
	if err != nil {
		return nil, err
	}
	rsp := pb.IMGetLatestMsgIdRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		SessionType: m.GetSessionType().Enum(),
		SessionId:   proto.Uint32(m.GetSessionId()), LatestMsgId: proto.Uint32(id)}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

func msgInfos(list []im.Message) []*pb.MsgInfo {
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
	if single(t) {
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
func (c *conversations) preview(m *im.Message) []byte {
	if sounds.IsAudio(m.Type) {
		return c.audioText
	}
	return data(m)
}

// msgType returns a message's type. A conversation without messages gets a text type,
// because clients reject unknown types.
func msgType(m *im.Message, t pb.SessionType) *pb.MsgType {
	switch {
	case m.Type != 0:
		return m.Type.Enum()
	case single(t):
		return pb.MsgType_MSG_TYPE_SINGLE_TEXT.Enum()
	}
	return pb.MsgType_MSG_TYPE_GROUP_TEXT.Enum()
}
