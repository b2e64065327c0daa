package group

import (
	"cmp"
	"slices"
	"time"

	"teamtalk/core/session"
	"teamtalk/handlers/msg/missing"
	"teamtalk/proto/pb"
)

// waiting is a message on its way to a group's members.
type waiting struct {
	m    *pb.MsgData
	from *session.Client // the sender's, when the message was stored here
	came time.Time
	// since is a session id. Sessions with that id or a higher one connected after the
	// message was stored: they find it in the history.
	since uint64
	// need is the first request for members that was made after the message arrived.
	need uint64
	anew bool // only such a request will do

	found bool        // by a search, see gap.go
	gap   missing.Gap // before it
}

// size returns the bytes that count for a message that waits.
func (w *waiting) size() int64 { return int64(len(w.m.Data) + waitingCost) }

// Deliver gives a stored group message to the members' sessions here, except from, as
// soon as the members are known and it is the turn of the message. from is nil for one
// that another message server had stored. anew says that nobody knows when it was stored,
// so that the members known may be later ones, or earlier. m must not change any more.
func (gs *Groups) Deliver(m *pb.MsgData, from *session.Client, anew bool) {
	gs.deliver(waiting{m: m, from: from, anew: anew})
}

// DeliverRepeat is Deliver for a message that was stored before, to the sessions with ids
// below before.
func (gs *Groups) DeliverRepeat(m *pb.MsgData, from *session.Client, before uint64) {
	gs.deliver(waiting{m: m, from: from, since: before, anew: true})
}

func (gs *Groups) deliver(w waiting) {
	m := w.m
	g, now := gs.of(m.ToSessionID), gs.opt.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forgetOld(now)
	w.came, w.need = now, g.asked+1
	if m.Resent {
		w.since = gs.opt.Since(missing.Age(m))
	}
	if len(g.wait) == 0 && g.knows(&w, now) && !now.Before(g.turn(&w)) {
		g.send(&w, now)
		return
	}
	size := w.size()
	if len(g.wait) >= maxWaiting || gs.waitingBytes.Add(size) > maxWaitingBytes {
		if len(g.wait) < maxWaiting {
			gs.waitingBytes.Add(-size)
		}
		gs.metrics.dropped.WithLabelValues("queue").Inc()
		return
	}
	if w.since == 0 {
		w.since = gs.opt.Since(missing.Age(m))
	}
	at, there := g.place(m.MsgID)
	if there { // sent again, or found by a search
		gs.waitingBytes.Add(-size)
		gs.metrics.repeated.Inc()
		before := g.wait[at].size()
		g.wait[at].arrived(&w)
		gs.waitingBytes.Add(g.wait[at].size() - before)
	} else {
		gs.waiting.Add(1)
		g.wait = slices.Insert(g.wait, at, &w)
	}
	g.proceed(now)
}

// arrived makes w, found by a search, the message that has arrived.
func (w *waiting) arrived(m *waiting) {
	if !w.found {
		return
	}
	w.m, w.from, w.since, w.need, w.anew, w.found = m.m, m.from, m.since, m.need, m.anew, false
}

// place returns the place of the message with that id among those that wait, and whether
// it waits. With mu held.
func (g *group) place(id uint32) (at int, there bool) {
	return slices.BinarySearchFunc(g.wait, id,
		func(o *waiting, id uint32) int { return cmp.Compare(o.m.MsgID, id) })
}

// proceed delivers the messages that wait, as far as it may. With mu held.
func (g *group) proceed(now time.Time) {
	for len(g.wait) > 0 {
		w := g.wait[0]
		if !g.knows(w, now) {
			g.ask(now)
			return
		}
		turn := g.turn(w)
		if g.last.id != 0 && !g.isNext(w) {
			turn = g.search(w, now)
		}
		if now.Before(turn) {
			g.after(turn.Sub(now))
			return
		}
		g.wait = slices.Delete(g.wait, 0, 1)
		g.send(w, now)
		g.all.done(w) // after it was sent: connections end when no message waits
	}
	g.wait = nil
}

// done removes w from the messages that wait.
func (gs *Groups) done(w *waiting) {
	gs.waiting.Add(-1)
	gs.waitingBytes.Add(-w.size())
}

// after calls proceed in d.
func (g *group) after(d time.Duration) {
	if g.stop != nil {
		g.stop()
	}
	g.stop = g.all.opt.AfterFunc(d, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.proceed(g.all.opt.Now())
	})
}

// turn returns when w, the first that waits, may be delivered. With mu held.
func (g *group) turn(w *waiting) time.Time {
	switch {
	case g.isNext(w):
		return w.came
	case g.last.id == 0:
		return w.came.Add(settleWait)
	}
	return w.came.Add(missing.GiveUp)
}

// sessions returns the members' sessions here. They are gathered again when any session
// of this server has come or left since. With mu held.
func (g *group) sessions() []session.OnLoop {
	online := g.all.opt.Online
	if epoch := online.Epoch(); !g.gathered || g.onlineEpoch != epoch {
		g.online, g.onlineEpoch, g.gathered = online.ByLoop(g.members), epoch, true
	}
	return g.online
}

// send delivers w. With mu held, so that all messages of a group leave in one order.
func (g *group) send(w *waiting, now time.Time) {
	if w.from != nil {
		g.all.opt.Pushes.Stored(w.m, g.members)
	}
	if w.m.MsgID <= g.last.id {
		g.overtaken(w.m.MsgID)
		return
	}
	var lists []session.OnLoop
	if w.found {
		lists = g.foundSessions(w.m)
	} else {
		lists = g.sessions()
	}
	g.passed(w, now)
	if len(lists) == 0 {
		return
	}
	if frame := g.all.opt.Fanout.Frame(w.m); frame != nil {
		g.all.opt.Fanout.PostLists(lists, w.from, w.since, frame,
			session.Tag{Peer: g.id, ID: w.m.MsgID, Flags: g.all.opt.Tag})
	}
}
