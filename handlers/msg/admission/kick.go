package admission

import (
	"net/netip"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/origin"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A kicked client gets IMKickUser. Its connection is closed when the client closes it, at
// the latest two seconds later: the official Windows client reads the end of the
// connection in another thread than the notice, and logs in again when it sees the end
// first. In between the connection is neither served nor delivered to, and is no longer
// online.

// HandleServerKick ends sessions of a user that logged in on another message server, or
// whose phone ends the PC sessions. A kick that is sent late says how old it is: sessions
// of later logins stay.
func (h *Handler) HandleServerKick(_ *session.Link, _ uint16, m *pb.IMServerKickUser) error {
	reason := pb.KickReasonType(m.GetReason())
	h.others.Lock()
	defer h.others.Unlock()
	now, age := h.opt.Now(), time.Duration(m.GetAge())*time.Millisecond
	for _, s := range h.online.Of(m.GetUserId()) {
		byPhone := reason == pb.KickReasonType_KICK_REASON_MOBILE_KICK
		switch {
		case m.HasAge() && s.LoginAge(now) < age:
		case byPhone && s.ClientType.IsMobile():
		case !byPhone && !h.replaces(m.GetClientType(), s.ClientType):
		default:
			h.kick(s, reason)
		}
	}
	return nil
}

// kick ends the session of a client. The user is offline on it, here and for the other
// servers, when kick returns. With the lock of others held. Any goroutine.
func (h *Handler) kick(s *session.Client, reason pb.KickReasonType) {
	if h.expel(s, reason) {
		h.others.Left(s)
	}
}

// expel is kick without telling the other servers. It reports whether the session was
// online.
func (h *Handler) expel(s *session.Client, reason pb.KickReasonType) bool {
	return h.dismiss(s, notice{reason: reason, label: reason.String(), fight: true})
}

// Slow makes the next login of a client that is disconnected wait as if it had been kicked:
// clients connect again at once, and may do again what they were disconnected for. Any
// goroutine.
func (h *Handler) Slow(s *session.Client) {
	h.fights.kicked(s.User, h.fightClass(s.ClientType), clientAddr(s), h.opt.Now())
}

// notice says why a session ends.
type notice struct {
	reason pb.KickReasonType
	label  string // in metrics
	text   string // for clients, where reason does not fit
	fight  bool   // another login ends the session
}

// dismiss is expel with a notice.
func (h *Handler) dismiss(s *session.Client, n notice) bool {
	if _, there := h.online.Remove(s); !there {
		return false // it was kicked before, or is gone
	}
	h.metrics.kicks.WithLabelValues(n.label).Inc()
	h.auditKick(s, n.label)
	if n.fight {
		h.Slow(s)
	}
	m := &pb.IMKickUser{}
	m.SetUserId(s.User)
	m.SetKickReason(n.reason)
	if n.text != "" {
		m.SetText(n.text)
	}
	s.Loop().Post(func() {
		if s.IsClosed() {
			return // Closed does the rest
		}
		h.retire(s)
		h.opt.Client(s).login = kicked
		_ = s.Send(0, m)
		s.Linger(im.Errorf(im.Denied, "kicked: %s", n.label))
	})
	return true
}

// retire drops what the loop keeps for a client that is logged in. Loop only.
func (h *Handler) retire(s *session.Client) {
	h.opt.Conversations.End(s)
	h.opt.Audience.Leave(s)
}

// clientAddr returns the address by which logins are slowed.
func clientAddr(s *session.Client) netip.Addr { return origin.Key(s.RemoteAddr().Addr()) }
