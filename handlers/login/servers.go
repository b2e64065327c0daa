package login

import (
	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// servers handles the links of message servers.
type servers struct {
	*router.Router[*session.Link]
	s *Server
}

// Values of IMUserCntUpdate.user_action.
const (
	actionMore = 1
	actionLess = 2
)

func newServers(s *Server) *servers {
	h := &servers{Router: router.New[*session.Link](router.Options{Role: "login", Log: s.log,
		Registerer: s.opt.Registerer}), s: s}
	router.Handle(h.Router, router.Public, h.handleMsgServInfo)
	router.Handle(h.Router, router.Public, h.handleUserCntUpdate)
	router.Handle(h.Router, router.Public, h.handleHeartBeat)
	return h
}

// Open sets the idle limit of the link: a server that died without closing its connection
// must not be given to clients for long.
func (h *servers) Open(s *session.Link) error {
	s.SetTimeouts(h.s.opt.LinkTimeout, h.s.opt.LinkHeartbeat)
	return nil
}

// Close removes the message server from the table.
func (h *servers) Close(s *session.Link, err error) {
	if e := h.s.table.remove(s.ID()); e != nil {
		s.Log(h.s.log, "message server gone", "role", "login", "host", e.hostName, "ip", e.ip1,
			"port", e.port, "err", err)
	}
}

func (h *servers) handleMsgServInfo(s *session.Link, _ uint16, m *pb.IMMsgServInfo) error {
	e := &entry{link: s.ID(), ip1: m.GetIp1(), ip2: m.GetIp2(), port: m.GetPort(),
		hostName: m.GetHostName(),
		limit:    m.GetMaxConnCnt(), current: m.GetCurConnCnt()}
	if e.ip1 == "" {
		e.ip1 = e.ip2
	}
	if e.ip2 == "" {
		e.ip2 = e.ip1
	}
	if e.ip1 == "" || e.port == 0 || e.port > 65535 {
		return im.Errorf(im.Invalid, "message server %q announces no address that clients can use",
			e.hostName)
	}
	replaced := h.s.table.put(e)
	s.Log(h.s.log, "message server announced", "role", "login", "host", e.hostName, "ip", e.ip1,
		"port", e.port, "clients", e.current, "limit", e.limit, "replaced", replaced)
	return nil
}

func (h *servers) handleUserCntUpdate(s *session.Link, _ uint16, m *pb.IMUserCntUpdate) error {
	action := m.GetUserAction()
	if action != actionMore && action != actionLess {
		return im.Errorf(im.Invalid, "user action %d", action)
	}
	if !h.s.table.count(s.ID(), action == actionMore) {
		return im.Errorf(im.Invalid,
			"count from a link that announced no message server, or whose entry another link "+
				"replaced")
	}
	return nil
}

// handleHeartBeat does nothing: the arrival of a frame is enough to restart the idle
// limit.
func (h *servers) handleHeartBeat(*session.Link, uint16, *pb.IMHeartBeat) error { return nil }
