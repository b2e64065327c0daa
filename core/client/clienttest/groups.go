package clienttest

import (
	"cmp"
	"slices"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// sortedGroups returns all groups by id. The caller holds s.mu.
func (s *Server) sortedGroups() []*group {
	var list []*group
	for _, g := range s.groups {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *group) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// addGroup creates a group. The caller holds s.mu.
func (s *Server) addGroup(g im.Group) *group {
	made := &group{Group: g, from: make(map[uint32]uint32)}
	made.Version = 1
	made.Members = slices.DeleteFunc(slices.Clone(g.Members),
		func(id uint32) bool { return s.byID[id] == nil })
	slices.Sort(made.Members)
	made.Members = slices.Compact(made.Members)
	s.groups[g.ID] = made
	return made
}

// changeGroup changes a group's members and notifies every connection but the asking one.
// The caller holds s.mu.
func (s *Server) changeGroup(c *conn, by, id uint32, t pb.GroupModifyType,
	users []uint32) im.MemberChange {
	g := s.groups[id]
	var changed []uint32
	for _, u := range users {
		in := slices.Contains(g.Members, u)
		switch {
		case t == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD && !in && s.byID[u] != nil:
			g.Members = append(g.Members, u)
			g.from[u] = uint32(len(s.history[im.GroupKey(id)]))
		case t == pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL && in:
			g.Members = slices.DeleteFunc(slices.Clone(g.Members),
				func(m uint32) bool { return m == u })
			delete(s.unread, session{u, id, pb.SessionType_SESSION_TYPE_GROUP})
		default:
			continue
		}
		changed = append(changed, u)
	}
	slices.Sort(g.Members)
	if len(changed) > 0 {
		g.Version++
	}
	notify := pb.IMGroupChangeMemberNotify_builder{
		UserId: new(by), ChangeType: t.Enum(), GroupId: new(id), CurUserIdList: g.Members,
		ChgUserIdList: changed,
	}.Build()
	for other := range s.conns {
		if other != c && other.user != nil &&
			(slices.Contains(g.Members, other.user.ID) || slices.Contains(changed, other.user.ID)) {
			other.send(0, notify)
		}
	}
	return im.MemberChange{Version: g.Version, Current: g.Members, Changed: changed}
}

// answerGroups answers requests about groups, and returns false for others. The caller
// holds c.s.mu.
func (c *conn) answerGroups(seq uint16, m pb.Message) bool {
	s, self := c.s, c.user.ID
	switch m := m.(type) {
	case *pb.IMNormalGroupListReq:
		rsp := pb.IMNormalGroupListRsp_builder{UserId: new(self)}
		for _, g := range s.sortedGroups() {
			if g.Type == pb.GroupType_GROUP_TYPE_NORMAL && slices.Contains(g.Members, self) {
				rsp.GroupVersionList = append(rsp.GroupVersionList,
					pb.GroupVersionInfo_builder{GroupId: new(g.ID),
						Version: new(g.Version)}.Build())
			}
		}
		c.send(seq, rsp.Build())
	case *pb.IMGroupInfoListReq:
		rsp := pb.IMGroupInfoListRsp_builder{UserId: new(self)}
		for _, v := range m.GetGroupVersionList() {
			if g := s.groups[v.GetGroupId()]; g != nil && g.Version > v.GetVersion() {
				rsp.GroupInfoList = append(rsp.GroupInfoList, pb.GroupInfo_builder{
					GroupId: new(g.ID), Version: new(g.Version), GroupName: new(g.Name),
					GroupAvatar: new(g.Avatar), GroupCreatorId: new(g.Creator),
					GroupType:       g.Type.Enum(),
					ShieldStatus:    new(flag(s.shields[[2]uint32{self, g.ID}])),
					GroupMemberList: g.Members,
				}.Build())
			}
		}
		c.send(seq, rsp.Build())
	case *pb.IMGroupCreateReq:
		g := s.addGroup(im.Group{
			ID: uint32(len(s.groups) + 1), Name: m.GetGroupName(), Avatar: m.GetGroupAvatar(),
			Creator: self, Type: m.GetGroupType(), Members: m.GetMemberIdList(),
		})
		c.send(seq, pb.IMGroupCreateRsp_builder{
			UserId: new(self), ResultCode: new(uint32(0)), GroupId: new(g.ID),
			GroupName: new(g.Name), UserIdList: g.Members,
		}.Build())
	case *pb.IMGroupChangeMemberReq:
		c.changeMembers(seq, m)
	case *pb.IMGroupShieldReq:
		s.shields[[2]uint32{self, m.GetGroupId()}] = m.GetShieldStatus() != 0
		c.send(seq, pb.IMGroupShieldRsp_builder{UserId: new(self), GroupId: new(m.GetGroupId()),
			ResultCode: new(uint32(0))}.Build())
	default:
		return false
	}
	return true
}

// changeMembers changes members: every member may add, the creator may remove, and each
// user may leave. The caller holds c.s.mu.
func (c *conn) changeMembers(seq uint16, m *pb.IMGroupChangeMemberReq) {
	s, self := c.s, c.user.ID
	rsp := pb.IMGroupChangeMemberRsp_builder{
		UserId: new(self), ChangeType: m.GetChangeType().Enum(), ResultCode: new(uint32(1)),
		GroupId: new(m.GetGroupId()),
	}
	g := s.groups[m.GetGroupId()]
	leave := slices.Equal(m.GetMemberIdList(), []uint32{self})
	add := m.GetChangeType() == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	if g != nil && slices.Contains(g.Members, self) &&
		(g.Creator == self || leave || add && g.Type == pb.GroupType_GROUP_TYPE_TMP) {
		change := s.changeGroup(c, self, g.ID, m.GetChangeType(), m.GetMemberIdList())
		*rsp.ResultCode, rsp.CurUserIdList, rsp.ChgUserIdList = 0, change.Current, change.Changed
	}
	c.send(seq, rsp.Build())
}

// answerSettings answers requests about the user and the directory, and returns false for
// others. The caller holds c.s.mu.
func (c *conn) answerSettings(seq uint16, m pb.Message) bool {
	return c.answerDirectory(seq, m) || c.answerProfile(seq, m) || c.answerDevices(seq, m)
}

// answerDirectory answers requests for users and departments. The caller holds c.s.mu.
func (c *conn) answerDirectory(seq uint16, m pb.Message) bool {
	s, self := c.s, c.user.ID
	switch m := m.(type) {
	case *pb.IMUsersInfoReq:
		rsp := pb.IMUsersInfoRsp_builder{UserId: new(self)}
		for _, id := range m.GetUserIdList() {
			if u := s.byID[id]; u != nil {
				rsp.UserInfoList = append(rsp.UserInfoList, u.info())
			}
		}
		c.send(seq, rsp.Build())
	case *pb.IMDepartmentReq:
		rsp := pb.IMDepartmentRsp_builder{UserId: new(self),
			LatestUpdateTime: new(m.GetLatestUpdateTime())}
		for _, d := range s.departs {
			*rsp.LatestUpdateTime = max(*rsp.LatestUpdateTime, d.Updated)
			if d.Updated >= m.GetLatestUpdateTime() {
				rsp.DeptList = append(rsp.DeptList, pb.DepartInfo_builder{
					DeptId: new(d.ID), Priority: new(d.Priority), DeptName: new(d.Name),
					ParentDeptId: new(d.Parent), DeptStatus: d.Status.Enum(),
				}.Build())
			}
		}
		c.send(seq, rsp.Build())
	default:
		return false
	}
	return true
}

// answerProfile answers changes of the user's own data and list of conversations. The
// caller holds c.s.mu.
func (c *conn) answerProfile(seq uint16, m pb.Message) bool {
	s, self, done := c.s, c.user.ID, new(uint32(0))
	switch m := m.(type) {
	case *pb.IMChangeSignInfoReq:
		c.user.SignInfo = m.GetSignInfo()
		c.send(seq, pb.IMChangeSignInfoRsp_builder{UserId: new(self), ResultCode: done,
			SignInfo: new(m.GetSignInfo())}.Build())
		c.broadcast(pb.IMSignInfoChangedNotify_builder{ChangedUserId: new(self),
			SignInfo: new(m.GetSignInfo())}.Build())
	case *pb.IMChangeAvatarReq:
		c.user.Avatar = m.GetAvatarUrl()
		c.send(seq, pb.IMChangeAvatarRsp_builder{UserId: new(self), ResultCode: done}.Build())
		c.broadcast(pb.IMAvatarChangedNotify_builder{ChangedUserId: new(self),
			AvatarUrl: new(m.GetAvatarUrl())}.Build())
	case *pb.IMRemoveSessionReq:
		sess := session{self, m.GetSessionId(), m.GetSessionType()}
		if len(s.visible(sess)) == 0 || s.removed[sess] {
			done = new(uint32(1))
		} else {
			s.removed[sess] = true
			delete(s.unread, sess)
			c.others(self, pb.IMRemoveSessionNotify_builder{UserId: new(self),
				SessionType: sess.kind.Enum(), SessionId: new(sess.peer)}.Build())
		}
		c.send(seq, pb.IMRemoveSessionRsp_builder{UserId: new(self), ResultCode: done,
			SessionType: sess.kind.Enum(), SessionId: new(sess.peer)}.Build())
	default:
		return false
	}
	return true
}

// answerDevices answers settings of pushes and requests to the user's other clients. The
// caller holds c.s.mu.
func (c *conn) answerDevices(seq uint16, m pb.Message) bool {
	s, self, done := c.s, c.user.ID, new(uint32(0))
	night := [2]uint32{self, 0}
	switch m := m.(type) {
	case *pb.IMPushShieldReq:
		s.shields[night] = m.GetShieldStatus() != 0
		c.send(seq, pb.IMPushShieldRsp_builder{UserId: new(self), ResultCode: done,
			ShieldStatus: new(m.GetShieldStatus())}.Build())
	case *pb.IMQueryPushShieldReq:
		c.send(seq, pb.IMQueryPushShieldRsp_builder{UserId: new(self), ResultCode: done,
			ShieldStatus: new(flag(s.shields[night]))}.Build())
	case *pb.IMDeviceTokenReq:
		c.send(seq, pb.IMDeviceTokenRsp_builder{UserId: new(self)}.Build())
	case *pb.IMKickPCClientReq:
		c.others(self, pb.IMKickUser_builder{UserId: new(self),
			KickReason: pb.KickReasonType_KICK_REASON_MOBILE_KICK.Enum()}.Build())
		c.send(seq, pb.IMKickPCClientRsp_builder{UserId: new(self), ResultCode: done}.Build())
	case *pb.IMP2PCmdMsg:
		m.SetFromUserId(self)
		c.others(self, m)
		c.others(m.GetToUserId(), m)
	default:
		return false
	}
	return true
}

// others sends to the user's other connections. The caller holds c.s.mu.
func (c *conn) others(user uint32, m pb.Message) {
	for other := range c.s.conns {
		if other != c && other.user != nil && other.user.ID == user {
			other.send(0, m)
		}
	}
}

// broadcast sends to all logged-in connections. The caller holds c.s.mu.
func (c *conn) broadcast(m pb.Message) {
	for other := range c.s.conns {
		if other.user != nil {
			other.send(0, m)
		}
	}
}

func flag(on bool) uint32 {
	if on {
		return 1
	}
	return 0
}
