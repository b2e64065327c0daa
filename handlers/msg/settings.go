package msg

import (
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// What clients set is stored by db_proxy; this server only says who sets it, and tells those who have to know once it is stored. All of it takes the way of
// the user's queries, so that what is asked behind a change finds it made.

// settingsRoutes enters what clients may set, and what they say to other clients past the store.
func (h *Server) settingsRoutes() {
	first := func() Peer { return h.dbFirst }
	directoryQuery[pb.IMDepartmentReq, pb.IMDepartmentRsp](h, first)
	query[pb.IMPushShieldReq, pb.IMPushShieldRsp](h, first)
	query[pb.IMQueryPushShieldReq, pb.IMQueryPushShieldRsp](h, first)
	r := h.Router
	router.Handle(r, router.LoggedIn, h.handleDeviceToken)
	router.Handle(r, router.LoggedIn, h.handleRemoveSession)
	router.Handle(r, router.LoggedIn, h.handleChangeSignInfo)
	router.Handle(r, router.LoggedIn, h.handleChangeAvatar)
	router.Handle(r, router.LoggedIn, h.handleP2P)
}

// handleDeviceToken has a phone's push token stored.
func (h *Server) handleDeviceToken(s *session.Session, seq uint16, m *pb.IMDeviceTokenReq) error {
	if !s.Client.IsMobile() {
		return im.Errorf(im.Denied, "only a mobile client has a push token")
	}
	m.SetClientType(s.Client)
	m.ClearDeadToken() // it is for servers to say
	return ask(h, s, seq, h.dbFirst, m, func(rsp *pb.IMDeviceTokenRsp) { h.answer(s, seq, rsp) }, nil)
}

// handleRemoveSession takes a conversation out of the user's list, and tells the user's other devices.
func (h *Server) handleRemoveSession(s *session.Session, seq uint16, m *pb.IMRemoveSessionReq) error {
	return ask(h, s, seq, h.dbFirst, m, func(rsp *pb.IMRemoveSessionRsp) {
		h.answer(s, seq, rsp)
		if rsp.GetResultCode() != 0 {
			return
		}
		n := pb.IMRemoveSessionNotify_builder{UserId: proto.Uint32(s.User), SessionType: rsp.GetSessionType().Enum(),
			SessionId: proto.Uint32(rsp.GetSessionId())}.Build()
		h.tellDevices(n, s, s.User)
		h.toRoute(0, n)
	}, nil)
}

// handleRoutedRemoval tells the devices here of what their user removed elsewhere.
func (h *Server) handleRoutedRemoval(_ *session.Session, _ uint16, m *pb.IMRemoveSessionNotify) error {
	h.tellDevices(m, nil, m.GetUserId())
	return nil
}

// handleChangeSignInfo stores a user's signature and tells everybody.
func (h *Server) handleChangeSignInfo(s *session.Session, seq uint16, m *pb.IMChangeSignInfoReq) error {
	text := m.GetSignInfo()
	return ask(h, s, seq, h.dbFirst, m, func(rsp *pb.IMChangeSignInfoRsp) {
		h.answer(s, seq, rsp)
		if rsp.GetResultCode() == 0 {
			h.tellEverybody(news{about: about{s.User, newSignInfo}, text: text})
		}
	}, nil)
}

// handleChangeAvatar stores the address of a user's picture and tells everybody. All devices of the user here get the answer: the others, with no request of
// theirs, under seq 0.
func (h *Server) handleChangeAvatar(s *session.Session, seq uint16, m *pb.IMChangeAvatarReq) error {
	url := m.GetAvatarUrl()
	return ask(h, s, seq, h.dbFirst, m, func(rsp *pb.IMChangeAvatarRsp) {
		h.answer(s, seq, rsp)
		if rsp.GetResultCode() == 0 {
			h.tellDevices(rsp, s, s.User)
			h.tellEverybody(news{about: about{s.User, newAvatar}, text: url})
		}
	}, nil)
}

// tellEverybody has a change told to all clients of all message servers; where no route server takes it, to those here. It comes back from the route
// server for the clients here.
func (h *Server) tellEverybody(n news) {
	if !h.toRoute(0, n.message()) {
		h.tell(n)
	}
}

func (h *Server) handleSignInfoChanged(_ *session.Session, _ uint16, m *pb.IMSignInfoChangedNotify) error {
	h.tell(news{about: about{m.GetChangedUserId(), newSignInfo}, text: m.GetSignInfo()})
	return nil
}

func (h *Server) handleAvatarChanged(_ *session.Session, _ uint16, m *pb.IMAvatarChangedNotify) error {
	h.tell(news{about: about{m.GetChangedUserId(), newAvatar}, text: m.GetAvatarUrl()})
	return nil
}

// What one connection may say to other clients past the store. Clients say that somebody is typing, or shake a window.
const (
	p2pRate  = 20.0 // commands a second
	p2pBurst = 40.0 // at once
	maxP2P   = 4096 // bytes
)

// handleP2P passes a command on to the other devices of both users, with seq 0: Windows reads any
// frame with the seq of its login as the answer to it. The command is not stored. Route servers
// and the first implementation's message servers pass the seq on, so it is 0 for them too.
func (h *Server) handleP2P(s *session.Session, _ uint16, m *pb.IMP2PCmdMsg) error {
	reason := ""
	switch {
	case !clientOf(s).p2p.take(s.Loop().Now(), p2pRate, p2pBurst):
		reason = "rate"
	case len(m.GetCmdMsgData()) > maxP2P:
		reason = "too_long"
	}
	if reason != "" {
		h.metrics.p2pDropped.WithLabelValues(reason).Inc()
		return im.Errorf(im.Denied, "p2p command dropped: %s", reason)
	}
	m.SetFromUserId(s.User)
	h.tellDevices(m, s, s.User, m.GetToUserId())
	h.toRoute(0, m)
	return nil
}

// handleRoutedP2P passes on what a client of another message server says.
func (h *Server) handleRoutedP2P(_ *session.Session, _ uint16, m *pb.IMP2PCmdMsg) error {
	h.tellDevices(m, nil, m.GetFromUserId(), m.GetToUserId())
	return nil
}

// tellDevices sends m with seq 0 to the devices that the users have here, except one. Any
// goroutine.
func (h *Server) tellDevices(m pb.Message, but *session.Session, users ...uint32) {
	var frame []byte
	for i, user := range users {
		if i > 0 && user == users[0] {
			continue
		}
		for _, o := range h.online.Of(user) {
			if o == but {
				continue
			}
			if frame == nil {
				var err error
				if frame, err = pdu.Append(nil, 0, m); err != nil {
					h.log.Error("message not encoded", "cmd", m.Command().String(), "user", user, "err", err)
					return
				}
			}
			_ = o.PushFrame(frame) // a full mailbox closes the session
		}
	}
}
