package passing

import (
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// request is what a client asks another server by way of this one.
type request interface {
	pb.Attachment
	SetUserId(uint32)
}

// query registers a request that another server answers. The message server only sets the
// user, and forwards the answer as it is.
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
// such a request must see, go to first. query registers a request whose answer is forwarded
// unchanged. A request that needs more has a handler: in this file when it asks, in
// settings.go when it stores what a client sets, so that other clients are notified.
func (h *Handler) Routes(r *router.Router[*session.Client]) {
	db, first := func() Peer { return h.db }, func() Peer { return h.first }
	query[pb.IMNormalGroupListReq, pb.IMNormalGroupListRsp](h, r, first)
	query[pb.IMGroupInfoListReq, pb.IMGroupInfoListRsp](h, r, first)
	query[pb.IMGroupShieldReq, pb.IMGroupShieldRsp](h, r, first)

	query[pb.IMUnreadMsgCntReq, pb.IMUnreadMsgCntRsp](h, r, first)
	query[pb.IMGetMsgListReq, pb.IMGetMsgListRsp](h, r, db)
	query[pb.IMGetMsgByIdReq, pb.IMGetMsgByIdRsp](h, r, db)
	query[pb.IMGetLatestMsgIdReq, pb.IMGetLatestMsgIdRsp](h, r, db)
	query[pb.IMRecentContactSessionReq, pb.IMRecentContactSessionRsp](h, r, first)
	directoryQuery[pb.IMAllUserReq, pb.IMAllUserRsp](h, r, first)
	directoryQuery[pb.IMDepartmentReq, pb.IMDepartmentRsp](h, r, first)
	query[pb.IMUsersInfoReq, pb.IMUsersInfoRsp](h, r, first)
	query[pb.IMPushShieldReq, pb.IMPushShieldRsp](h, r, first)
	query[pb.IMQueryPushShieldReq, pb.IMQueryPushShieldRsp](h, r, first)

	// A field of a list takes at most 6 bytes for each user.
	router.Handle(r, router.LoggedIn, h.handleUsersStat,
		router.MaxBody[*pb.IMUsersStatReq](6*maxStats+64))
	router.Handle(r, router.LoggedIn, h.handleGroupCreate)
	router.Handle(r, router.LoggedIn, h.handleDeviceToken)
	router.Handle(r, router.LoggedIn, h.handleRemoveSession)
	router.Handle(r, router.LoggedIn, h.handleChangeSignInfo)
	router.Handle(r, router.LoggedIn, h.handleChangeAvatar)
	router.Handle(r, router.LoggedIn, h.handleP2P)
}

// Ask asks another server for the client of s, and calls then with the answer, on the
// loop. If no answer arrives the client gets none and asks again: an empty list would be
// believed. It is logged and counted. over, unless nil, is called in any case, before
// then. Loop only.
func Ask[R any, PR interface {
	*R
	pb.Attachment
}](h *Handler, s *session.Client, seq uint16, peer Peer, m request, then func(PR),
	over func()) error {
	m.SetUserId(s.User)
	m.ClearAttachData()
	return h.Enter(s, costOf(m), func() {
		peer.Call(s.Loop(), uint64(s.User), seq, m, func(rsp pb.Message, err error) {
			if over != nil {
				over()
			}
			defer h.Done(s) // after the answer, which is sent before those of later requests
			answer, err := link.Answer[PR](rsp, err)
			if err != nil {
				h.failed(s, seq, m.Command(), err)
				return
			}
			answer.ClearAttachData()
			then(answer)
		})
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

// pass asks another server for the client of s and forwards the answer, which must be of
// kind want. Like Ask, it makes up no answer.
func (h *Handler) pass(s *session.Client, seq uint16, peer Peer, m request,
	want pb.Command) error {
	m.SetUserId(s.User)
	m.ClearAttachData()
	var again func()
	send := func() {
		callEncoded(peer, s.Loop(), uint64(s.User), seq, m, func(rsp pb.Message, err error) {
			h.passed(s, seq, m.Command(), want, rsp, err, again)
		})
	}
	again = func() {
		m = proto.Clone(m.(proto.Message)).(request) // the other server may read the first one
		send()
	}
	return h.Enter(s, costOf(m), send)
}

// callEncoded asks peer for an answer that is only forwarded.
func callEncoded(peer Peer, l *session.Loop, key uint64, seq uint16, req pb.Attachment,
	done func(pb.Message, error)) {
	if p, ok := peer.(encodedPeer); ok {
		p.CallEncoded(l, key, seq, req, done)
		return
	}
	peer.Call(l, key, seq, req, done)
}

// passed ends a query, with the answer or without. again asks again for an answer that the
// client has no room for now. Loop only.
func (h *Handler) passed(s *session.Client, seq uint16, cmd, want pb.Command, rsp pb.Message,
	err error, again func()) {
	answer, ok := rsp.(pb.Attachment)
	if err == nil && (!ok || answer.Command() != want) {
		err = im.Errorf(im.Malformed, "another answer than %s", want)
	}
	if err == nil && !s.IsClosed() {
		if _, ok := fits(s, answer); !ok {
			h.askAgain(s, again)
			return
		}
	}
	defer h.Done(s)
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
	if c.stats+n > maxStats {
		h.opt.QueriesFailed.WithLabelValues("too_many").Inc()
		return im.Errorf(im.Denied, "status query dropped: about %d users, %d are waited for",
			n, c.stats)
	}
	m.ClearSameClass() // servers ask so: clients learn whether a PC is online
	m.ClearScope()
	err := Ask(h, s, seq, h.route, m,
		func(answer *pb.IMUsersStatRsp) { h.Answer(s, seq, answer) }, func() { c.stats -= n })
	if err == nil {
		c.stats += n
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
	return Ask(h, s, seq, h.db, m, func(rsp *pb.IMGroupCreateRsp) { h.Answer(s, seq, rsp) }, nil)
}
