package admission

import (
	"teamtalk/core/link"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// In a cluster without route servers the whereabouts of users are shared in a store. A login is
// written there before the client has its answer: what is stored from then on, and is not in the
// history that the client reads, reaches this server. The session begins when the login is
// written. Until then its client is served as one that waits, and gets nothing.

// announce continues with a login as soon as the other message servers can know of it. If they
// cannot, the login ends as without a route server. Loop only.
func (h *Handler) announce(s *session.Client, seq uint16, m *pb.IMLoginReq, v *pb.IMValidateRsp) {
	if !h.opt.Announces {
		h.admit(s, seq, m, v)
		return
	}
	user, client := v.GetUserInfo().GetUserId(), m.GetClientType()
	req := &pb.IMUsersStatReq{}
	req.SetUserId(user)
	req.SetUserIdList([]uint32{user})
	req.SetSameClass(client)
	req.SetScope(pb.DeviceScope_DEVICE_SCOPE_ANY)
	req.SetComes(client)
	h.route.Call(s.Loop(), uint64(user), 0, req, func(rsp pb.Message, err error) {
		stat, err := link.Answer[*pb.IMUsersStatRsp](rsp, err)
		switch {
		case err != nil && s.IsClosed():
		case err != nil:
			h.often.announce.Warn(h.log, h.opt.Now(), "login not announced to the other message "+
				"servers", "conn", s.ID(), "user", user, "err", err)
			h.refuse(s, seq, m, without(pb.ResultType_REFUSE_REASON_NO_ROUTE_SERVER))
		case s.IsClosed():
			giveUp(h, user, client)
		case h.opt.Policy == KeepFirst && stat.IsOnline(user):
			giveUp(h, user, client)
			h.refuse(s, seq, m, elsewhere)
		default:
			h.admit(s, seq, m, v)
		}
	})
}

// giveUp takes back the announcement of a login that does not begin a session.
func giveUp(h *Handler, user uint32, client pb.ClientType) {
	if h.opt.Announces {
		h.others.Lock()
		defer h.others.Unlock()
		h.others.GiveUp(user, client)
	}
}
