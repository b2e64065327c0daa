package msg

import (
	"sync"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// encodedPeer is a Peer that can leave large answers encoded: what this server only passes on it need not understand.
type encodedPeer interface {
	// CallEncoded is Call whose answer may be a *pb.Encoded.
	CallEncoded(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
}

// callEncoded asks peer for an answer that is only passed on.
func callEncoded(peer Peer, l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) {
	if p, ok := peer.(encodedPeer); ok {
		p.CallEncoded(l, key, seq, req, done)
		return
	}
	peer.Call(l, key, seq, req, done)
}

// pass asks another server for the client of s and passes the answer, of kind want, on. As ask does, it makes up nothing.
func (h *Server) pass(s *session.Session, seq uint16, peer Peer, m request, want pb.Command) error {
	if err := h.beginQuery(s); err != nil {
		return err
	}
	m.SetUserId(s.User)
	m.ClearAttachData()
	callEncoded(peer, s.Loop(), uint64(s.User), seq, m, func(rsp pb.Message, err error) {
		h.passed(s, seq, m.Command(), want, rsp, err)
	})
	return nil
}

// beginQuery counts a query of the client of s. On the loop, as all here.
func (h *Server) beginQuery(s *session.Session) error {
	c := clientOf(s)
	if c.queries >= maxQueries {
		h.metrics.queriesFailed.WithLabelValues("too_many").Inc()
		return im.Errorf(im.Denied, "query dropped: %d are waiting for their answers", c.queries)
	}
	c.queries++
	h.flushReads(s) // a question for unread messages finds them cleared
	return nil
}

// passed ends a query that began, with the answer or without.
func (h *Server) passed(s *session.Session, seq uint16, cmd, want pb.Command, rsp pb.Message, err error) {
	clientOf(s).queries--
	answer, ok := rsp.(pb.Attachment)
	if err == nil && (!ok || answer.Command() != want) {
		err = im.Errorf(im.Malformed, "another answer than %s", want)
	}
	if err == nil {
		answer.ClearAttachData()
		err = h.reply(s, seq, answer)
	}
	if err != nil {
		h.metrics.queriesFailed.WithLabelValues(im.KindOf(err).String()).Inc()
		h.warn(&h.often.query, "query not answered", "conn", s.ID(), "user", s.User, "cmd", cmd.String(), "seq", seq, "err", err)
	}
}

// directoryQuery enters a request for everything, or what has changed since a time. Everything is the same for all who ask, and megabytes: it is
// asked for once for all who ask meanwhile.
func directoryQuery[Q, R any, PQ interface {
	*Q
	request
	GetLatestUpdateTime() uint32
	SetLatestUpdateTime(uint32)
}, PR interface {
	*R
	pb.Attachment
}](h *Server, peer func() Peer) {
	d := &directory{h: h, want: PR(new(R)).Command(), ask: func(user uint32, done func(pb.Message, error)) {
		m := PQ(new(Q))
		m.SetUserId(user)
		m.SetLatestUpdateTime(0)
		callEncoded(peer(), nil, uint64(user), 0, m, done)
	}}
	router.Handle(h.Router, router.LoggedIn, func(s *session.Session, seq uint16, m PQ) error {
		if m.GetLatestUpdateTime() != 0 {
			return h.pass(s, seq, peer(), m, d.want)
		}
		return d.query(s, seq, m.Command())
	})
}

// directory is a query for everything, on its way for many.
//
// Who asks while one is on its way waits for the next: the answer may have been made before the question, and would not show what the client has just
// been told is done. So there are never more than two, whatever the number of clients that log in.
type directory struct {
	h    *Server
	want pb.Command
	ask  func(user uint32, done func(pb.Message, error))

	mu      sync.Mutex
	asked   bool
	waiting []asker // for the next; bounded by maxQueries for each connection
}

// asker is a client that waits for a directory.
type asker struct {
	s   *session.Session
	seq uint16
	cmd pb.Command
}

func (d *directory) query(s *session.Session, seq uint16, cmd pb.Command) error {
	if err := d.h.beginQuery(s); err != nil {
		return err
	}
	d.mu.Lock()
	d.waiting = append(d.waiting, asker{s, seq, cmd})
	begin := !d.asked
	d.asked = true
	d.mu.Unlock()
	if begin {
		d.next()
	}
	return nil
}

// next asks for all who wait now. With d.asked, which makes it the only one.
func (d *directory) next() {
	d.mu.Lock()
	served := d.waiting
	d.waiting = nil
	d.asked = len(served) > 0
	d.mu.Unlock()
	if len(served) == 0 {
		return
	}
	d.ask(served[0].s.User, func(rsp pb.Message, err error) {
		d.next() // before the work: who waits has waited long enough
		d.serve(served, rsp, err)
	})
}

// serve gives the answer to all it was asked for. Where the answer arrives.
func (d *directory) serve(served []asker, rsp pb.Message, err error) {
	e, ok := rsp.(*pb.Encoded)
	if err == nil && !ok {
		if e, err = pb.Encode(rsp); err != nil {
			err = im.WithKind(im.Malformed, "answer does not encode", err)
		}
	}
	for _, a := range served {
		answer := pb.Message(nil)
		if err == nil {
			answer = e.ForUser(a.s.User)
		}
		a.s.Loop().PostResult(func(rsp pb.Message, err error) { d.h.passed(a.s, a.seq, a.cmd, d.want, rsp, err) }, answer, err)
	}
}
