package client

import (
	"context"
	"slices"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Caller sends requests to the server as the logged-in user. tcp.Conn and Client implement
// it.
type Caller interface {
	// Call sends req and decodes the answer into resp.
	Call(ctx context.Context, req, resp pb.Message) error
	// UserID returns the id of the logged-in user.
	UserID() uint32
}

// Peer is the other side of a conversation: a user, or a group.
type Peer struct {
	ID    uint32
	Group bool
}

// SessionType returns the peer's kind in the protocol.
func (p Peer) SessionType() pb.SessionType {
	if p.Group {
		return pb.SessionType_SESSION_TYPE_GROUP
	}
	return pb.SessionType_SESSION_TYPE_SINGLE
}

// peerOf returns the peer of a session.
func peerOf(t pb.SessionType, id uint32) Peer {
	return Peer{ID: id, Group: t == pb.SessionType_SESSION_TYPE_GROUP}
}

// textType returns the type of a text message to p.
func (p Peer) textType() pb.MsgType {
	if p.Group {
		return pb.MsgType_MSG_TYPE_GROUP_TEXT
	}
	return pb.MsgType_MSG_TYPE_SINGLE_TEXT
}

// audioType returns the type of an audio message to p.
func (p Peer) audioType() pb.MsgType {
	if p.Group {
		return pb.MsgType_MSG_TYPE_GROUP_AUDIO
	}
	return pb.MsgType_MSG_TYPE_SINGLE_AUDIO
}

// message returns a message from a server's list.
func (p Peer) message(self uint32, m *pb.MsgInfo) im.Message {
	to := p.ID
	if !p.Group && m.GetFromSessionId() == p.ID {
		to = self
	}
	return im.Message{ID: m.GetMsgId(), From: m.GetFromSessionId(), To: to,
		Created: m.GetCreateTime(), Type: m.GetMsgType(), Data: m.GetMsgData()}
}

// Contacts returns the directory's users changed since a time (unix seconds, 0: all that
// have not departed), and the time for the next call.
func Contacts(ctx context.Context, c Caller, since uint32) ([]im.User, uint32, error) {
	req := pb.IMAllUserReq_builder{UserId: new(c.UserID()), LatestUpdateTime: new(since)}.Build()
	var res pb.IMAllUserRsp
	if err := c.Call(ctx, req, &res); err != nil {
		return nil, 0, err
	}
	users := make([]im.User, 0, len(res.GetUserList()))
	for _, u := range res.GetUserList() {
		users = append(users, userOf(u))
	}
	return users, res.GetLatestUpdateTime(), nil
}

// userOf returns the user in a directory entry.
func userOf(u *pb.UserInfo) im.User {
	return im.User{
		ID: u.GetUserId(), Name: u.GetUserRealName(), Domain: u.GetUserDomain(),
		Nick: u.GetUserNickName(), Gender: u.GetUserGender(),
		Phone: u.GetUserTel(), Email: u.GetEmail(), Avatar: u.GetAvatarUrl(),
		DepartID: u.GetDepartmentId(),
		Status:   im.UserStatus(u.GetStatus()), SignInfo: u.GetSignInfo(),
	}
}

// statusBatch is the number of users in one request for statuses.
const statusBatch = 5000

// Statuses returns the status of each of the users. Users that the server does not
// mention are left out.
func Statuses(ctx context.Context, c Caller, ids []uint32) (map[uint32]pb.UserStatType, error) {
	stats := make(map[uint32]pb.UserStatType, len(ids))
	for batch := range slices.Chunk(ids, statusBatch) {
		req := pb.IMUsersStatReq_builder{UserId: new(c.UserID()), UserIdList: batch}.Build()
		var res pb.IMUsersStatRsp
		if err := c.Call(ctx, req, &res); err != nil {
			return nil, err
		}
		for _, s := range res.GetUserStatList() {
			stats[s.GetUserId()] = s.GetStatus()
		}
	}
	return stats, nil
}

// UserInfos returns the users with the given ids, also departed ones. Ids without a user
// are left out.
func UserInfos(ctx context.Context, c Caller, ids []uint32) ([]im.User, error) {
	var users []im.User
	for batch := range slices.Chunk(ids, infoBatch) {
		req := pb.IMUsersInfoReq_builder{UserId: new(c.UserID()), UserIdList: batch}.Build()
		var res pb.IMUsersInfoRsp
		if err := c.Call(ctx, req, &res); err != nil {
			return nil, err
		}
		for _, u := range res.GetUserInfoList() {
			users = append(users, userOf(u))
		}
	}
	return users, nil
}

// recentReq returns the request for the conversations changed since a time (unix
// seconds).
func recentReq(user, since uint32) *pb.IMRecentContactSessionReq {
	return pb.IMRecentContactSessionReq_builder{UserId: new(user),
		LatestUpdateTime: new(since)}.Build()
}

// recentOf returns the conversations in an answer to recentReq.
func recentOf(res *pb.IMRecentContactSessionRsp) []im.RecentSession {
	list := make([]im.RecentSession, 0, len(res.GetContactSessionList()))
	for _, s := range res.GetContactSessionList() {
		list = append(list, im.RecentSession{
			Peer: s.GetSessionId(), Type: s.GetSessionType(), Updated: s.GetUpdatedTime(),
			Removed: s.GetSessionStatus() == pb.SessionStatusType_SESSION_STATUS_DELETE,
			Latest: im.Message{ID: s.GetLatestMsgId(), From: s.GetLatestMsgFromUserId(),
				Type: s.GetLatestMsgType(), Data: s.GetLatestMsgData()},
		})
	}
	return list
}

// Recent returns up to 1,000 conversations changed since a time (unix seconds), or 100
// since 0, newest first, each with its last message, which has no time.
func Recent(ctx context.Context, c Caller, since uint32) ([]im.RecentSession, error) {
	var res pb.IMRecentContactSessionRsp
	if err := c.Call(ctx, recentReq(c.UserID(), since), &res); err != nil {
		return nil, err
	}
	return recentOf(&res), nil
}

// unreadReq returns the request for the unread counts.
func unreadReq(user uint32) *pb.IMUnreadMsgCntReq {
	return pb.IMUnreadMsgCntReq_builder{UserId: new(user)}.Build()
}

// unreadOf returns the counts in an answer to unreadReq.
func unreadOf(res *pb.IMUnreadMsgCntRsp) []im.Unread {
	list := make([]im.Unread, 0, len(res.GetUnreadinfoList()))
	for _, u := range res.GetUnreadinfoList() {
		list = append(list, im.Unread{
			Peer: u.GetSessionId(), Type: u.GetSessionType(), Count: u.GetUnreadCnt(),
			Latest: im.Message{ID: u.GetLatestMsgId(), From: u.GetLatestMsgFromUserId(),
				Type: u.GetLatestMsgType(), Data: u.GetLatestMsgData()},
		})
	}
	return list
}

// Unread returns the conversations with unread messages, each with its count and last
// message, which has no time.
func Unread(ctx context.Context, c Caller) ([]im.Unread, error) {
	var res pb.IMUnreadMsgCntRsp
	if err := c.Call(ctx, unreadReq(c.UserID()), &res); err != nil {
		return nil, err
	}
	return unreadOf(&res), nil
}

// historyReq returns the request for up to n messages with p with ids of at most begin
// (0: from the newest).
func historyReq(user uint32, p Peer, begin uint32, n int) *pb.IMGetMsgListReq {
	return pb.IMGetMsgListReq_builder{
		UserId: new(user), SessionType: p.SessionType().Enum(), SessionId: new(p.ID),
		MsgIdBegin: new(begin), MsgCnt: new(uint32(n)),
	}.Build()
}

// History returns up to n messages of the conversation with p with ids of at most begin
// (0: from the newest), newest first. Servers return at most 100 per call, or fewer by
// their configuration.
func History(ctx context.Context, c Caller, p Peer, begin uint32, n int) ([]im.Message, error) {
	var res pb.IMGetMsgListRsp
	if err := c.Call(ctx, historyReq(c.UserID(), p, begin, n), &res); err != nil {
		return nil, err
	}
	return messagesOf(c.UserID(), p, res.GetMsgList()), nil
}

// ByID returns the messages of the conversation with p with the given ids. Ids without a
// message are left out.
func ByID(ctx context.Context, c Caller, p Peer, ids []uint32) ([]im.Message, error) {
	req := pb.IMGetMsgByIdReq_builder{
		UserId: new(c.UserID()), SessionType: p.SessionType().Enum(), SessionId: new(p.ID),
		MsgIdList: ids,
	}.Build()
	var res pb.IMGetMsgByIdRsp
	if err := c.Call(ctx, req, &res); err != nil {
		return nil, err
	}
	return messagesOf(c.UserID(), p, res.GetMsgList()), nil
}

func messagesOf(self uint32, p Peer, list []*pb.MsgInfo) []im.Message {
	msgs := make([]im.Message, 0, len(list))
	for _, m := range list {
		msgs = append(msgs, p.message(self, m))
	}
	return msgs
}

// LatestID returns the id of the newest message of the conversation with p, 0 when there
// is none.
func LatestID(ctx context.Context, c Caller, p Peer) (uint32, error) {
	req := pb.IMGetLatestMsgIdReq_builder{UserId: new(c.UserID()),
		SessionType: p.SessionType().Enum(), SessionId: new(p.ID)}.Build()
	var res pb.IMGetLatestMsgIdRsp
	if err := c.Call(ctx, req, &res); err != nil {
		return 0, err
	}
	return res.GetLatestMsgId(), nil
}

// ServerTime returns the server's time in unix seconds.
func ServerTime(ctx context.Context, c Caller) (uint32, error) {
	var res pb.IMClientTimeRsp
	if err := c.Call(ctx, &pb.IMClientTimeReq{}, &res); err != nil {
		return 0, err
	}
	return res.GetServerTime(), nil
}
