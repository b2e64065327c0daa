package admission

import (
	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// The longest name and password that db_proxy is asked about, in bytes. A name has 32
// characters of at most four bytes, and clients send 32 digits in place of a password. Others
// are wrong in any case, so they are refused before they fill the link.
const (
	maxLoginName     = 4 * im.MaxName
	maxLoginPassword = 1 << 10
)

// textWrong is the text of db_proxy for a wrong name or password.
const textWrong = "用户名/密码错误"

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
		h.refuseClientType(s, seq, m)
		return nil
	}
	if len(m.GetUserName()) > maxLoginName || len(m.GetPassword()) > maxLoginPassword {
		h.refuse(s, seq, m, wrongPassword)
		return nil
	}
	if h.standsInLine(s, m) {
		c.busy = true
		h.refuse(s, seq, m, without(pb.ResultType_REFUSE_REASON_NO_DB_SERVER))
		return nil
	}
	h.checkLogin(s, seq, m)
	return nil
}

// standsInLine reports whether a login waits before db_proxy is asked about it: others wait
// for a db_proxy that is too busy, and this client was refused a short time ago. Without it
// each client of a storm would ask whenever it connects again. Loop only.
func (h *Handler) standsInLine(s *session.Client, m *pb.IMLoginReq) bool {
	return h.opt.Loop(s.Loop()).held.resumes > 0 && h.pace.slow() &&
		h.refusals.remembers(clientAddr(s), m.GetUserName(), s.Loop().Now())
}

// checkLogin asks db_proxy whether name and password are right, unless a server is
// missing without which no client can log in. checked takes the answer. Loop only.
func (h *Handler) checkLogin(s *session.Client, seq uint16, m *pb.IMLoginReq) {
	if code := h.missing(); code != pb.ResultType_REFUSE_REASON_NONE {
		h.refuse(s, seq, m, without(code))
		return
	}
	req := &pb.IMValidateReq{}
	req.SetUserName(m.GetUserName())
	req.SetPassword(m.GetPassword())
	req.SetTellFailure(true)
	if addr := s.RemoteAddr().Addr(); !h.opt.Proxies.Contains(addr) {
		req.SetClientAddress(addr.Unmap().AsSlice())
	}
	key := h.opt.LoginKey(m.GetUserName())
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
	case !h.others.HasRoute(), h.route.Withdrawn():
		return pb.ResultType_REFUSE_REASON_NO_ROUTE_SERVER
	}
	return pb.ResultType_REFUSE_REASON_NONE
}
