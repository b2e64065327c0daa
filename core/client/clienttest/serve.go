package clienttest

import (
	"bufio"
	"io"
	"slices"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// serve reads the frames of one connection.
func (c *conn) serve() {
	defer c.gone()
	r := bufio.NewReader(c.nc)
	for {
		head := make([]byte, pdu.HeaderLen)
		if _, err := io.ReadFull(r, head); err != nil {
			return
		}
		h := pdu.ParseHeader(head)
		if h.Length < pdu.HeaderLen || h.Length > pdu.MaxClientFrame {
			return
		}
		body := make([]byte, h.Length-pdu.HeaderLen)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		if !c.take(h, body) {
			return
		}
	}
}

// gone closes the connection and tells the others that its user is offline.
func (c *conn) gone() {
	_ = c.nc.Close()
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	delete(c.s.conns, c)
	c.presence(pb.UserStatType_USER_STATUS_OFFLINE)
}

// presence sends the status of this connection's user to all others. The caller holds
// c.s.mu.
func (c *conn) presence(stat pb.UserStatType) {
	if c.user == nil {
		return
	}
	for other := range c.s.conns {
		if other != c && other.user != nil {
			other.send(0, pb.IMUserStatNotify_builder{UserStat: pb.UserStat_builder{
				UserId: new(c.user.ID), Status: stat.Enum()}.Build()}.Build())
		}
	}
}

// take records a frame and answers it. False ends the connection.
func (c *conn) take(h pdu.Header, body []byte) bool {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	f := Frame{Conn: c.id, Command: h.Command, Seq: h.Seq, Body: body}
	if c.user != nil {
		f.User = c.user.ID
	}
	s.received = append(s.received, f)
	s.changed.Broadcast()
	if s.filter != nil && !s.filter(f) {
		return true
	}
	m, err := pdu.Decode(h.Command, body)
	if err != nil {
		return false
	}
	return c.answer(h.Seq, m)
}

// answer carries out a request. The caller holds c.s.mu.
func (c *conn) answer(seq uint16, m pb.Message) bool {
	s := c.s
	switch m := m.(type) {
	case *pb.IMHeartBeat:
		c.send(seq, m)
		return true
	case *pb.IMLoginReq:
		return c.login(seq, m)
	case *pb.IMLogoutReq:
		c.send(seq, pb.IMLogoutRsp_builder{ResultCode: new(uint32(0))}.Build())
		return false
	}
	if c.user == nil {
		return true
	}
	self := c.user.ID
	switch m := m.(type) {
	case *pb.MsgData:
		c.message(seq, m)
	case *pb.IMMsgDataReadAck:
		delete(s.unread, session{self, m.GetSessionId(), m.GetSessionType()})
	case *pb.IMClientTimeReq:
		c.send(seq, pb.IMClientTimeRsp_builder{ServerTime: new(s.now)}.Build())
	case *pb.IMUploadTicketReq:
		c.send(seq, pb.IMUploadTicketRsp_builder{ResultCode: new(uint32(0)),
			Ticket: new(s.ticket)}.Build())
	case *pb.IMAllUserReq:
		rsp := pb.IMAllUserRsp_builder{UserId: new(self), LatestUpdateTime: new(s.now)}
		for _, u := range s.sortedUsers() {
			rsp.UserList = append(rsp.UserList, u.info())
		}
		c.send(seq, rsp.Build())
	case *pb.IMUsersStatReq:
		rsp := pb.IMUsersStatRsp_builder{UserId: new(self)}
		for _, id := range m.GetUserIdList() {
			stat := pb.UserStatType_USER_STATUS_OFFLINE
			if s.onlineLocked(id) > 0 {
				stat = pb.UserStatType_USER_STATUS_ONLINE
			}
			rsp.UserStatList = append(rsp.UserStatList,
				pb.UserStat_builder{UserId: new(id), Status: stat.Enum()}.Build())
		}
		c.send(seq, rsp.Build())
	default:
		if !c.answerGroups(seq, m) && !c.answerSettings(seq, m) && !c.answerFiles(seq, m) {
			c.answerHistory(seq, m)
		}
	}
	return true
}

// answerHistory answers requests about stored messages. The caller holds c.s.mu.
func (c *conn) answerHistory(seq uint16, m pb.Message) {
	s, self := c.s, c.user.ID
	switch m := m.(type) {
	case *pb.IMRecentContactSessionReq:
		c.send(seq, c.recent(m.GetLatestUpdateTime()))
	case *pb.IMUnreadMsgCntReq:
		rsp := pb.IMUnreadMsgCntRsp_builder{UserId: new(self), TotalCnt: new(uint32(0))}
		for key, n := range s.unread {
			list := s.visible(key)
			if key.user != self || len(list) == 0 {
				continue
			}
			last := list[len(list)-1]
			*rsp.TotalCnt += n
			rsp.UnreadinfoList = append(rsp.UnreadinfoList, pb.UnreadInfo_builder{
				SessionId: new(key.peer), SessionType: key.kind.Enum(), UnreadCnt: new(n),
				LatestMsgId: new(last.ID), LatestMsgData: last.Data,
				LatestMsgType: last.Type.Enum(), LatestMsgFromUserId: new(last.From),
			}.Build())
		}
		c.send(seq, rsp.Build())
	case *pb.IMGetMsgListReq:
		rsp := pb.IMGetMsgListRsp_builder{
			UserId: new(self), SessionType: m.GetSessionType().Enum(),
			SessionId: new(m.GetSessionId()), MsgIdBegin: new(m.GetMsgIdBegin()),
		}
		list := s.visible(session{self, m.GetSessionId(), m.GetSessionType()})
		for _, msg := range slices.Backward(list[:max(0, len(list)-s.lag)]) {
			if b := m.GetMsgIdBegin(); (b == 0 || msg.ID <= b) &&
				len(rsp.MsgList) < min(100, int(m.GetMsgCnt())) {
				rsp.MsgList = append(rsp.MsgList, info(msg))
			}
		}
		c.send(seq, rsp.Build())
	case *pb.IMGetMsgByIdReq:
		rsp := pb.IMGetMsgByIdRsp_builder{UserId: new(self), SessionType: m.GetSessionType().Enum(),
			SessionId: new(m.GetSessionId())}
		for _, msg := range s.visible(session{self, m.GetSessionId(), m.GetSessionType()}) {
			if slices.Contains(m.GetMsgIdList(), msg.ID) {
				rsp.MsgList = append(rsp.MsgList, info(msg))
			}
		}
		c.send(seq, rsp.Build())
	case *pb.IMGetLatestMsgIdReq:
		n := uint32(0)
		if list := s.visible(session{self, m.GetSessionId(), m.GetSessionType()}); len(list) > 0 {
			n = list[len(list)-1].ID
		}
		c.send(seq, pb.IMGetLatestMsgIdRsp_builder{
			UserId: new(self), SessionType: m.GetSessionType().Enum(),
			SessionId: new(m.GetSessionId()), LatestMsgId: new(n),
		}.Build())
	}
}

// login checks the password. The caller holds c.s.mu.
func (c *conn) login(seq uint16, m *pb.IMLoginReq) bool {
	u := c.s.users[m.GetUserName()]
	if u == nil || u.password != m.GetPassword() {
		c.send(seq, pb.IMLoginRes_builder{
			ServerTime:   new(c.s.now),
			ResultCode:   pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED.Enum(),
			ResultString: new("wrong name or password"),
		}.Build())
		return false
	}
	c.s.now++ // messages stored before are from an earlier second
	c.user = u
	res := pb.IMLoginRes_builder{
		ServerTime: new(c.s.now), ResultCode: pb.ResultType_REFUSE_REASON_NONE.Enum(),
		UserInfo: u.info(),
	}.Build()
	if c.s.ticket != "" && m.GetUploadTickets() {
		res.SetUploadTickets(true)
	}
	c.send(seq, res)
	c.presence(pb.UserStatType_USER_STATUS_ONLINE)
	return true
}

// message stores, acks and delivers a message. The caller holds c.s.mu.
func (c *conn) message(seq uint16, d *pb.MsgData) {
	s, from, to := c.s, c.user.ID, d.ToSessionID
	m := im.Message{From: from, To: to, Type: d.Type, Data: d.Data}
	if g := s.groups[to]; m.Type.IsGroup() && (g == nil || !slices.Contains(g.Members, from)) {
		return
	}
	if s.refuse != nil && d.WantRefusal {
		if why := s.refuse(d); why != 0 {
			c.send(seq, pb.IMMsgDataAck_builder{UserId: new(from), SessionId: new(to),
				MsgId:       new(uint32(0)),
				SessionType: sessionOf(from, m).kind.Enum(), Refusal: why.Enum()}.Build())
			return
		}
	}
	id, again := s.named[string(d.ClientMsgID)]
	if !again || len(d.ClientMsgID) == 0 {
		m = s.put(m)
		id = m.ID
		s.named[string(d.ClientMsgID)] = id
		frame, err := pdu.Append(nil, 0, msgData(m))
		if err != nil {
			s.t.Fatalf("push: %v", err)
		}
		for other := range s.conns {
			if other != c && other.user != nil && slices.Contains(s.recipients(m), other.user.ID) {
				other.write(frame)
			}
		}
	}
	if s.muted {
		return
	}
	c.send(seq, pb.IMMsgDataAck_builder{
		UserId: new(from), SessionId: new(to), MsgId: new(id),
		SessionType: sessionOf(from, m).kind.Enum(),
	}.Build())
}

// recent returns this user's conversations, newest first. The caller holds c.s.mu.
func (c *conn) recent(since uint32) *pb.IMRecentContactSessionRsp {
	s, self := c.s, c.user.ID
	rsp := pb.IMRecentContactSessionRsp_builder{UserId: new(self)}
	var sessions []session
	for _, u := range s.sortedUsers() {
		sessions = append(sessions, session{self, u.ID, pb.SessionType_SESSION_TYPE_SINGLE})
	}
	for _, g := range s.sortedGroups() {
		sessions = append(sessions, session{self, g.ID, pb.SessionType_SESSION_TYPE_GROUP})
	}
	for _, sess := range sessions {
		list := s.visible(sess)
		if len(list) == 0 || list[len(list)-1].Created < since || s.removed[sess] {
			continue
		}
		last := list[len(list)-1]
		rsp.ContactSessionList = append(rsp.ContactSessionList, pb.ContactSessionInfo_builder{
			SessionId: new(sess.peer), SessionType: sess.kind.Enum(),
			SessionStatus: pb.SessionStatusType_SESSION_STATUS_OK.Enum(),
			UpdatedTime:   new(last.Created), LatestMsgId: new(last.ID), LatestMsgData: last.Data,
			LatestMsgType:       last.Type.Enum(),
			LatestMsgFromUserId: new(last.From),
		}.Build())
	}
	slices.SortFunc(rsp.ContactSessionList,
		func(a, b *pb.ContactSessionInfo) int {
			return int(b.GetUpdatedTime()) - int(a.GetUpdatedTime())
		})
	return rsp.Build()
}

func (u *user) info() *pb.UserInfo {
	return pb.UserInfo_builder{
		UserId: new(u.ID), UserGender: new(uint32(0)), UserNickName: new(u.Nick),
		AvatarUrl: new(u.Avatar), DepartmentId: new(u.DepartID), Email: new(""),
		UserRealName: new(u.Name), UserTel: new(""), UserDomain: new(u.Name),
		Status: new(uint32(0)), SignInfo: new(u.SignInfo),
	}.Build()
}

func info(m im.Message) *pb.MsgInfo {
	return pb.MsgInfo_builder{
		MsgId: new(m.ID), FromSessionId: new(m.From), CreateTime: new(m.Created),
		MsgType: m.Type.Enum(), MsgData: m.Data,
	}.Build()
}

// send writes a frame and ignores a closed connection. The caller holds c.s.mu.
func (c *conn) send(seq uint16, m pb.Message) {
	frame, err := pdu.Append(nil, seq, m)
	if err != nil {
		c.s.t.Fatalf("answer: %v", err)
	}
	c.write(frame)
}

func (c *conn) write(b []byte) { _, _ = c.nc.Write(b) }
