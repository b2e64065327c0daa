package passing

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A connection has few requests in flight at other servers, and the rest of its requests
// wait here. So the requests of one client that asks without end are never between those
// of others: in the queues of links, of db_proxy's workers and of the route server there
// are at most maxAsked of them. A request also waits until its client has read most of
// the answers before it, and until the client has a budget for it. A client of the field
// notices none of this.

const (
	// maxQueries is how many queries of one connection may wait, in flight or for their
	// turn. A client that shows its first screen asks about each of its 100 latest
	// conversations at once, and some ask about 200. maxLong bounds their bytes.
	maxQueries = 256
	// maxAsked is how many of them may be in flight. db_proxy carries out the requests of
	// one user one after the other, so more would only hide the latency of a slower link.
	maxAsked = 16
	// maxUnread is how many bytes of answers a client may have left unread when its next
	// request is sent.
	maxUnread = 256 << 10
	// maxStats is how many users the status queries of one connection that wait for their
	// answers may ask about. A client asks about all users of the directory at once, tens
	// of thousands; each costs route_server some hundred nanoseconds.
	maxStats = 50_000

	// budgetRate is how many tokens for requests a connection gains a second, budgetBurst
	// how many it has at most. A first screen costs about 200.
	budgetRate  = 100.0
	budgetBurst = 1000.0

	// Costs in tokens.
	queryCost  = 1.0
	changeCost = 5.0              // a change is a transaction of the store
	statCost   = 1.0 / 200        // for each user in a status query
	byteCost   = 1.0 / (64 << 10) // for each byte of a long answer
	readCost   = 0.1              // for each read ack that a query passes on
)

// Loop is what the package keeps for each loop. The zero value is ready. Loop only.
type Loop struct {
	waiting map[*session.Client]struct{} // have requests or answers that wait
	held    []*question
}

// turn is a request that waits to be sent, or an answer that waits until the client has
// read those before it.
type turn struct {
	cost   float64
	answer int  // length of the answer; 0: a request
	before bool // before those that were not sent yet
	long   int  // bytes that a request counts in Handler.long
	run    func()
}

// Enter counts a query of the client of s, and calls send, which must send one request, as
// soon as it is its turn. The requests of a connection keep their order. m is what the query
// keeps in memory until its end, nil when it is short. send, or what it starts, must call Done
// of what it is given, once, on the loop. When send is called after a wait, s is not closed.
// The error says that too many queries wait, or too long ones; send is not called then. Loop
// only.
func (h *Handler) Enter(s *session.Client, cost float64, m proto.Message,
	send func(entered)) error {
	c := h.opt.Client(s)
	if c.queries >= maxQueries {
		h.opt.QueriesFailed.WithLabelValues("too_many").Inc()
		return im.Errorf(im.Denied, "query dropped: %d are waiting for their answers", c.queries)
	}
	long := memoryOf(m)
	if err := h.long.take(c, long); err != nil {
		h.often.Warn(h.log, h.opt.Now(), "query not passed on", "conn", s.ID(), "user", s.User,
			"err", err)
		return err
	}
	c.queries++
	run := func() { send(entered{h, s, long}) }
	if len(c.turns) == 0 && c.mayAsk(s, cost) {
		c.asked++
		run()
		return nil
	}
	h.wait(s, turn{cost: cost, run: run, long: long})
	return nil
}

// EnterChange is Enter for a request that changes the store. send is given Done.
func (h *Handler) EnterChange(s *session.Client, m proto.Message, send func(done func())) error {
	return h.Enter(s, changeCost, m, func(q entered) { send(q.Done) })
}

// mayAsk reports whether the next request of s may be sent now, and takes its cost.
func (c *Client) mayAsk(s *session.Client, cost float64) bool {
	return c.asked < maxAsked && s.Unread() <= maxUnread &&
		c.budget.TakeN(s.Loop().Now(), cost, budgetRate, budgetBurst)
}

// entered is a query that was sent.
type entered struct {
	h    *Handler
	s    *session.Client
	long int // bytes that it counts in Handler.long
}

// Done ends a query. Loop only.
func (q entered) Done() {
	c := q.h.opt.Client(q.s)
	c.queries--
	c.asked--
	q.h.long.put(c, q.long)
	q.h.proceed(q.s, c)
}

// wait enters a turn behind those before it.
func (h *Handler) wait(s *session.Client, t turn) {
	c, st := h.opt.Client(s), h.opt.Loop(s.Loop())
	i := len(c.turns)
	if t.before {
		i = 0
		for i < len(c.turns) && c.turns[i].before {
			i++
		}
	}
	c.turns = slices.Insert(c.turns, i, t)
	if st.waiting == nil {
		st.waiting = map[*session.Client]struct{}{}
	}
	st.waiting[s] = struct{}{}
}

// proceed takes the turns that are due, and drops those of a client that is gone.
func (h *Handler) proceed(s *session.Client, c *Client) {
	for len(c.turns) > 0 && !s.IsClosed() {
		t := c.turns[0]
		if t.answer > 0 && !s.Fits(t.answer) || t.answer == 0 && !c.mayAsk(s, t.cost) {
			return
		}
		c.turns[0] = turn{}
		c.turns = c.turns[1:]
		if t.answer == 0 {
			c.asked++
		}
		t.run()
	}
	for _, t := range c.turns {
		h.long.put(c, t.long)
	}
	c.turns = nil
	if st := h.opt.Loop(s.Loop()); st.waiting != nil {
		delete(st.waiting, s)
	}
}

// Due returns when Tick has something to do, see session.LoopHandler. Loop only.
func (h *Handler) Due(l *session.Loop) int64 {
	if st := h.opt.Loop(l); len(st.held)+len(st.waiting) > 0 {
		return 0
	}
	return session.Never
}

// Tick takes the turns that are due because clients have read, or have gained a budget, and
// sends the questions that are held.
func (h *Handler) Tick(l *session.Loop, now time.Time) {
	h.sendHeld(l, now)
	for s := range h.opt.Loop(l).waiting {
		h.proceed(s, h.opt.Client(s))
	}
}

// lengthOf returns about how long an answer is, 0 if it is short.
func lengthOf(m pb.Message) int {
	switch m := m.(type) {
	case *pb.Encoded:
		return len(m.Shared())
	case proto.Message:
		return proto.Size(m)
	}
	return 0
}

// fits reports whether an answer can be sent now, and returns its length if it cannot.
func fits(s *session.Client, m pb.Message) (n int, ok bool) {
	if s.Unread() == 0 {
		return 0, true
	}
	n = lengthOf(m)
	return n, s.Fits(n)
}

// askAgain puts a request whose answer does not fit before the others: the answer is
// dropped, and asked for when the client has read those before it. A client may ask for
// hundreds of megabytes at once, and keeping them would cost the memory of all.
func (q entered) askAgain(send func()) {
	q.h.opt.Client(q.s).asked--
	q.h.askedAgain.Inc()
	q.h.wait(q.s, turn{cost: queryCost, before: true, run: send, long: q.long})
}

// Answer sends an answer, when the client has read those before it. Loop only.
func (h *Handler) Answer(s *session.Client, seq uint16, m pb.Message) {
	if n, ok := fits(s, m); !ok {
		h.wait(s, turn{answer: n, before: true, run: func() { h.answer(s, seq, m) }})
		return
	}
	h.answer(s, seq, m)
}

func (h *Handler) answer(s *session.Client, seq uint16, m pb.Message) {
	if err := h.reply(s, seq, m); err != nil {
		h.log.Error("answer not sent", "conn", s.ID(), "cmd", m.Command().String(), "err", err)
	}
}
