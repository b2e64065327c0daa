package conversation

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/hash"
	"teamtalk/core/recent"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/missing"
	"teamtalk/proto/pb"
)

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

// turn is a stored message on its way to the devices of its two users here.
type turn struct {
	m    *pb.MsgData
	from *session.Client // the sender's, nil for a message of another message server
	tag  session.Tag     // for the receiver's devices
	came time.Time
	// since is a session id, 0 for a message that was not held. Sessions with that id or
	// a higher one connected after the message was stored: they find it in the history.
	since uint64
	found bool        // by a search
	gap   missing.Gap // before it
}

// lastTurn is the message of a conversation that was delivered last: its id, and a session
// id. Sessions with a lower one were connected when it was stored.
type lastTurn struct {
	id    uint32
	since uint64
}

// turns delivers the messages of each conversation between two users in the order of
// their ids. Any goroutine.
type turns struct {
	turnOptions
	metrics turnMetrics
	bytes   atomic.Int64 // of the messages that wait
	waiting atomic.Int64
	shards  [turnShards]turnShard
}

// turnOptions sets up turns.
type turnOptions struct {
	now     func() time.Time
	deliver func(t turn)                   // must not wait
	since   func(age time.Duration) uint64 // see Options
	// awaits reports whether a session with an id below since waits for the messages of
	// m's conversation.
	awaits  func(m *pb.MsgData, since uint64) bool
	missing Finder
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
	list  []*turn // in the order of ids
	timer *time.Timer
}

func newTurns(opt turnOptions, reg prometheus.Registerer) *turns {
	ts := &turns{turnOptions: opt}
	ts.metrics = newTurnMetrics(reg, ts)
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
func (ts *turns) isEarly(t *turn, last lastTurn) bool {
	id, prev := t.m.MsgID, t.m.PrevID
	switch {
	case !t.m.HasPrevID && !t.found:
		return false
	case last.id < prev && prev < id:
		return true
	}
	return last.id != 0 && id > last.id+1 && ts.awaits(t.m, last.since)
}

func (t *turn) size() int64 { return int64(len(t.m.Data) + heldCost) }

// take delivers a message, and those that waited for it. If the message has to wait, it is
// delivered later. The message must not change any more.
func (ts *turns) take(t turn) {
	key := OrderKey(t.m)
	sh := &ts.shards[hash.Next(key)%turnShards]
	t.came = ts.now()
	if t.m.Resent {
		t.since = ts.since(missing.Age(t.m))
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
	if t.m.MsgID > last.id {
		behind := h != nil && t.m.HasPrevID && h.list[0].m.MsgID < t.m.MsgID
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
func (ts *turns) hold(sh *turnShard, key uint64, h *heldTurns, t turn) bool {
	if h != nil {
		if at, there := h.place(t.m.MsgID); there { // sent again, or found by a search
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
	t.since = ts.since(missing.Age(t.m))
	if h == nil {
		h = &heldTurns{}
		sh.held[key] = h
	}
	at, _ := h.place(t.m.MsgID)
	h.list = slices.Insert(h.list, at, &t)
	ts.proceed(sh, key, h)
	return true
}

// place returns the place of the message with that id, and whether it waits.
func (h *heldTurns) place(id uint32) (at int, there bool) {
	return slices.BinarySearchFunc(h.list, id,
		func(o *turn, id uint32) int { return cmp.Compare(o.m.MsgID, id) })
}

// proceed delivers the messages that wait, as far as it may. With the shard's lock.
func (ts *turns) proceed(sh *turnShard, key uint64, h *heldTurns) {
	for len(h.list) > 0 {
		t := h.list[0]
		if last, _ := sh.last.Get(key); ts.isEarly(t, last) {
			now := ts.now()
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
func (ts *turns) sendFirst(sh *turnShard, key uint64, h *heldTurns) {
	t := h.list[0]
	h.list = slices.Delete(h.list, 0, 1)
	ts.waiting.Add(-1)
	ts.bytes.Add(-t.size())
	last, _ := sh.last.Get(key)
	ts.send(sh, key, t, last)
}

func (h *heldTurns) stop() {
	if h.timer != nil {
		h.timer.Stop()
	}
}

// after calls proceed in d. With the shard's lock.
func (ts *turns) after(sh *turnShard, key uint64, h *heldTurns, d time.Duration) {
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
func (ts *turns) send(sh *turnShard, key uint64, t *turn, last lastTurn) {
	switch {
	case t.m.MsgID > last.id:
		since := t.since
		if since == 0 { // it did not wait
			since = session.NextID()
		}
		sh.last.Put(key, lastTurn{t.m.MsgID, since}, ts.now())
		if t.found {
			sh.found.Put(foundTurn{key, t.m.MsgID}, struct{}{}, ts.now())
		}
	case t.found || t.m.Resent || sh.isFound(key, t.m.MsgID):
		ts.metrics.repeated.Inc()
		return
	default:
		ts.metrics.late.Inc()
		if t.m.HasPrevID { // otherwise a C++ server's, which did not wait
			return
		}
	}
	ts.deliver(*t)
}

// turnMetrics counts the messages that did not arrive in their order.
type turnMetrics struct{ held, givenUp, full, late, repeated prometheus.Counter }

func newTurnMetrics(reg prometheus.Registerer, ts *turns) turnMetrics {
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
