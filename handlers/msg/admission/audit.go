package admission

import (
	"strings"

	"teamtalk/core/audit"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// auditLogin records a login.
func (h *Handler) auditLogin(s *session.Client, m *pb.IMLoginReq) {
	if h.opt.Audit != nil {
		h.opt.Audit.Record(loginEvent(s, m, audit.Login, audit.OK))
	}
}

// auditRefused records a login that is refused, before its answer, which may wait: a client
// that guesses passwords need not stay for it. A login that is checked again for the same
// reason is recorded once.
func (h *Handler) auditRefused(s *session.Client, m *pb.IMLoginReq, d denial) {
	c := h.opt.Client(s)
	if h.opt.Audit == nil || c.refused == d.code {
		return
	}
	c.refused = d.code
	e := loginEvent(s, m, audit.LoginRefused, d.result)
	e.Detail = d.detail
	h.opt.Audit.Record(e)
}

func loginEvent(s *session.Client, m *pb.IMLoginReq, kind, result string) audit.Event {
	return audit.Event{Kind: kind, User: s.User, Name: m.GetUserName(), From: from(s),
		Client: clientName(m.GetClientType()), Version: m.GetClientVersion(), Conn: s.ID(),
		Result: result}
}

// auditKick records that the server ends a session.
func (h *Handler) auditKick(s *session.Client, why string) {
	if h.opt.Audit != nil {
		why = strings.ToLower(strings.TrimPrefix(why, "KICK_REASON_"))
		h.opt.Audit.Record(sessionEvent(s, audit.Kick, why))
	}
}

// auditEnd records the end of a session that the server does not kick.
func (h *Handler) auditEnd(s *session.Client) {
	if h.opt.Audit == nil {
		return
	}
	why := audit.ConnectionEnded
	if h.opt.Client(s).leaves {
		why = audit.OK
	}
	h.opt.Audit.Record(sessionEvent(s, audit.Logout, why))
}

func sessionEvent(s *session.Client, kind, result string) audit.Event {
	return audit.Event{Kind: kind, User: s.User, From: from(s), Client: clientName(s.ClientType),
		Conn: s.ID(), Result: result}
}

// from returns the address of a client.
func from(s *session.Client) string { return s.RemoteAddr().Addr().Unmap().String() }

// clientName and resultName return the names of a type of client and of a result without
// what all of them have in front, such as android and no_db_server.
func clientName(c pb.ClientType) string {
	return strings.ToLower(strings.TrimPrefix(c.String(), "CLIENT_TYPE_"))
}

func resultName(r pb.ResultType) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "REFUSE_REASON_"))
}
