// Package turns delivers each message once, and the messages between two users in the order
// of their ids. It keeps one record for each conversation: the ids that arrived lately,
// and the one that was delivered last. Of a group it only knows which messages arrived:
// package group orders them.
//
// The messages of two users reach this server on two ways: those that it had stored with
// the answers of db_proxy, those of other message servers through a route server. Each
// way keeps the order of the ids, the two together do not. So a message that arrives
// before its predecessor is held until the predecessor was delivered.
//
// Which message is the predecessor is known from PrevID. db_proxy sets it when the
// predecessor was stored within the last second, or by another db_proxy within the last
// seconds. When this server has delivered a message
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
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/missing"
	"teamtalk/proto/pb"
)

const (
	// maxHeld bounds the messages of one conversation that wait, maxHeldBytes those of
	// all. Beyond, a message is delivered at once.
	maxHeld      = 256
	maxHeldBytes = 16 << 20
	heldCost     = 256 // bytes counted for a message besides its content
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

// Turns delivers the messages of each conversation between two users once, and in the
// order of their ids. Any goroutine.
type Turns struct {
	opt     Options
	begun   time.Time
	metrics turnMetrics
	repeats repeatMetrics
	bytes   atomic.Int64 // of the messages that wait
	waiting atomic.Int64
	shards  [shards]shard
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
	// than age ago, others before that. It looks back for keep at least.
	Since func(age time.Duration) uint64

	Now func() time.Time
	// AfterFunc calls f in d, see mono.AfterFunc.
	AfterFunc  func(d time.Duration, f func()) (stop func() bool)
	Registerer prometheus.Registerer // nil: the metrics are not registered
}

// heldTurns is the messages of one conversation that wait.
type heldTurns struct {
	list      []*Turn     // in the order of ids
	stopTimer func() bool // nil: none was set
}

// New returns Turns that know no conversation.
func New(opt Options) *Turns {
	ts := &Turns{opt: opt, begun: opt.Now(), repeats: newRepeatMetrics(opt.Registerer)}
	ts.metrics = newTurnMetrics(opt.Registerer, ts)
	for i := range ts.shards {
		ts.shards[i].init()
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
// is delivered later. It is not delivered when a repeat of it was. The message must not
// change any more.
func (ts *Turns) Take(t Turn) {
	key := im.ConversationKey(t.M.FromUserID, t.M.ToSessionID)
	sh, now := ts.shard(key), ts.opt.Now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c := sh.of(key, now); ts.first(sh, c, t.M.MsgID) {
		ts.take(sh, c, t, now)
	}
}

// take is Take for a message of c that is to be delivered. With the shard's lock.
func (ts *Turns) take(sh *shard, c *conversation, t Turn, now time.Time) {
	t.came = now
	if t.M.Resent {
		t.Since = ts.opt.Since(missing.Age(t.M))
	}
	if c.held != nil && len(c.held.list) >= maxHeld {
		ts.metrics.full.Inc()
		ts.sendFirst(sh, c, now) // without its predecessor
		ts.proceed(sh, c, now)
	}
	if !ts.isLate(c, t.M.MsgID, now) {
		behind := c.held != nil && t.inOrder() && c.held.list[0].M.MsgID < t.M.MsgID
		if (behind || ts.isEarly(&t, ts.lastOf(c, now))) && ts.hold(sh, c, &t, now) {
			return
		}
	}
	ts.send(sh, c, &t, now)
	if c.held != nil {
		ts.proceed(sh, c, now)
	}
}

// hold makes a message wait. It returns false when too many wait. With the shard's lock.
func (ts *Turns) hold(sh *shard, c *conversation, t *Turn, now time.Time) bool {
	if c.held != nil {
		if at, there := c.held.place(t.M.MsgID); there { // sent again, or found by a search
			ts.metrics.repeated.Inc()
			o := c.held.list[at]
			before := o.size()
			o.arrived(t)
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
	kept := *t // t itself need not be allocated for a message that does not wait
	if kept.Since == 0 {
		kept.Since = ts.opt.Since(missing.Age(t.M))
	}
	if c.held == nil {
		c.held = &heldTurns{}
		sh.held[c.key] = c
	}
	at, _ := c.held.place(t.M.MsgID)
	c.held.list = slices.Insert(c.held.list, at, &kept)
	ts.proceed(sh, c, now)
	return true
}

// place returns the place of the message with that id, and whether it waits.
func (h *heldTurns) place(id uint32) (at int, there bool) {
	return slices.BinarySearchFunc(h.list, id,
		func(o *Turn, id uint32) int { return cmp.Compare(o.M.MsgID, id) })
}

// proceed delivers the messages of c that wait, as far as it may. With the shard's lock.
func (ts *Turns) proceed(sh *shard, c *conversation, now time.Time) {
	for len(c.held.list) > 0 {
		t := c.held.list[0]
		if last := ts.lastOf(c, now); ts.isEarly(t, last) {
			again := now
			if !t.gap.Over {
				again = ts.search(sh, c, t, last, now)
			}
			if now.Before(again) {
				ts.after(sh, c, again.Sub(now))
				return
			}
			ts.metrics.givenUp.Inc()
		}
		ts.sendFirst(sh, c, now)
	}
	c.held.stop()
	c.held = nil
	delete(sh.held, c.key)
}

// sendFirst delivers the first message of c that waits. With the shard's lock.
func (ts *Turns) sendFirst(sh *shard, c *conversation, now time.Time) {
	t := c.held.list[0]
	c.held.list = slices.Delete(c.held.list, 0, 1)
	ts.bytes.Add(-t.size())
	ts.send(sh, c, t, now)
	ts.waiting.Add(-1) // after it was sent: connections end when no message waits
}

func (h *heldTurns) stop() {
	if h.stopTimer != nil {
		h.stopTimer()
	}
}

// after calls proceed in d. With the shard's lock.
func (ts *Turns) after(sh *shard, c *conversation, d time.Duration) {
	h := c.held
	h.stop()
	h.stopTimer = ts.opt.AfterFunc(d, func() {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		if c.held == h {
			ts.proceed(sh, c, ts.opt.Now())
		}
	})
}

// send delivers a message, unless one with a higher id was delivered before. With the
// shard's lock, so that all messages of a conversation leave in one order.
func (ts *Turns) send(sh *shard, c *conversation, t *Turn, now time.Time) {
	switch {
	case !ts.isLate(c, t.M.MsgID, now):
		c.last, c.at = lastTurn{t.M.MsgID, t.Since}, now.Sub(ts.begun)
		if t.Since == 0 { // it did not wait
			c.last.since = session.NextID()
		}
		if t.Found {
			sh.found.Put(message{c.key, t.M.MsgID}, struct{}{}, now)
		}
	case t.Found || t.M.Resent || t.M.Duplicate || is(&sh.found, c, t.M.MsgID):
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
