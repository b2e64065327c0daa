package admission

import (
	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// HandleLogout clears the push token, answers and closes.
func (h *Handler) HandleLogout(s *session.Client, seq uint16, _ *pb.IMLogoutReq) error {
	token := &pb.IMDeviceTokenReq{}
	token.SetUserId(s.User)
	token.SetDeviceToken("")
	if err := h.users.Send(uint64(s.User), seq, token); err != nil {
		h.often.token.Warn(h.log, h.opt.Now(), "push token not cleared",
			"conn", s.ID(), "user", s.User, "err", err)
	}
	h.opt.Client(s).leaves = true
	rsp := &pb.IMLogoutRsp{}
	rsp.SetResultCode(0)
	err := s.Send(seq, rsp)
	s.Close(nil)
	return err
}

// HandleKickPC lets a phone end its user's PC sessions. A PC client may not.
func (h *Handler) HandleKickPC(s *session.Client, seq uint16, _ *pb.IMKickPCClientReq) error {
	if !s.ClientType.IsMobile() {
		return im.Errorf(im.Denied, "only a mobile client may end pc sessions")
	}
	kick := &pb.IMServerKickUser{}
	kick.SetUserId(s.User)
	kick.SetClientType(pb.ClientType_CLIENT_TYPE_MAC)
	kick.SetReason(uint32(pb.KickReasonType_KICK_REASON_MOBILE_KICK))
	h.others.Lock()
	h.others.KickElsewhere(kick, s)
	for _, o := range h.online.Of(s.User) {
		if !o.ClientType.IsMobile() {
			h.kick(o, pb.KickReasonType_KICK_REASON_MOBILE_KICK)
		}
	}
	h.others.Unlock()

	rsp := &pb.IMKickPCClientRsp{}
	rsp.SetUserId(s.User)
	rsp.SetResultCode(0)
	return s.Send(seq, rsp)
}
