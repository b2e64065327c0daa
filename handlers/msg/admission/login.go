package admission

import (
	"hash/maphash"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

var keySeed = maphash.MakeSeed()

// HandleLogin takes a login. A second one on a connection is ignored. checkLogin
// continues with it.
func (h *Handler) HandleLogin(s *session.Client, seq uint16, m *pb.IMLoginReq) error {
	c := h.opt.Client(s)
	if c.login != connected {
		return nil
	}
	c.login = validating
	// The decoder accepts any number for an enumeration.
	if _, known := pb.ClientType_name[int32(m.GetClientType())]; !known {
		h.refuseClientType(s, seq, m.GetClientType())
		return nil
	}
	h.checkLogin(s, seq, m)
	return nil
}

// checkLogin asks db_proxy whether name and password are right, unless a server is
// missing without which no client can log in. checked takes the answer. Loop only.
func (h *Handler) checkLogin(s *session.Client, seq uint16, m *pb.IMLoginReq) {
	if code := h.missing(); code != pb.ResultType_REFUSE_REASON_NONE {
		h.refuse(s, seq, m, code, textFailed)
		return
	}
	req := &pb.IMValidateReq{}
	req.SetUserName(m.GetUserName())
	req.SetPassword(m.GetPassword())
	req.SetTellFailure(true)
	key := maphash.String(keySeed, m.GetUserName())
	h.users.Call(s.Loop(), key, seq, req, func(rsp pb.Message, err error) {
		h.checked(s, key, seq, m, rsp, err)
	})
}

// missing returns which server is missing without which no client can log in.
func (h *Handler) missing() pb.ResultType {
	switch {
	case !h.users.Up():
		return pb.ResultType_REFUSE_REASON_NO_DB_SERVER
	case !h.others.HasLogin():
		return pb.ResultType_REFUSE_REASON_NO_LOGIN_SERVER
	case !h.others.HasRoute():
		return pb.ResultType_REFUSE_REASON_NO_ROUTE_SERVER
	}
	return pb.ResultType_REFUSE_REASON_NONE
}
