package dbproxy

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy/settle"
	"teamtalk/handlers/dbproxy/sounds"
	"teamtalk/handlers/dbproxy/views"
	"teamtalk/proto/pb"
)

// The largest numbers of conversations in answers. They are also bounded by the length of a
// frame; see Options.MaxFrame.
const (
	// firstSessionLimit is for IMRecentContactSessionReq without a time, as in the first
	// implementation: web clients send it with every page.
	firstSessionLimit = 100
	// sessionLimit is for one with a time. The client asks next with the newest time that it
	// received, so it does not learn of what is left out, until the next message there.
	sessionLimit = 1000
	// unreadLimit is for IMUnreadMsgCntReq. The client reads these conversations, and the
	// next answer lists others. They have up to 4 MiB of texts.
	unreadLimit = 1000
)

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
	views  views.Views
}

// conversationStore is what conversations needs of the store.
type conversationStore interface {
	im.MessageStore
	im.GroupStore
}

func newConversations(r *runner, store conversationStore, s *sounds.Sounds,
	opt *Options) *conversations {
	return &conversations{runner: r, store: store, sounds: s, limit: opt.HistoryLimit,
		views: views.Views{Bytes: opt.MaxFrame / 2,
			AudioText: opt.Text.Encrypt(audioText)}}
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

// unread returns the conversations with unread messages, but only the latest of many: anybody
// can put a user into thousands of groups. The total covers all of them.
func (c *conversations) unread(ctx context.Context, m *pb.IMUnreadMsgCntReq) (pb.Message, error) {
	unread, total, err := c.store.UnreadCounts(ctx, m.GetUserId(), unreadLimit)
	if err != nil {
		return nil, err
	}
	list := c.views.Unread(unread)
	listed := uint64(0)
	for _, u := range list {
		listed += uint64(u.GetUnreadCnt())
	}
	if listed < uint64(total) {
		c.metrics.listsCut.WithLabelValues("unread").Inc()
	}
	rsp := pb.IMUnreadMsgCntRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		TotalCnt: proto.Uint32(total), UnreadinfoList: list}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// recentSessions returns the conversations changed since a time, newest first. The answer
// has no time of its own: a client sends the latest updated_time that it received. So a
// conversation that has not settled is returned with the latest settled time.
func (c *conversations) recentSessions(ctx context.Context,
	m *pb.IMRecentContactSessionReq) (pb.Message, error) {
	now := c.storeTime() // before the read
	earliest := settle.From(m.GetLatestUpdateTime(), now, settle.Sessions)
	limit := sessionLimit
	if earliest == 0 {
		limit = firstSessionLimit
	}
	sessions, err := c.store.RecentSessions(ctx, m.GetUserId(), earliest, limit+1)
	if err != nil {
		return nil, err
	}
	list := c.views.Recent(sessions[:min(len(sessions), limit)],
		settle.At(now, settle.Sessions))
	if len(list) < len(sessions) && earliest != 0 {
		c.metrics.listsCut.WithLabelValues("sessions").Inc()
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
	list = c.views.Page(list)
	c.sounds.PlayBack(ctx, list)
	rsp := pb.IMGetMsgListRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		SessionType: m.GetSessionType().Enum(),
		SessionId:   proto.Uint32(m.GetSessionId()), MsgIdBegin: proto.Uint32(m.GetMsgIdBegin()),
		MsgList: views.MsgInfos(list)}.Build()
	if m.GetAskRepeats() {
		rsp.SetRecognisesRepeats(true)
	}
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
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
	list = c.views.Page(list)
	c.sounds.PlayBack(ctx, list)
	rsp := pb.IMGetMsgByIdRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		SessionType: m.GetSessionType().Enum(),
		SessionId:   proto.Uint32(m.GetSessionId()), MsgList: views.MsgInfos(list)}.Build()
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
