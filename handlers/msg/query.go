package msg

import (
	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// maxQueries is how many queries of one connection may wait for their answers. A client that shows its first screen asks about each of its 100 latest
// conversations at once; one that asks more would fill the queues in which the logins of others wait.
const maxQueries = 128

// maxStats is about how many users the status queries of one connection that wait for their answers may ask. A client asks about everybody in the
// directory at once, tens of thousands; each costs route_server some hundred nanoseconds.
const maxStats = 50_000

// request is what a client asks another server by way of this one.
type request interface {
	pb.Attachment
	SetUserId(uint32)
}

// query enters a request that another server answers: the message server only says who asks, and passes the answer on as it is.
func query[Q, R any, PQ interface {
	*Q
	request
}, PR interface {
	*R
	pb.Attachment
}](h *Server, peer func() Peer) {
	router.Handle(h.Router, router.LoggedIn, func(s *session.Session, seq uint16, m PQ) error {
		return h.pass(s, seq, peer(), m, PR(new(R)).Command())
	})
}

// ask asks another server for the client of s, and runs then with the answer, on the loop. An answer that does not come is not made up: an empty
// list would be a lie that clients act on, so the client hears nothing and asks again; it is logged and counted. over, unless nil, runs in any
// case, before then.
func ask[R any, PR interface {
	*R
	pb.Attachment
}](h *Server, s *session.Session, seq uint16, peer Peer, m request, then func(PR), over func()) error {
	if err := h.beginQuery(s); err != nil {
		return err
	}
	m.SetUserId(s.User)
	m.ClearAttachData()
	peer.Call(s.Loop(), uint64(s.User), seq, m, func(rsp pb.Message, err error) {
		clientOf(s).queries--
		if over != nil {
			over()
		}
		answer, ok := rsp.(PR)
		if err != nil || !ok {
			h.metrics.queriesFailed.WithLabelValues(im.KindOf(err).String()).Inc()
			h.warn(&h.often.query, "query not answered", "conn", s.ID(), "user", s.User, "cmd", m.Command().String(), "seq", seq, "err", err)
			return
		}
		answer.ClearAttachData()
		then(answer)
	})
	return nil
}

// answer sends what was asked for. On the loop.
func (h *Server) answer(s *session.Session, seq uint16, m pb.Message) {
	if err := h.reply(s, seq, m); err != nil {
		h.log.Error("answer not sent", "conn", s.ID(), "cmd", m.Command().String(), "err", err)
	}
}

// handleUsersStat asks route_server who is online.
func (h *Server) handleUsersStat(s *session.Session, seq uint16, m *pb.IMUsersStatReq) error {
	c, n := clientOf(s), len(m.GetUserIdList())
	if c.stats+n > maxStats {
		h.metrics.queriesFailed.WithLabelValues("too_many").Inc()
		return im.Errorf(im.Denied, "status query dropped: about %d users, %d are waited for", n, c.stats)
	}
	m.ClearSameClass() // servers ask so: clients learn whether a pc is online
	m.ClearScope()
	err := ask(h, s, seq, h.route, m, func(answer *pb.IMUsersStatRsp) { h.answer(s, seq, answer) }, func() { c.stats -= n })
	if err == nil {
		c.stats += n
	}
	return err
}
