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
	"teamtalk/proto/pb"
)

// The messages of two users reach this server on two ways: those that it had stored with
// the answers of db_proxy, those of other message servers through a route server. Each
// way keeps the order of the ids, the two together do not. So a message that arrives
// before its predecessor is held until the predecessor was delivered.
//
// Which message is the predecessor is known from PrevID. db_proxy sets it when the
// predecessor was stored within the last second: an older one has been delivered, or is
// lost. So in order nothing waits, also when this server has not seen the conversation
// before. A message without a PrevID was stored or forwarded by a C++ server, or by an
// older version, and never waits.

const (
	// turnWait is how long a message waits for its predecessor, which arrives within
	// milliseconds, if it arrives.
	turnWait = time.Second
	// turnAge is how long the last message of a conversation is remembered, at least. It
	// is longer than the time for which db_proxies name a predecessor. maxTurns bounds
	// the conversations remembered, at about 40 bytes each.
	turnAge  = 8 * time.Second
	maxTurns = 1 << 18
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
	// since is a session id, 0 for a message that was neither held nor repeated. Sessions
	// with that id or a higher one connected after the message was stored: they find it in
	// the history.
	since uint64
}

// turns delivers the messages of each conversation between two users in the order of
// their ids. Any goroutine.
type turns struct {
	now     func() time.Time
	deliver func(t turn) // must not wait
	metrics turnMetrics
	bytes   atomic.Int64 // of the messages that wait
	waiting atomic.Int64
	shards  [turnShards]turnShard
}

// turnShard is the conversations of some keys.
type turnShard struct {
	mu   sync.Mutex
	last recent.Map[uint64, uint32] // the highest id delivered
	held map[uint64]*heldTurns
}

// heldTurns is the messages of one conversation that wait.
type heldTurns struct {
	list  []turn // in the order of ids
	timer *time.Timer
}

func newTurns(now func() time.Time, deliver func(turn), reg prometheus.Registerer) *turns {
	ts := &turns{now: now, deliver: deliver}
	ts.metrics = newTurnMetrics(reg, ts)
	for i := range ts.shards {
		ts.shards[i].last = recent.Map[uint64, uint32]{Age: turnAge,
			Max: maxTurns / 2 / turnShards}
		ts.shards[i].held = map[uint64]*heldTurns{}
	}
	return ts
}

// waits reports whether the message has to wait when last is the highest id delivered.
func (t *turn) waits(last uint32) bool {
	return t.m.HasPrevID && last < t.m.PrevID && t.m.PrevID < t.m.MsgID
}

func (t *turn) size() int64 { return int64(len(t.m.Data) + heldCost) }

// take delivers a message, and those that waited for it. If the message has to wait, it is
// delivered later. The message must not change any more.
func (ts *turns) take(t turn) {
	key := OrderKey(t.m)
	sh := &ts.shards[hash.Next(key)%turnShards]
	t.came = ts.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if h := sh.held[key]; h != nil && len(h.list) >= maxHeld {
		ts.metrics.full.Inc()
		ts.sendFirst(sh, key, h) // without its predecessor
		ts.proceed(sh, key, h)
	}
	h := sh.held[key]
	last, _ := sh.last.Get(key)
	behind := h != nil && t.m.HasPrevID && h.list[0].m.MsgID < t.m.MsgID
	if (t.waits(last) || behind) && last < t.m.MsgID && ts.hold(sh, key, h, t) {
		return
	}
	ts.send(sh, key, t, last)
	if h != nil {
		ts.proceed(sh, key, h)
	}
}

// hold makes a message wait. It returns false when too many wait. With the shard's lock.
func (ts *turns) hold(sh *turnShard, key uint64, h *heldTurns, t turn) bool {
	if ts.bytes.Add(t.size()) > maxHeldBytes {
		ts.bytes.Add(-t.size())
		ts.metrics.full.Inc()
		return false
	}
	ts.waiting.Add(1)
	ts.metrics.held.Inc()
	if t.since == 0 {
		t.since = session.NextID()
	}
	if h == nil {
		h = &heldTurns{}
		sh.held[key] = h
	}
	at, _ := slices.BinarySearchFunc(h.list, t.m.MsgID,
		func(o turn, id uint32) int { return cmp.Compare(o.m.MsgID, id) })
	h.list = slices.Insert(h.list, at, t)
	ts.proceed(sh, key, h)
	return true
}

// proceed delivers the messages that wait, as far as it may. With the shard's lock.
func (ts *turns) proceed(sh *turnShard, key uint64, h *heldTurns) {
	for len(h.list) > 0 {
		t := &h.list[0]
		if last, _ := sh.last.Get(key); t.waits(last) {
			if left := turnWait - ts.now().Sub(t.came); left > 0 {
				ts.after(sh, key, h, left)
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

// send delivers a message. With the shard's lock, so that all messages of a conversation
// leave in one order.
func (ts *turns) send(sh *turnShard, key uint64, t turn, last uint32) {
	if t.m.MsgID <= last {
		ts.metrics.late.Inc()
	} else {
		sh.last.Put(key, t.m.MsgID, ts.now())
	}
	ts.deliver(t)
}

// turnMetrics counts the messages that did not arrive in their order.
type turnMetrics struct{ held, givenUp, full, late prometheus.Counter }

func newTurnMetrics(reg prometheus.Registerer, ts *turns) turnMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(
			prometheus.CounterOpts{Name: "teamtalk_msg_" + name, Help: help})
	}
	m := turnMetrics{
		held: counter("turns_held_total", "Messages between users that arrived before the "+
			"message that precedes them, and waited for it."),
		givenUp: counter("turns_given_up_total", "Of those, the ones delivered although the "+
			"message that precedes them had not arrived after a second."),
		full: counter("turns_full_total", "Messages between users delivered before the message "+
			"that precedes them, because too many waited."),
		late: counter("turns_late_total", "Messages between users delivered after one with a "+
			"higher id."),
	}
	if reg != nil {
		reg.MustRegister(m.held, m.givenUp, m.full, m.late,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_msg_turns_waiting",
				Help: "Messages between users that wait for the message that precedes them."},
				func() float64 { return float64(ts.waiting.Load()) }))
	}
	return m
}
