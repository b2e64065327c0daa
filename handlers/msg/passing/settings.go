package passing

import (
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// db_proxy stores what clients set. This server adds the user, and tells the clients that
// have to know once it is stored. All requests use the key of the user's queries, so that
// a query after a change sees it.

// handleGroupShield stores whether a group makes a sound.
func (h *Handler) handleGroupShield(s *session.Client, seq uint16, m *pb.IMGroupShieldReq) error {
	return Ask(h, s, seq, h.first, m, func(rsp *pb.IMGroupShieldRsp) { h.Answer(s, seq, rsp) })
}

// handlePushShield stores whether a phone gets no pushes at night.
func (h *Handler) handlePushShield(s *session.Client, seq uint16, m *pb.IMPushShieldReq) error {
	return Ask(h, s, seq, h.first, m, func(rsp *pb.IMPushShieldRsp) { h.Answer(s, seq, rsp) })
}

// handleDeviceToken stores a phone's push token.
func (h *Handler) handleDeviceToken(s *session.Client, seq uint16, m *pb.IMDeviceTokenReq) error {
	if !s.ClientType.IsMobile() {
		return im.Errorf(im.Denied, "only a mobile client has a push token")
	}
	m.SetClientType(s.ClientType)
	m.ClearDeadToken() // only servers say it
	return Ask(h, s, seq, h.first, m, func(rsp *pb.IMDeviceTokenRsp) { h.Answer(s, seq, rsp) })
}

// handleRemoveSession removes a conversation from the user's list, and tells the user's
// other devices.
func (h *Handler) handleRemoveSession(s *session.Client, seq uint16,
	m *pb.IMRemoveSessionReq) error {
	return Ask(h, s, seq, h.first, m, func(rsp *pb.IMRemoveSessionRsp) {
		h.Answer(s, seq, rsp)
		if rsp.GetResultCode() != 0 {
			return
		}
		n := pb.IMRemoveSessionNotify_builder{UserId: proto.Uint32(s.User),
			SessionType: rsp.GetSessionType().Enum(),
			SessionId:   proto.Uint32(rsp.GetSessionId())}.Build()
		h.tellDevices(n, s, s.User)
		h.opt.Others.Forward(n)
	})
}

// HandleRoutedRemoval tells the devices here that their user removed a conversation
// elsewhere.
func (h *Handler) HandleRoutedRemoval(_ *session.Link, _ uint16,
	m *pb.IMRemoveSessionNotify) error {
	h.tellDevices(m, nil, m.GetUserId())
	return nil
}

// handleChangeSignInfo stores a user's signature and tells all clients.
func (h *Handler) handleChangeSignInfo(s *session.Client, seq uint16,
	m *pb.IMChangeSignInfoReq) error {
	if !h.changes.take(s.User, s.Loop().Now()) {
		return h.tooOften(s, seq, signInfoRefused(s.User))
	}
	text := m.GetSignInfo()
	return Ask(h, s, seq, h.first, m, func(rsp *pb.IMChangeSignInfoRsp) {
		h.Answer(s, seq, rsp)
		if rsp.GetResultCode() == 0 {
			h.opt.Profiles.SignInfoChanged(s.User, text)
		}
	})
}

// handleChangeAvatar stores the address of a user's picture and tells all clients. All
// devices of the user here get the answer: those that sent no request, under seq 0.
func (h *Handler) handleChangeAvatar(s *session.Client, seq uint16,
	m *pb.IMChangeAvatarReq) error {
	if !h.changes.take(s.User, s.Loop().Now()) {
		return h.tooOften(s, seq, avatarRefused(s.User))
	}
	url := m.GetAvatarUrl()
	return Ask(h, s, seq, h.first, m, func(rsp *pb.IMChangeAvatarRsp) {
		h.Answer(s, seq, rsp)
		if rsp.GetResultCode() == 0 {
			h.tellDevices(rsp, s, s.User)
			h.opt.Profiles.AvatarChanged(s.User, url)
		}
	})
}

// Bounds of the P2P commands of one connection. Clients say that a user is typing, or
// shake a window.
const (
	p2pRate  = 20.0 // commands a second
	p2pBurst = 40.0 // at once
	maxP2P   = 4096 // bytes
)

// handleP2P forwards a command to the other devices of both users, with seq 0: Windows
// reads any frame with the seq of its login as the answer to it. The command is not
// stored. Route servers and the first implementation's message servers pass the seq on,
// so it is 0 for them too.
func (h *Handler) handleP2P(s *session.Client, _ uint16, m *pb.IMP2PCmdMsg) error {
	reason := ""
	switch {
	case !h.opt.Client(s).p2p.Take(s.Loop().Now(), p2pRate, p2pBurst):
		reason = "rate"
	case len(m.GetCmdMsgData()) > maxP2P:
		reason = "too_long"
	}
	if reason != "" {
		h.p2pDropped.WithLabelValues(reason).Inc()
		return im.Errorf(im.Denied, "p2p command dropped: %s", reason)
	}
	m.SetFromUserId(s.User)
	h.tellDevices(m, s, s.User, m.GetToUserId())
	h.opt.Others.Forward(m)
	return nil
}

// HandleRoutedP2P passes on a command from a client of another message server.
func (h *Handler) HandleRoutedP2P(_ *session.Link, _ uint16, m *pb.IMP2PCmdMsg) error {
	h.tellDevices(m, nil, m.GetFromUserId(), m.GetToUserId())
	return nil
}

// tellDevices sends m with seq 0 to the devices that the users have here, except one. Any
// goroutine.
func (h *Handler) tellDevices(m pb.Message, but *session.Client, users ...uint32) {
	var frame []byte
	for i, user := range users {
		if i > 0 && user == users[0] {
			continue
		}
		for _, o := range h.opt.Online.Of(user) {
			if o == but {
				continue
			}
			if frame == nil {
				var err error
				if frame, err = pdu.Append(nil, 0, m); err != nil {
					h.log.Error("message not encoded",
						"cmd", m.Command().String(), "user", user, "err", err)
					return
				}
			}
			_ = o.PushShared(frame) // a full mailbox closes the session
		}
	}
}
