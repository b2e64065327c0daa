package persona

import (
	"maps"
	"slices"
	"time"

	"teamtalk/proto/pb"
)

// syncStep sends the asks of the first step, and the next step once all are answered. The
// caller holds mu.
func (c *Client) syncStep(steps [][]Ask) {
	if len(steps) == 0 {
		c.setState(Online)
		return
	}
	open := len(steps[0])
	for _, a := range steps[0] {
		c.syncAsk(a, func() {
			if open--; open == 0 {
				c.syncStep(steps[1:])
			}
		})
	}
}

// since returns the time sent with an ask.
func (c *Client) since(a Ask, rule SyncTime) *uint32 {
	if rule == SinceZero {
		return new(uint32(0))
	}
	return new(c.times[a])
}

// synced notes the time for the next ask.
func (c *Client) synced(a Ask, rule SyncTime, answer, newest uint32) {
	switch rule {
	case SinceAnswer:
		c.times[a] = answer
	case SinceOwnClock:
		c.times[a] = uint32(time.Now().Add(c.opt.ClockAhead).Unix())
	case SinceNewest:
		c.times[a] = max(c.times[a], newest)
	}
}

// syncAsk sends one request, and calls done with its answer.
func (c *Client) syncAsk(a Ask, done func()) {
	id := new(c.self.GetUserId())
	switch a {
	case AskDepartments:
		req := pb.IMDepartmentReq_builder{UserId: id,
			LatestUpdateTime: c.since(a, c.row.DepartTime)}.Build()
		c.ask(req, pb.CmdDepartmentRsp, func(m pb.Message) {
			c.synced(a, c.row.DepartTime, m.(*pb.IMDepartmentRsp).GetLatestUpdateTime(), 0)
			done()
		})
	case AskUsers:
		req := pb.IMAllUserReq_builder{UserId: id,
			LatestUpdateTime: c.since(a, c.row.UserTime)}.Build()
		c.ask(req, pb.CmdAllUserRsp, func(m pb.Message) {
			c.addUsers(m.(*pb.IMAllUserRsp))
			done()
		})
	case AskSessions:
		c.askSessions(id, done)
	case AskGroups:
		c.askGroups(id, done)
	case AskUnread:
		req := pb.IMUnreadMsgCntReq_builder{UserId: id}.Build()
		c.ask(req, pb.CmdUnreadMsgCntRsp, func(m pb.Message) {
			c.fetchUnread(m.(*pb.IMUnreadMsgCntRsp))
			done()
		})
	case AskFiles:
		req := pb.IMFileHasOfflineReq_builder{UserId: id}.Build()
		c.ask(req, pb.CmdFileHasOfflineRsp, func(pb.Message) { done() })
	}
}

// addUsers takes a list of users, or one part of it.
func (c *Client) addUsers(m *pb.IMAllUserRsp) {
	for _, u := range m.GetUserList() {
		c.users[u.GetUserId()] = u
	}
	c.synced(AskUsers, c.row.UserTime, m.GetLatestUpdateTime(), 0)
}

func (c *Client) askSessions(id *uint32, done func()) {
	req := pb.IMRecentContactSessionReq_builder{UserId: id,
		LatestUpdateTime: c.since(AskSessions, c.row.SessionTime)}.Build()
	c.ask(req, pb.CmdRecentContactSessionRsp, func(m pb.Message) {
		newest := uint32(0)
		for _, s := range m.(*pb.IMRecentContactSessionRsp).GetContactSessionList() {
			c.chat(peerOf(s.GetSessionType(), s.GetSessionId()))
			newest = max(newest, s.GetUpdatedTime())
		}
		c.synced(AskSessions, c.row.SessionTime, 0, newest)
		done()
	})
}

func (c *Client) askGroups(id *uint32, done func()) {
	c.ask(pb.IMNormalGroupListReq_builder{UserId: id}.Build(), pb.CmdNormalGroupListRsp,
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
			c.ask(req, pb.CmdGroupInfoListRsp, func(m pb.Message) {
				c.addGroups(m.(*pb.IMGroupInfoListRsp))
				done()
			})
		})
}

// askGroup fetches a group that changed.
func (c *Client) askGroup(group uint32) {
	version := pb.GroupVersionInfo_builder{GroupId: &group, Version: new(uint32(0))}.Build()
	c.ask(pb.IMGroupInfoListReq_builder{UserId: new(c.self.GetUserId()),
		GroupVersionList: []*pb.GroupVersionInfo{version}}.Build(), pb.CmdGroupInfoListRsp,
		func(m pb.Message) { c.addGroups(m.(*pb.IMGroupInfoListRsp)) })
}

func (c *Client) addGroups(m *pb.IMGroupInfoListRsp) {
	for _, g := range m.GetGroupInfoList() {
		c.groups[g.GetGroupId()] = g
	}
}

// fetchUnread asks for the unread messages of each conversation.
func (c *Client) fetchUnread(m *pb.IMUnreadMsgCntRsp) {
	for _, u := range m.GetUnreadinfoList() {
		p := peerOf(u.GetSessionType(), u.GetSessionId())
		c.chat(p).unread = int(u.GetUnreadCnt())
		c.fetch(p, u.GetLatestMsgId(), u.GetUnreadCnt(), c.row.ListSeq, nil)
	}
}

// fetch asks for count messages up to begin, and shows those that are not shown yet.
func (c *Client) fetch(p Peer, begin, count uint32, seq uint16, done func(*pb.IMGetMsgListRsp)) {
	req := pb.IMGetMsgListReq_builder{UserId: new(c.self.GetUserId()),
		SessionType: p.sessionType().Enum(), SessionId: &p.ID,
		MsgIdBegin: &begin, MsgCnt: &count}.Build()
	if seq == 0 {
		seq = c.nextSeq()
	}
	c.pending = append(c.pending, &request{seq: seq, want: pb.CmdGetMsgListRsp, peer: &p,
		got: func(m pb.Message) {
			list := m.(*pb.IMGetMsgListRsp)
			c.listed(p, list)
			if done != nil {
				done(list)
			}
		}})
	c.write(seq, req)
}

// askStatus asks for the status of all known users, as Windows does after each IMUsersInfoRsp.
func (c *Client) askStatus() {
	const atMost = 300 // users in one request
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(c.users)), atMost) {
		c.ask(pb.IMUsersStatReq_builder{UserId: new(c.self.GetUserId()), UserIdList: ids}.Build(),
			pb.CmdUsersStatRsp, func(m pb.Message) {
				for _, s := range m.(*pb.IMUsersStatRsp).GetUserStatList() {
					c.online[s.GetUserId()] = s.GetStatus()
				}
			})
	}
}

// Users returns how many users the client knows.
func (c *Client) Users() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.users)
}

// Group returns a group as far as the client knows it, nil when it does not.
func (c *Client) Group(id uint32) *pb.GroupInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.groups[id]
}

// Status returns the last status heard of a user, 0 when none was.
func (c *Client) Status(user uint32) pb.UserStatType {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.online[user]
}
