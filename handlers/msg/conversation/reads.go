package conversation

import (
	"time"

	"teamtalk/core/im"
	"teamtalk/core/rate"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/readmarks"
)

// A client sends a read ack for each conversation that it opens, and for each message while
// one is on the screen. A user that marks all conversations as read sends thousands at once.
// Beyond a rate they wait here, the last one of each conversation, and none is lost. So
// db_proxy has few of them between the requests of other users.

const (
	// readRate is how many read acks a second of one connection are passed on, readBurst
	// how many at once.
	readRate  = 50.0
	readBurst = 100.0
	// maxHeldReads is how many conversations' read acks one connection may have waiting. A
	// user of the field has 3,000 conversations and groups.
	maxHeldReads = 4096
	// maxAllReads bounds the waiting read acks of all connections, except freeReads of
	// each that is open: 20 MB.
	maxAllReads = 1 << 18
	freeReads   = 128
	// flushRate and flushBurst bound the read acks of all connections of a loop that are
	// passed on before their turn, except freeReads of each.
	flushRate  = 1000.0
	flushBurst = 8192.0
)

// heldRead is a read ack that waits for its turn.
type heldRead struct {
	key readmarks.Key
	id  uint32
	seq uint16
}

// heldReads are the read acks of one connection that wait, in the order of their arrival.
type heldReads struct {
	list  []heldRead
	taken int                   // were at the front of list and are passed on
	at    map[readmarks.Key]int // place in list, plus those taken
	gone  bool                  // the connection has ended: all of list count in Reads.held
}

// readLoop is what Reads keeps for each loop.
type readLoop struct {
	reads   map[*session.Client]*heldReads
	flushes rate.Bucket
}

// holdRead keeps a read ack until its turn. It replaces an earlier one of the conversation.
func (h *Reads) holdRead(st *Loop, s *session.Client, r heldRead) error {
	held := st.reads[s]
	if held == nil {
		held = &heldReads{at: map[readmarks.Key]int{}}
	}
	if i, ok := held.at[r.key]; ok {
		h.metric.WithLabelValues("merged").Inc()
		if o := &held.list[i-held.taken]; r.id > o.id {
			*o = r
		}
		h.opt.NoEffect(s)
		return nil
	}
	n := len(held.list)
	if n >= maxHeldReads {
		h.metric.WithLabelValues("dropped").Inc()
		return im.Errorf(im.Denied, "read ack dropped: those of %d conversations wait", n)
	}
	if n >= freeReads && h.held.Add(1) > maxAllReads {
		h.held.Add(-1)
		h.metric.WithLabelValues("full").Inc()
		h.often.Warn(h.opt.Log, h.opt.Now(), "read ack dropped: too many of all clients wait",
			"conn", s.ID(), "user", s.User, "waiting", maxAllReads)
		return im.Errorf(im.Denied, "read ack dropped: %d of all clients wait", maxAllReads)
	}
	held.at[r.key] = held.taken + n
	held.list = append(held.list, r)
	if st.reads == nil {
		st.reads = map[*session.Client]*heldReads{}
	}
	st.reads[s] = held
	return nil
}

// passReads passes on the read acks whose turn it is. Those of connections that are gone
// share the rate of the loop.
func (h *Reads) passReads(st *Loop, now time.Time) {
	for s, held := range st.reads {
		b, perSecond, burst := &h.opt.Client(s).reads, readRate, readBurst
		if s.IsClosed() {
			h.leave(held)
			b, perSecond, burst = &st.flushes, flushRate, flushBurst
		}
		for len(held.list) > 0 && b.Take(now, perSecond, burst) {
			h.passFirst(s, held)
		}
		st.dropReads(s, held)
	}
}

// leave counts the read acks of a connection that has ended with those of all. Those that every
// connection may have are as many as there are connections, and of ended ones there may be any
// number: a user logs in, sends read acks and leaves, again and again.
func (h *Reads) leave(held *heldReads) {
	if held.gone {
		return
	}
	held.gone = true
	free := min(len(held.list), freeReads)
	if h.held.Add(int64(free)) > maxAllReads {
		h.held.Add(-int64(free))
		h.metric.WithLabelValues("full").Add(float64(free))
		held.list = held.list[:len(held.list)-free]
	}
}

// FlushReads passes on the read acks of s that wait, so that a query after them finds the
// unread counts cleared, unless too many clients do so at the same time. It returns their
// number. Loop only.
func (h *Reads) FlushReads(s *session.Client) int {
	st := h.opt.Loop(s.Loop())
	held := st.reads[s]
	if held == nil {
		return 0
	}
	n := 0
	for len(held.list) > 0 &&
		(n < freeReads || st.flushes.Take(s.Loop().Now(), flushRate, flushBurst)) {
		h.passFirst(s, held)
		n++
	}
	st.dropReads(s, held)
	return n
}

// dropReads forgets what is kept for a client without read acks that wait.
func (st *readLoop) dropReads(s *session.Client, held *heldReads) {
	if len(held.list) > 0 {
		return
	}
	if delete(st.reads, s); len(st.reads) == 0 {
		st.reads = nil
	}
}

// passFirst passes on the read ack that has waited longest.
func (h *Reads) passFirst(s *session.Client, held *heldReads) {
	r := held.list[0]
	if held.gone || len(held.list) > freeReads {
		h.held.Add(-1)
	}
	held.list = held.list[1:]
	held.taken++
	delete(held.at, r.key)
	if err := h.passRead(s, r); err != nil {
		h.often.Warn(h.opt.Log, h.opt.Now(), "read ack not passed on",
			"conn", s.ID(), "user", s.User, "err", err)
	}
}
