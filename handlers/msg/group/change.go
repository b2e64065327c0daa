package group

import (
	"slices"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// HandleChange adds members to a group or removes them. db_proxy decides whether the user
// may.
func (gs *Groups) HandleChange(s *session.Client, seq uint16, m *pb.IMGroupChangeMemberReq) error {
	if _, known := pb.GroupModifyType_name[int32(m.GetChangeType())]; !known {
		return im.Errorf(im.Malformed, "change type %d", m.GetChangeType())
	}
	if len(m.GetMemberIdList()) > im.MaxGroupMembers {
		return s.Send(seq, refusal(s, m))
	}
	m.SetUserId(s.User)
	m.ClearAttachData()
	m.ClearWantMembers()
	if s.ClientType == pb.ClientType_CLIENT_TYPE_IOS &&
		m.GetChangeType() == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD {
		m.SetWantMembers(true) // see refused
	}
	return gs.opt.Queries.EnterChange(s, m, func(done func()) {
		switch gs.pace.begin(s.User, func(counted int) { gs.ask(s, seq, m, counted, done) }) {
		case tooMany:
			gs.metrics.paced.WithLabelValues("refused").Inc()
			s.Loop().Post(done)
			gs.tooOften(s, seq, m)
		case waits:
			gs.metrics.paced.WithLabelValues("waited").Inc()
		}
	})
}

// ask asks db_proxy to make a change. counted is from begin. Any goroutine.
func (gs *Groups) ask(s *session.Client, seq uint16, m *pb.IMGroupChangeMemberReq, counted int,
	done func()) {
	// The answer is not taken on the client's loop: a message stored after the change is
	// delivered after it, see Groups.
	user := s.User
	gs.store.Call(nil, im.GroupKey(m.GetGroupId()), seq, m, func(rsp pb.Message, err error) {
		s.Loop().Post(done)
		gs.pace.end(user, counted, gs.answered(s, seq, rsp, err))
	})
}

// tooOften answers a change that would wait for too long. Loop only.
func (gs *Groups) tooOften(s *session.Client, seq uint16, m *pb.IMGroupChangeMemberReq) {
	gs.often.pace.Warn(gs.opt.Log, gs.opt.Now(), "change of members refused: its user makes "+
		"changes that too many members are told of", "conn", s.ID(), "user", s.User,
		"group", m.GetGroupId())
	if s.ClientType == pb.ClientType_CLIENT_TYPE_IOS {
		return // it would store the group without members, see refused
	}
	_ = s.Push(seq, refusal(s, m)) // a full mailbox closes the session
}

// refusal returns the answer to a change that is not made.
func refusal(s *session.Client, m *pb.IMGroupChangeMemberReq) *pb.IMGroupChangeMemberRsp {
	rsp := &pb.IMGroupChangeMemberRsp{}
	rsp.SetUserId(s.User)
	rsp.SetChangeType(m.GetChangeType())
	rsp.SetResultCode(1)
	rsp.SetGroupId(m.GetGroupId())
	return rsp
}

// answered takes db_proxy's answer to a change, and returns how many members are told. It runs
// where the answers of a group arrive, in their order.
func (gs *Groups) answered(s *session.Client, seq uint16, rsp pb.Message, err error) (told int) {
	answer, err := link.Answer[*pb.IMGroupChangeMemberRsp](rsp, err)
	if err != nil {
		gs.opt.QueriesFailed.WithLabelValues(im.KindOf(err).String()).Inc()
		gs.often.change.Warn(gs.opt.Log, gs.opt.Now(), "change of members not answered",
			"conn", s.ID(), "user", s.User, "seq", seq, "err", err)
		return 0
	}
	answer.ClearAttachData()
	if answer.GetResultCode() != 0 || len(answer.GetChgUserIdList()) == 0 {
		answer.ClearVersion()
		refused(s, answer)
		_ = s.Push(seq, answer) // a full mailbox closes the session
		return 0
	}
	told = len(answer.GetCurUserIdList()) + len(answer.GetChgUserIdList())
	n := notifyOf(answer)
	gs.changed(n, func(cur, chg []uint32) {
		answer.SetCurUserIdList(cur)
		answer.ClearVersion()
		_ = s.Push(seq, answer)
		gs.tell(n, cur, chg, s)
	})
	gs.opt.Others.Forward(n)
	return told
}

// refused puts the answer to a refused change into the form that the client reads: code 1
// without members. iOS takes that form, after an addition, for a group without members, and
// stores it. It gets code 0 with the members that db_proxy named, and nobody added.
func refused(s *session.Client, answer *pb.IMGroupChangeMemberRsp) {
	switch {
	case answer.GetResultCode() == 0:
	case s.ClientType == pb.ClientType_CLIENT_TYPE_IOS && len(answer.GetCurUserIdList()) > 0 &&
		answer.GetChangeType() == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD:
		answer.SetResultCode(0)
	default:
		answer.SetCurUserIdList(nil)
	}
}

// notifyOf returns the notify to other servers of a change with that answer.
func notifyOf(rsp *pb.IMGroupChangeMemberRsp) *pb.IMGroupChangeMemberNotify {
	n := &pb.IMGroupChangeMemberNotify{}
	n.SetUserId(rsp.GetUserId())
	n.SetChangeType(rsp.GetChangeType())
	n.SetGroupId(rsp.GetGroupId())
	n.SetCurUserIdList(rsp.GetCurUserIdList())
	n.SetChgUserIdList(rsp.GetChgUserIdList())
	if rsp.HasVersion() {
		n.SetVersion(rsp.GetVersion())
	}
	return n
}

// tell sends a change to the devices here of all members cur, of the users chg that were
// added or removed, and of the user that made the change, except but, the session of the
// request.
func (gs *Groups) tell(n *pb.IMGroupChangeMemberNotify, cur, chg []uint32, but *session.Client) {
	if len(chg) == 0 {
		return // undone by a later change
	}
	users := append(slices.Clone(cur), chg...)
	users = append(users, n.GetUserId())
	slices.Sort(users)
	lists := gs.opt.Online.ByLoop(slices.Compact(users))
	if len(lists) == 0 {
		return
	}
	out := &pb.IMGroupChangeMemberNotify{} // n itself is sent to other servers
	out.SetUserId(n.GetUserId())
	out.SetChangeType(n.GetChangeType())
	out.SetGroupId(n.GetGroupId())
	out.SetCurUserIdList(cur)
	out.SetChgUserIdList(chg)
	frame, err := pdu.Append(nil, 0, out)
	if err != nil {
		gs.opt.Log.Error("notify not encoded", "group", n.GetGroupId(), "err", err)
		return
	}
	gs.opt.Fanout.PostLists(lists, but, 0, frame, session.Tag{})
}

// HandleRoutedChange takes a change made on another message server.
func (gs *Groups) HandleRoutedChange(_ *session.Link, _ uint16,
	n *pb.IMGroupChangeMemberNotify) error {
	gs.changed(n, func(cur, chg []uint32) { gs.tell(n, cur, chg, nil) })
	return nil
}
