package passing

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A query that only reads may be sent twice. When it meets no server, or loses its server
// before the answer, it is held, and sent again when a server takes requests. Clients
// repeat a query after seconds, or not at all: without this, a restart of the only
// db_proxy leaves a client without a part of its history.
//
// Requests that change something are never sent again: the first one may have been carried
// out, and another one of the client may have followed it. Those of Tell are the exception:
// to carry them out twice changes nothing.

// Bounds of the queries that are held in this process. A query counts with its bytes and
// holdOverhead. Those of one connection are bounded by maxQueries. Short queries have
// heldForShort bytes that long ones cannot fill.
const (
	maxHeld      = 65_536
	maxHeldBytes = 32 << 20
	heldForShort = 8 << 20
	holdOverhead = 512
)

// Pauses between two attempts of a query that a server took and did not answer. A query
// that met no server is sent as soon as there is one.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 400 * time.Millisecond
)

// question is a query on its way.
type question struct {
	peer    Peer
	s       *session.Client // its loop holds the question
	on      *session.Loop   // done runs there, or with nil wherever the answer arrives
	key     uint64
	seq     uint16
	req     attachment
	encoded bool // the answer is only forwarded
	shared  bool // the answer is wanted when s has ended, because several clients wait for it
	done    func(pb.Message, error)
	// told says that the question is a change of Tell: it counts as no query of its client.
	// again, unless nil, takes the place of req after an attempt that may have succeeded.
	told  bool
	again attachment

	asked time.Time     // the first attempt
	size  int64         // while it is held
	cause error         // of the last attempt
	next  time.Time     // no attempt is made before
	pause time.Duration // before next
}

// holding counts the questions that are held. Any goroutine.
type holding struct {
	total        prometheus.Counter
	count, bytes atomic.Int64
}

func newHolding(reg prometheus.Registerer) *holding {
	x := &holding{total: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "teamtalk_msg_queries_held_total",
		Help: "Queries, and changes of the list of waiting files, that met no server, or lost " +
			"theirs before the answer, and are held until a server takes requests. A query " +
			"counts each time.",
	})}
	if reg != nil {
		reg.MustRegister(x.total, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "teamtalk_msg_queries_held_waiting",
			Help: "Queries, and changes of the list of waiting files, held until a server takes " +
				"requests.",
		}, func() float64 { return float64(x.count.Load()) }))
	}
	return x
}

// add counts a held question of a size. It returns false when too many are held.
func (x *holding) add(size int64) bool {
	count, bytes := x.count.Add(1), x.bytes.Add(size)
	limit := int64(maxHeldBytes)
	if size > shortQuery+holdOverhead {
		limit -= heldForShort
	}
	if count > maxHeld || bytes > limit {
		x.remove(size)
		return false
	}
	x.total.Inc()
	return true
}

func (x *holding) remove(size int64) {
	x.count.Add(-1)
	x.bytes.Add(-size)
}

// givenUp is the error of a query that is not held any longer.
type givenUp struct {
	reason string // for the metric
	cause  error
}

// Error returns the reason and the cause.
func (g *givenUp) Error() string { return g.reason + ": " + g.cause.Error() }

// Unwrap returns the cause.
func (g *givenUp) Unwrap() error { return g.cause }

// ask sends a question of a client, again when it meets no server or loses its server. Any
// number of attempts ends in one call of done. Loop only, with on nil any goroutine.
func (h *Handler) ask(q *question) {
	call := q.peer.Call
	if p, ok := q.peer.(encodedPeer); ok && q.encoded {
		call = p.CallEncoded
	}
	call(q.on, q.key, q.seq, q.req, func(rsp pb.Message, err error) {
		switch {
		case err == nil || h.opt.Hold <= 0 || !q.mayRepeat(err):
			q.done(rsp, err)
		case q.on == nil:
			q.s.Loop().Post(func() { h.hold(q, err) })
		default:
			h.hold(q, err)
		}
	})
}

// mayRepeat reports whether another attempt may succeed after one that ended with err. A
// server that has not answered in time has the query still.
func (q *question) mayRepeat(err error) bool {
	var overdue *link.Overdue
	if errors.As(err, &overdue) {
		return q.again != nil
	}
	if errors.Is(err, link.ErrTooLong) {
		return false
	}
	switch im.KindOf(err) {
	case im.Unavailable, im.Busy, im.Closed:
		return true
	}
	return false
}

// hold keeps a question whose attempt ended with err for the next one. Loop only.
func (h *Handler) hold(q *question, err error) {
	now := q.s.Loop().Now()
	if h.isOver(q, now) {
		h.giveUp(q, "hold_expired", err)
		return
	}
	if q.again != nil && !errors.Is(err, link.ErrNotSent) {
		q.req, q.again = q.again, nil
	}
	q.size = int64(proto.Size(q.req)) + holdOverhead
	if !h.holding.add(q.size) {
		h.giveUp(q, "hold_full", err)
		return
	}
	q.cause, q.next = err, now
	if q.peer.Up() {
		q.pause = min(max(2*q.pause, firstPause), maxPause)
		q.next = now.Add(q.pause)
	}
	if !q.told {
		h.opt.Client(q.s).held++
	}
	st := h.opt.Loop(q.s.Loop())
	st.held = append(st.held, q)
}

// isOver reports whether no further attempt of a question is made.
func (h *Handler) isOver(q *question, now time.Time) bool {
	limit := h.opt.Hold
	if q.told {
		limit = max(limit, tellFor)
	}
	return now.Sub(q.asked) >= limit || q.s.IsClosed() && !q.shared
}

// giveUp ends a question without an answer.
func (h *Handler) giveUp(q *question, reason string, cause error) {
	if q.s.IsClosed() && !q.shared {
		reason = "client_gone"
	}
	q.done(nil, &givenUp{reason, cause})
}

// sendHeld sends the questions of a loop whose time has come, and gives up those that are
// too old. Loop only.
func (h *Handler) sendHeld(l *session.Loop, now time.Time) {
	st := h.opt.Loop(l)
	if len(st.held) == 0 {
		return
	}
	var ready []*question
	st.held = slices.DeleteFunc(st.held, func(q *question) bool {
		if h.isOver(q, now) || !now.Before(q.next) && q.peer.Up() {
			ready = append(ready, q)
			return true
		}
		return false
	})
	if len(st.held) == 0 {
		st.held = nil // release what append has grown
	}
	for _, q := range ready { // they may be held again
		h.holding.remove(q.size)
		if !q.told {
			h.opt.Client(q.s).held--
		}
		if h.isOver(q, now) {
			h.giveUp(q, "hold_expired", q.cause)
			continue
		}
		h.ask(q)
	}
}
