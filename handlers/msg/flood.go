package msg

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/obs"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Some frames cost their client nothing: they need no answer or a short one, have no
// effect, or are refused. A client that sends such frames faster than junkRate for longer
// than junkBurst lasts is disconnected. No client of the field comes near: its heartbeats
// are seconds apart, it acknowledges what it receives, and it sends a read ack for each
// message on its screen.
const (
	junkRate  = 500.0
	junkBurst = 5000.0
	// kickCost is the cost of an IMKickPCClientReq: every message server is told of it.
	kickCost = 50.0
	// ticketCost is the cost of an IMUploadTicketReq: a random id and an HMAC.
	ticketCost = 5.0
	// junkBytes is how many bytes of a refused frame cost another token.
	junkBytes = 1 << 10
	// maxOwed bounds the acks that a client may owe.
	maxOwed = 1 << 20
)

// errFlood is the reason of a connection that is closed as a flood.
var errFlood = errors.New("msg: client sends too many frames that have no effect")

// floods closes the connections that flood.
type floods struct {
	closed *prometheus.CounterVec
	often  obs.Often
}

func newFloods(reg prometheus.Registerer) *floods {
	f := &floods{closed: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_msg_floods_total",
		Help: "Connections closed because of too many frames without effect, by the last: ack, " +
			"heartbeat, kick, login, read_ack, ticket, time, or refused (for any reason)."},
		[]string{"last"})}
	if reg != nil {
		reg.MustRegister(f.closed)
	}
	return f
}

// Frame dispatches a frame of a client, unless the client floods.
func (h *Server) Frame(s *session.Client, head pdu.Header, body []byte) {
	if kind, cost := junk(s, head.Command); cost > 0 && !h.spend(s, kind, cost) {
		return
	}
	if !h.keepEarly(s, head, body) {
		h.Router.Frame(s, head, body)
	}
}

// junk returns the cost of a frame that may have no effect, 0 for another one.
func junk(s *session.Client, cmd pb.Command) (kind string, cost float64) {
	switch cmd {
	case pb.CmdMsgDataAck:
		if c := clientOf(s); c.owed > 0 {
			c.owed--
			return "", 0
		}
		return "ack", 1
	case pb.CmdHeartBeat:
		return "heartbeat", 1
	case pb.CmdClientTimeReq:
		return "time", 1
	case pb.CmdLoginReq:
		return "login", 1
	case pb.CmdKickPCClientReq:
		return "kick", kickCost
	case pb.CmdUploadTicketReq:
		return "ticket", ticketCost
	}
	return "", 0
}

// refused counts a frame that was dropped or refused. A long one costs more: a list of
// 64 KiB is decoded in 0.4 ms. The sound in a message is not decoded. Loop only.
func (h *Server) refused(s *session.Client, cmd pb.Command, length int) {
	cost := 1.0
	if cmd != pb.CmdMsgData {
		cost += float64(length) / junkBytes
	}
	h.spend(s, "refused", cost)
}

// spend takes the cost of a frame. When the client has none left, it closes the
// connection, lets the next login of the client wait, and returns false. Loop only.
func (h *Server) spend(s *session.Client, kind string, cost float64) bool {
	if s.IsClosed() {
		return false
	}
	if clientOf(s).junk.TakeN(s.Loop().Now(), cost, junkRate, junkBurst) {
		return true
	}
	h.floods.closed.WithLabelValues(kind).Inc()
	h.floods.often.Warn(h.log, h.opt.Now(), "connection closed: too many frames without effect",
		"conn", s.ID(), "user", s.User, "addr", s.Remote(), "last", kind)
	if s.LoggedIn() {
		h.admission.Slow(s)
	}
	s.Close(errFlood)
	return false
}

// noEffect counts a read ack that another one replaces, or that replaces another. Those of
// different conversations do not count: they have a bound of their own. Loop only.
func (h *Server) noEffect(s *session.Client) { h.spend(s, "read_ack", 1) }

// delivered counts a delivery, which the client acknowledges. Loop only.
func delivered(s *session.Client) {
	if c := clientOf(s); c.owed < maxOwed {
		c.owed++
	}
}
