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

// query enters a request that another server answers: the message server only says who asks. An answer that does not come is not
// made up: an empty list would be a lie that clients act on, so the client hears nothing and asks again.
func query[Q, R any, PQ interface {
	*Q
	pb.Attachment
	SetUserId(uint32)
}, PR interface {
	*R
	pb.Attachment
}](h *Server, peer func() Peer) {
	router.Handle(h.Router, router.LoggedIn, func(s *session.Session, seq uint16, m PQ) error {
		c := clientOf(s)
		if c.queries >= maxQueries {
			h.metrics.queriesFailed.WithLabelValues("too_many").Inc()
			return im.Errorf(im.Denied, "query dropped: %d are waiting for their answers", c.queries)
		}
		c.queries++
		m.SetUserId(s.User)
		m.ClearAttachData()
		peer().Call(s.Loop(), uint64(s.User), seq, m, func(rsp pb.Message, err error) {
			c.queries--
			answer, ok := rsp.(PR)
			if err != nil || !ok {
				h.metrics.queriesFailed.WithLabelValues(im.KindOf(err).String()).Inc()
				h.warn(&h.often.query, "query not answered", "conn", s.ID(), "user", s.User, "cmd", m.Command().String(), "seq", seq, "err", err)
				return
			}
			answer.ClearAttachData()
			if err := s.Send(seq, answer); err != nil {
				h.log.Error("answer not encoded", "conn", s.ID(), "cmd", answer.Command().String(), "err", err)
			}
		})
		return nil
	})
}
