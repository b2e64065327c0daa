// Package turns puts the messages between two users into the order of their ids.
//
// The messages of two users reach this server on two ways: those that it had stored with
// the answers of db_proxy, those of other message servers through a route server. Each
// way keeps the order of the ids, the two together do not. So a message that arrives
// before its predecessor is held until the predecessor was delivered.
//
// Which message is the predecessor is known from PrevID. db_proxy sets it when the
// predecessor was stored within the last second. When this server has delivered a message
// of the conversation lately, and has sessions that were connected then, the next id is
// known as well. So in order nothing waits, also when this server has not seen the
// conversation before. A message without a PrevID was stored or forwarded by a C++
// server, or by an older version, and never waits.
//
// When a predecessor does not arrive soon, db_proxy is asked for it, see search.go.
package turns

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/hash"
	"teamtalk/core/im"
	"teamtalk/core/recent"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/missing"
	"teamtalk/proto/pb"
)

const (
	// turnAge is how long the last message of a conversation is remembered, at least. It
	// is longer than the time for which db_proxies name a predecessor, and for which
	// message servers send messages again, see package peers. maxTurns bounds the
	// conversations remembered, at about 50 bytes each.
	turnAge  = 45 * time.Second
	maxTurns = 1 << 18
	maxFound = 1 << 15 // the found messages remembered
	// maxHeld bounds the messages of one conversation that wait, maxHeldBytes those of
	// all. Beyond, a message is delivered at once.
	maxHeld      = 256
	maxHeldBytes = 16 << 20
	heldCost     = 256 // bytes counted for a message besides its content

	turnShards = 64
)

// Turn is a stored message on its way to the devices of its two users here.
type Turn struct {
	M    *pb.MsgData
	From *session.Client // the sender's, nil for a message of another message server
	Tag  session.Tag     // for the receiver's devices
	// Since is a session id, 0 for a message that was neither held nor repeated. Sessions
	// with that id or a higher one connected after the message was stored: they find it
	// in the history.
	Since uint64
	// Found says that a search found the message: its sender's session is not known.
	Found bool

	came time.Time
	gap  missing.Gap // before it
}

// lastTurn is the message of a conversation that was delivered last: its id, and a
// session id. Sessions with a lower one were connected when it was stored.
type lastTurn struct {
	id    uint32
	since uint64
}

// Turns delivers the messages of each conversation between two users in the order of
// their ids. Any goroutine.
type Turns struct {
	opt     Options
	metrics turnMetrics
	bytes   atomic.Int64 // of the messages that wait
	waiting atomic.Int64
	shards  [turnShards]turnShard
}

// Finder asks db_proxy for messages that did not arrive.
type Finder interface {
	// Search calls done with the messages of c with ids, in descending order, that exist,
	// or with an error. done must not wait. Search reports whether it asked.
	Search(c missing.Conversation, ids []uint32, done func(found []*pb.MsgData, err error)) bool
}

// Options sets up Turns. All fields but Registerer must be set.
type Options struct {
	// Deliver sends a message to the devices here. It must not wait.
	Deliver func(t Turn)
	Online  *session.Registry
	Missing Finder
	// Since returns a session id. Sessions with that id or a higher one connected less
	// than age ago, others before that.
	Since func(age time.Duration) uint64

	Now        func() time.Time
	Registerer prometheus.Registerer // nil: the metrics are not registered
}

// turnShard is the conversations of some keys.
type turnShard struct {
	mu   sync.Mutex
	last recent.Map[uint64, lastTurn] // the highest id delivered
	held map[uint64]*heldTurns
	// found are the messages that were delivered because a search found them.
	found recent.Map[foundTurn, struct{}]
}

// foundTurn is a message of a conversation.
type foundTurn struct {
	key uint64
	id  uint32
}

// heldTurns is the messages of one conversation that wait.
type heldTurns struct {
	list  []*Turn // in the order of ids
	timer *time.Timer
}

// New returns Turns that know no conversation.
func New(opt Options) *Turns {
	ts := &Turns{opt: opt}
	ts.metrics = newTurnMetrics(opt.Registerer, ts)
	for i := range ts.shards {
		ts.shards[i].last = recent.Map[uint64, lastTurn]{Age: turnAge,
			Max: maxTurns / 2 / turnShards}
		ts.shards[i].found = recent.Map[foundTurn, struct{}]{Age: turnAge,
			Max: maxFound / 2 / turnShards}
		ts.shards[i].held = map[uint64]*heldTurns{}
	}
	return ts
}

// isEarly reports whether messages are missing before t when last is the last one
// delivered.
func (ts *Turns) isEarly(t *Turn, last lastTurn) bool {
	id, prev := t.M.MsgID, t.M.PrevID
	switch {
	case !t.inOrder():
		return false
	case last.id < prev && prev < id:
		return true
	}
	return last.id != 0 && id > last.id+1 && ts.awaits(t.M, last.since)
}

// inOrder reports whether t may be held, and is dropped when it comes too late. A C++
// server's message has no PrevID, and never waits.
func (t *Turn) inOrder() bool { return t.M.HasPrevID || t.Found || t.M.Duplicate }

func (t *Turn) size() int64 { return int64(len(t.M.Data) + heldCost) }

// Take delivers a message, and those that waited for it. If the message has to wait, it
// is delivered later. The message must not change any more.
func (ts *Turns) Take(t Turn) {
	key := im.ConversationKey(t.M.FromUserID, t.M.ToSessionID)
	sh := &ts.shards[hash.Next(key)%turnShards]
	t.came = ts.opt.Now()
	if t.M.Resent {
		t.Since = ts.opt.Since(missing.Age(t.M))
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if h := sh.held[key]; h != nil && len(h.list) >= maxHeld {
		ts.metrics.full.Inc()
		ts.sendFirst(sh, key, h) // without its predecessor
		ts.proceed(sh, key, h)
	}
	h := sh.held[key]
	last, _ := sh.last.Get(key)
	if t.M.MsgID > last.id {
		behind := h != nil && t.inOrder() && h.list[0].M.MsgID < t.M.MsgID
		if (behind || ts.isEarly(&t, last)) && ts.hold(sh, key, h, t) {
			return
		}
	}
	ts.send(sh, key, &t, last)
	if h != nil {
		ts.proceed(sh, key, h)
	}
}

// hold makes a message wait. It returns false when too many wait. With the shard's lock.
func (ts *Turns) hold(sh *turnShard, key uint64, h *heldTurns, t Turn) bool {
	if h != nil {
		if at, there := h.place(t.M.MsgID); there { // sent again, or found by a search
			ts.metrics.repeated.Inc()
			o := h.list[at]
			before := o.size()
			o.arrived(&t)
			ts.bytes.Add(o.size() - before)
			return true
		}
	}
	if ts.bytes.Add(t.size()) > maxHeldBytes {
		ts.bytes.Add(-t.size())
		ts.metrics.full.Inc()
		return false
	}
	ts.waiting.Add(1)
	ts.metrics.held.Inc()
	if t.Since == 0 {
		t.Since = ts.opt.Since(missing.Age(t.M))
	}
	if h == nil {
		h = &heldTurns{}
		sh.held[key] = h
	}
	at, _ := h.place(t.M.MsgID)
	h.list = slices.Insert(h.list, at, &t)
	ts.proceed(sh, key, h)
	return true
}

// place returns the place of the message with that id, and whether it waits.
func (h *heldTurns) place(id uint32) (at int, there bool) {
	return slices.BinarySearchFunc(h.list, id,
		func(o *Turn, id uint32) int { return cmp.Compare(o.M.MsgID, id) })
}

// proceed delivers the messages that wait, as far as it may. With the shard's lock.
func (ts *Turns) proceed(sh *turnShard, key uint64, h *heldTurns) {
	for len(h.list) > 0 {
		t := h.list[0]
		if last, _ := sh.last.Get(key); ts.isEarly(t, last) {
			now := ts.opt.Now()
			again := now
			if !t.gap.Over {
				again = ts.search(sh, key, t, last, now)
			}
			if now.Before(again) {
				ts.after(sh, key, h, again.Sub(now))
				return
			}
			ts.metrics.givenUp.Inc()
		}
		ts.sendFirst(sh, key, h)
	}
	h.stop()
	delete(sh.held, key)
}

// sendFirst delivers the first message that waits. With the shard's lock.
func (ts *Turns) sendFirst(sh *turnShard, key uint64, h *heldTurns) {
	t := h.list[0]
	h.list = slices.Delete(h.list, 0, 1)
	ts.bytes.Add(-t.size())
	last, _ := sh.last.Get(key)
	ts.send(sh, key, t, last)
	ts.waiting.Add(-1) // after it was sent: connections end when no message waits
}

func (h *heldTurns) stop() {
	if h.timer != nil {
		h.timer.Stop()
	}
}

// after calls proceed in d. With the shard's lock.
func (ts *Turns) after(sh *turnShard, key uint64, h *heldTurns, d time.Duration) {
	h.stop()
	h.timer = time.AfterFunc(d, func() {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		if sh.held[key] == h {
			ts.proceed(sh, key, h)
		}
	})
}

// send delivers a message, unless one with a higher id was delivered before. With the
// shard's lock, so that all messages of a conversation leave in one order.
func (ts *Turns) send(sh *turnShard, key uint64, t *Turn, last lastTurn) {
	switch {
	case t.M.MsgID > last.id:
		since := t.Since
		if since == 0 { // it did not wait
			since = session.NextID()
		}
		sh.last.Put(key, lastTurn{t.M.MsgID, since}, ts.opt.Now())
		if t.Found {
			sh.found.Put(foundTurn{key, t.M.MsgID}, struct{}{}, ts.opt.Now())
		}
	case t.Found || t.M.Resent || t.M.Duplicate || sh.isFound(key, t.M.MsgID):
		ts.metrics.repeated.Inc()
		return
	default:
		ts.metrics.late.Inc()
		if t.M.HasPrevID { // otherwise a C++ server's, which did not wait
			return
		}
	}
	ts.opt.Deliver(*t)
}

// Waiting returns the number of messages that wait.
func (ts *Turns) Waiting() int64 { return ts.waiting.Load() }

// awaits reports whether a session of m's users has an id below since.
func (ts *Turns) awaits(m *pb.MsgData, since uint64) bool {
	before := func(s *session.Client) bool { return s.ID() < since }
	return slices.ContainsFunc(ts.opt.Online.Of(m.ToSessionID), before) ||
		slices.ContainsFunc(ts.opt.Online.Of(m.FromUserID), before)
}

// turnMetrics counts the messages that did not arrive in their order.
type turnMetrics struct{ held, givenUp, full, late, repeated prometheus.Counter }

func newTurnMetrics(reg prometheus.Registerer, ts *Turns) turnMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(
			prometheus.CounterOpts{Name: "teamtalk_msg_" + name, Help: help})
	}
	m := turnMetrics{
		held: counter("turns_held_total", "Messages between users that arrived before the "+
			"message that precedes them, and waited for it."),
		givenUp: counter("turns_given_up_total", "Of those, the ones delivered although the "+
			"message that precedes them had not arrived, and db_proxy did not answer or not "+
			"have it."),
		full: counter("turns_full_total", "Messages between users delivered before the message "+
			"that precedes them, because too many waited."),
		late: counter("turns_late_total", "Messages between users that arrived after one with "+
			"a higher id was delivered. They are in the history, and are not delivered unless "+
			"a C++ server forwarded them."),
		repeated: counter("turns_repeated_total", "Messages between users that arrived after "+
			"db_proxy was asked for them, or a second time, and were not delivered again."),
	}
	if reg != nil {
		reg.MustRegister(m.held, m.givenUp, m.full, m.late, m.repeated,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_msg_turns_waiting",
				Help: "Messages between users that wait for the message that precedes them."},
				func() float64 { return float64(ts.waiting.Load()) }))
	}
	return m
}
