package passing

import (
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// attachment is a request whose length is known.
type attachment interface {
	pb.Attachment
	proto.Message
}

// request is what a client asks another server by way of this one.
type request interface {
	attachment
	SetUserId(uint32)
}

// query registers a request that only reads, and that another server answers. The message
// server only sets the user, and forwards the answer as it is.
func query[Q, R any, PQ interface {
	*Q
	request
}, PR interface {
	*R
	pb.Attachment
}](h *Handler, r *router.Router[*session.Client], peer func() Peer) {
	router.Handle(r, router.LoggedIn, func(s *session.Client, seq uint16, m PQ) error {
		return h.pass(s, seq, peer(), m, PR(new(R)).Command())
	})
}

// Routes registers the requests that are forwarded. Requests that read messages, and those
// that create a group, go to db. Requests for what a client shows first, and changes that
// such a request must see, go to first. query registers a request that only reads, and whose
// answer is forwarded unchanged. A request that needs more has a handler: in this file when
// it asks, in settings.go when it stores what a client sets.
func (h *Handler) Routes(r *router.Router[*session.Client]) {
	db, first := func() Peer { return h.db }, func() Peer { return h.first }
	query[pb.IMNormalGroupListReq, pb.IMNormalGroupListRsp](h, r, first)
	query[pb.IMGroupInfoListReq, pb.IMGroupInfoListRsp](h, r, first)

	query[pb.IMUnreadMsgCntReq, pb.IMUnreadMsgCntRsp](h, r, first)
	query[pb.IMGetMsgListReq, pb.IMGetMsgListRsp](h, r, db)
	query[pb.IMGetMsgByIdReq, pb.IMGetMsgByIdRsp](h, r, db)
	query[pb.IMGetLatestMsgIdReq, pb.IMGetLatestMsgIdRsp](h, r, db)
	query[pb.IMRecentContactSessionReq, pb.IMRecentContactSessionRsp](h, r, first)
	directoryQuery[pb.IMAllUserReq, pb.IMAllUserRsp](h, r, first)
	directoryQuery[pb.IMDepartmentReq, pb.IMDepartmentRsp](h, r, first)
	query[pb.IMUsersInfoReq, pb.IMUsersInfoRsp](h, r, first)
	query[pb.IMQueryPushShieldReq, pb.IMQueryPushShieldRsp](h, r, first)

	// A field of a list takes at most 6 bytes for each user.
	router.Handle(r, router.LoggedIn, h.handleUsersStat,
		router.MaxBody[*pb.IMUsersStatReq](6*maxStats+64))
	router.Handle(r, router.LoggedIn, h.handleGroupCreate)
	router.Handle(r, router.LoggedIn, h.handleGroupShield)
	router.Handle(r, router.LoggedIn, h.handlePushShield)
	router.Handle(r, router.LoggedIn, h.handleDeviceToken)
	router.Handle(r, router.LoggedIn, h.handleRemoveSession)
	router.Handle(r, router.LoggedIn, h.handleChangeSignInfo)
	router.Handle(r, router.LoggedIn, h.handleChangeAvatar)
	router.Handle(r, router.LoggedIn, h.handleP2P)
}

// Ask asks another server for the client of s to change something, once, and calls then
// with the answer, on the loop. If no answer arrives the client gets none and asks again:
// what is made up would be believed. It is logged and counted. Loop only.
func Ask[R any, PR interface {
	*R
	pb.Attachment
}](h *Handler, s *session.Client, seq uint16, peer Peer, m request, then func(PR)) error {
	m.SetUserId(s.User)
	m.ClearAttachData()
	return h.Enter(s, costOf(m), m, func(q entered) {
		peer.Call(s.Loop(), uint64(s.User), seq, m, func(rsp pb.Message, err error) {
			defer q.Done() // after the answer, which is sent before those of later requests
			end(h, s, seq, m.Command(), rsp, err, then)
		})
	})
}

// end ends a request: then takes the answer. Loop only.
func end[R any, PR interface {
	*R
	pb.Attachment
}](h *Handler, s *session.Client, seq uint16, cmd pb.Command, rsp pb.Message, err error,
	then func(PR)) {
	answer, err := link.Answer[PR](rsp, err)
	if err != nil {
		h.failed(s, seq, cmd, err)
		return
	}
	answer.ClearAttachData()
	then(answer)
}

// Query is Ask for a request that only reads. It is sent again when no server answers it.
// over, unless nil, is called in any case, before then. Loop only.
func Query[R any, PR interface {
	*R
	pb.Attachment
}](h *Handler, s *session.Client, seq uint16, peer Peer, m request, then func(PR),
	over func()) error {
	return h.Enter(s, costOf(m), m, func(q entered) {
		h.ask(h.question(s, seq, peer, m, func(rsp pb.Message, err error) {
			defer q.Done()
			if over != nil {
				over()
			}
			end(h, s, seq, m.Command(), rsp, err, then)
		}))
	})
}

// costOf returns what a request costs its connection.
func costOf(m request) float64 {
	switch m := m.(type) {
	case *pb.IMUsersStatReq:
		return queryCost + statCost*float64(len(m.GetUserIdList()))
	case *pb.IMGroupShieldReq, *pb.IMPushShieldReq, *pb.IMGroupCreateReq, *pb.IMDeviceTokenReq,
		*pb.IMRemoveSessionReq, *pb.IMChangeSignInfoReq, *pb.IMChangeAvatarReq:
		return changeCost
	}
	return queryCost
}

// question returns a query of the client of s, whose answer done takes on the loop.
func (h *Handler) question(s *session.Client, seq uint16, peer Peer, m request,
	done func(pb.Message, error)) *question {
	m.SetUserId(s.User)
	m.ClearAttachData()
	return &question{peer: peer, s: s, on: s.Loop(), key: uint64(s.User), seq: seq, req: m,
		done: done, asked: s.Loop().Now()}
}

// pass asks another server for the client of s and forwards the answer, which must be of
// kind want. Like Query, it sends the request again.
func (h *Handler) pass(s *session.Client, seq uint16, peer Peer, m request,
	want pb.Command) error {
	if _, unread := m.(*pb.IMUnreadMsgCntReq); unread {
		// The answer shows the counts cleared. Read acks have a rate of their own, which
		// queries must not exceed for them.
		h.opt.Client(s).budget.Spend(readCost * float64(h.opt.Reads.FlushReads(s)))
	}
	var send func(entered)
	send = func(e entered) {
		q := h.question(s, seq, peer, m, func(rsp pb.Message, err error) {
			h.passed(e, seq, m.Command(), want, rsp, err, func() {
				m = proto.Clone(m).(request) // the other server may read the first one
				send(e)
			})
		})
		q.encoded = true
		h.ask(q)
	}
	return h.Enter(s, costOf(m), m, send)
}

// passed ends a query, with the answer or without. again asks again for an answer that the
// client has no room for now. Loop only.
func (h *Handler) passed(q entered, seq uint16, cmd, want pb.Command, rsp pb.Message,
	err error, again func()) {
	s := q.s
	answer, ok := rsp.(pb.Attachment)
	if err == nil && (!ok || answer.Command() != want) {
		err = im.Errorf(im.Malformed, "another answer than %s", want)
	}
	if err == nil && !s.IsClosed() {
		if _, ok := fits(s, answer); !ok {
			q.askAgain(again)
			return
		}
	}
	defer q.Done()
	if err == nil {
		if e, ok := rsp.(*pb.Encoded); ok {
			h.opt.Client(s).budget.Spend(float64(len(e.Shared())) * byteCost)
		}
		answer.ClearAttachData()
		err = h.reply(s, seq, answer)
	}
	if err != nil {
		h.failed(s, seq, cmd, err)
	}
}

// handleUsersStat asks route_server which users are online.
func (h *Handler) handleUsersStat(s *session.Client, seq uint16, m *pb.IMUsersStatReq) error {
	c, n := h.opt.Client(s), len(m.GetUserIdList())
	if int(c.stats)+n > maxStats {
		h.opt.QueriesFailed.WithLabelValues("too_many").Inc()
		return im.Errorf(im.Denied, "status query dropped: about %d users, %d are waited for",
			n, c.stats)
	}
	m.ClearSameClass() // servers ask so: clients learn whether a PC is online
	m.ClearScope()
	err := Query(h, s, seq, h.route, m,
		func(answer *pb.IMUsersStatRsp) { h.Answer(s, seq, answer) },
		func() { c.stats -= int32(n) })
	if err == nil {
		c.stats += int32(n)
	}
	return err
}

// handleGroupCreate makes a temporary group. Clients may not make others. As in the first
// implementation, only the client that asked is told of it: the other members see the
// group with its first message.
func (h *Handler) handleGroupCreate(s *session.Client, seq uint16, m *pb.IMGroupCreateReq) error {
	if m.GetGroupType() != pb.GroupType_GROUP_TYPE_TMP {
		return im.Errorf(im.Denied, "clients create temporary groups only, not of type %d",
			m.GetGroupType())
	}
	if len(m.GetMemberIdList()) > im.MaxGroupMembers {
		rsp := &pb.IMGroupCreateRsp{}
		rsp.SetUserId(s.User)
		rsp.SetResultCode(1)
		rsp.SetGroupName(m.GetGroupName())
		return s.Send(seq, rsp)
	}
	return Ask(h, s, seq, h.db, m, func(rsp *pb.IMGroupCreateRsp) {
		if rsp.GetResultCode() == 0 {
			h.opt.Others.GroupMade(rsp.GetGroupId())
		}
		h.Answer(s, seq, rsp)
	})
}
