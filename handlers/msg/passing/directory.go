package passing

import (
	"sync"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// directoryQuery registers a request for all entries of a list, or those changed since a
// time. The list of all entries is the same for all clients, and megabytes: it is fetched
// once for all clients that ask meanwhile.
func directoryQuery[Q, R any, PQ interface {
	*Q
	request
	GetLatestUpdateTime() uint32
	SetLatestUpdateTime(uint32)
}, PR interface {
	*R
	pb.Attachment
}](h *Handler, r *router.Router[*session.Client], peer func() Peer) {
	d := &directory{h: h, want: PR(new(R)).Command(),
		ask: func(s *session.Client, done func(pb.Message, error)) {
			m := PQ(new(Q))
			m.SetUserId(s.User)
			m.SetLatestUpdateTime(0)
			h.ask(&question{peer: peer(), s: s, key: uint64(s.User), req: m, encoded: true,
				shared: true, done: done, asked: h.opt.Now()})
		}}
	router.Handle(r, router.LoggedIn, func(s *session.Client, seq uint16, m PQ) error {
		if m.GetLatestUpdateTime() != 0 {
			return h.pass(s, seq, peer(), m, d.want)
		}
		return d.query(s, seq, m.Command())
	})
}

// directory is a query for all entries, on its way for many clients.
//
// A client that asks while one is on its way waits for the next: the answer may have been
// made before the question, and would not show a change that the client has just been
// told. So there are never more than two, whatever the number of clients that log in.
type directory struct {
	h    *Handler
	want pb.Command
	ask  func(s *session.Client, done func(pb.Message, error))

	mu      sync.Mutex
	asked   bool
	waiting []asker // for the next; bounded by maxAsked for each connection
}

// asker is a client that waits for a directory.
type asker struct {
	entered
	seq uint16
	cmd pb.Command
}

func (d *directory) query(s *session.Client, seq uint16, cmd pb.Command) error {
	return d.h.Enter(s, queryCost, nil, func(q entered) { d.add(asker{q, seq, cmd}) })
}

// add lets a client wait for the next answer.
func (d *directory) add(a asker) {
	d.mu.Lock()
	d.waiting = append(d.waiting, a)
	begin := !d.asked
	d.asked = true
	d.mu.Unlock()
	if begin {
		d.next()
	}
}

// next asks for all clients that wait now. The caller has set asked, so it is the only
// one.
func (d *directory) next() {
	d.mu.Lock()
	served := d.waiting
	d.waiting = nil
	d.asked = len(served) > 0
	d.mu.Unlock()
	if len(served) == 0 {
		return
	}
	d.ask(served[0].s, func(rsp pb.Message, err error) {
		d.next() // before the answers are sent: the clients of the next query have waited longer
		d.serve(served, rsp, err)
	})
}

// serve gives the answer to the clients it was asked for. It runs where the answer
// arrives.
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
		a.s.Loop().PostResult(func(rsp pb.Message, err error) {
			d.h.passed(a.entered, a.seq, a.cmd, d.want, rsp, err, func() { d.add(a) })
		}, answer, err)
	}
}
