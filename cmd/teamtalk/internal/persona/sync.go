package persona

import (
	"maps"
	"slices"
	"time"

	"teamtalk/proto/pb"
)

// lists holds what the requests after login return.
type lists struct {
	*device
	chats  *chats
	users  map[uint32]*pb.UserInfo
	groups map[uint32]*pb.GroupInfo
	online map[uint32]pb.UserStatType
	times  map[Ask]uint32
}

// syncStep sends the asks of the first step, and the next step once all are answered. The
// caller holds mu.
func (l *lists) syncStep(steps [][]Ask) {
	if len(steps) == 0 {
		l.setState(Online)
		return
	}
	open := len(steps[0])
	for _, a := range steps[0] {
		l.syncAsk(a, func() {
			if open--; open == 0 {
				l.syncStep(steps[1:])
			}
		})
	}
}

// since returns the time sent with an ask.
func (l *lists) since(a Ask, rule SyncTime) *uint32 {
	if rule == SinceZero {
		return new(uint32(0))
	}
	return new(l.times[a])
}

// synced notes the time for the next ask.
func (l *lists) synced(a Ask, rule SyncTime, answer, newest uint32) {
	switch rule {
	case SinceAnswer:
		l.times[a] = answer
	case SinceOwnClock:
		l.times[a] = uint32(time.Now().Add(l.opt.ClockAhead).Unix())
	case SinceNewest:
		l.times[a] = max(l.times[a], newest)
	}
}

// syncAsk sends one request, and calls done with its answer.
func (l *lists) syncAsk(a Ask, done func()) {
	id := new(l.self.GetUserId())
	switch a {
	case AskDepartments:
		req := pb.IMDepartmentReq_builder{UserId: id,
			LatestUpdateTime: l.since(a, l.row.DepartTime)}.Build()
		l.ask(req, pb.CmdDepartmentRsp, func(m pb.Message) {
			l.synced(a, l.row.DepartTime, m.(*pb.IMDepartmentRsp).GetLatestUpdateTime(), 0)
			done()
		})
	case AskUsers:
		req := pb.IMAllUserReq_builder{UserId: id,
			LatestUpdateTime: l.since(a, l.row.UserTime)}.Build()
		l.ask(req, pb.CmdAllUserRsp, func(m pb.Message) {
			l.addUsers(m.(*pb.IMAllUserRsp))
			done()
		})
	case AskSessions:
		l.askSessions(id, done)
	case AskGroups:
		l.askGroups(id, done)
	case AskUnread:
		req := pb.IMUnreadMsgCntReq_builder{UserId: id}.Build()
		l.ask(req, pb.CmdUnreadMsgCntRsp, func(m pb.Message) {
			l.fetchUnread(m.(*pb.IMUnreadMsgCntRsp))
			done()
		})
	case AskFiles:
		req := pb.IMFileHasOfflineReq_builder{UserId: id}.Build()
		l.ask(req, pb.CmdFileHasOfflineRsp, func(pb.Message) { done() })
	}
}

// addUsers takes a list of users, or one part of it.
func (l *lists) addUsers(m *pb.IMAllUserRsp) {
	for _, u := range m.GetUserList() {
		l.users[u.GetUserId()] = u
	}
	l.synced(AskUsers, l.row.UserTime, m.GetLatestUpdateTime(), 0)
}

func (l *lists) askSessions(id *uint32, done func()) {
	req := pb.IMRecentContactSessionReq_builder{UserId: id,
		LatestUpdateTime: l.since(AskSessions, l.row.SessionTime)}.Build()
	l.ask(req, pb.CmdRecentContactSessionRsp, func(m pb.Message) {
		newest := uint32(0)
		for _, s := range m.(*pb.IMRecentContactSessionRsp).GetContactSessionList() {
			l.chats.chat(peerOf(s.GetSessionType(), s.GetSessionId()))
			newest = max(newest, s.GetUpdatedTime())
		}
		l.synced(AskSessions, l.row.SessionTime, 0, newest)
		done()
	})
}

func (l *lists) askGroups(id *uint32, done func()) {
	l.ask(pb.IMNormalGroupListReq_builder{UserId: id}.Build(), pb.CmdNormalGroupListRsp,
		func(m pb.Message) {
			list := m.(*pb.IMNormalGroupListRsp).GetGroupVersionList()
			if len(list) == 0 {
				done()
				return
			}
			for _, v := range list {
				v.SetVersion(0)
			}
			req := pb.IMGroupInfoListReq_builder{UserId: id, GroupVersionList: list}.Build()
			l.ask(req, pb.CmdGroupInfoListRsp, func(m pb.Message) {
				l.addGroups(m.(*pb.IMGroupInfoListRsp))
				done()
			})
		})
}

// askGroup fetches a group that changed.
func (l *lists) askGroup(group uint32) {
	version := pb.GroupVersionInfo_builder{GroupId: &group, Version: new(uint32(0))}.Build()
	l.ask(pb.IMGroupInfoListReq_builder{UserId: new(l.self.GetUserId()),
		GroupVersionList: []*pb.GroupVersionInfo{version}}.Build(), pb.CmdGroupInfoListRsp,
		func(m pb.Message) { l.addGroups(m.(*pb.IMGroupInfoListRsp)) })
}

func (l *lists) addGroups(m *pb.IMGroupInfoListRsp) {
	for _, g := range m.GetGroupInfoList() {
		l.groups[g.GetGroupId()] = g
	}
}

// fetchUnread asks for the unread messages of each conversation.
func (l *lists) fetchUnread(m *pb.IMUnreadMsgCntRsp) {
	for _, u := range m.GetUnreadinfoList() {
		p := peerOf(u.GetSessionType(), u.GetSessionId())
		l.chats.chat(p).unread = int(u.GetUnreadCnt())
		l.chats.fetch(p, u.GetLatestMsgId(), u.GetUnreadCnt(), l.row.ListSeq, nil)
	}
}

// askStatus asks for the status of all known users, as Windows does after each IMUsersInfoRsp.
func (l *lists) askStatus() {
	const atMost = 300 // users in one request
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(l.users)), atMost) {
		l.ask(pb.IMUsersStatReq_builder{UserId: new(l.self.GetUserId()), UserIdList: ids}.Build(),
			pb.CmdUsersStatRsp, func(m pb.Message) {
				for _, s := range m.(*pb.IMUsersStatRsp).GetUserStatList() {
					l.online[s.GetUserId()] = s.GetStatus()
				}
			})
	}
}

// Users returns how many users the client knows.
func (l *lists) Users() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.users)
}

// UserNamed returns the id of a contact by its login name; 0 when the client has none.
func (l *lists) UserNamed(name string) uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, u := range l.users {
		if u.GetUserRealName() == name {
			return id
		}
	}
	return 0
}

// Group returns a group as far as the client knows it, nil when it does not.
func (l *lists) Group(id uint32) *pb.GroupInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.groups[id]
}

// Status returns the last status heard of a user, 0 when none was.
func (l *lists) Status(user uint32) pb.UserStatType {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.online[user]
}
