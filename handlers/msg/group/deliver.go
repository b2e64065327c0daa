package group

import (
	"slices"
	"time"

	"teamtalk/core/session"
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
}

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
	w.came, w.need = now, g.asked+1
	if len(g.wait) == 0 && g.knows(&w, now) && !now.Before(g.turn(&w)) {
		g.send(&w)
		return
	}
	size := int64(len(m.Data) + waitingCost)
	if len(g.wait) >= maxWaiting || gs.waitingBytes.Add(size) > maxWaitingBytes {
		if len(g.wait) < maxWaiting {
			gs.waitingBytes.Add(-size)
		}
		gs.metrics.dropped.WithLabelValues("queue").Inc()
		return
	}
	gs.waiting.Add(1)
	if w.since == 0 {
		w.since = session.NextID()
	}
	at, _ := slices.BinarySearchFunc(g.wait, m.MsgID,
		func(o *waiting, id uint32) int { return int(int64(o.m.MsgID) - int64(id)) })
	g.wait = slices.Insert(g.wait, at, &w)
	g.proceed(now)
}

// proceed delivers the messages that wait, as far as it may. With mu held.
func (g *group) proceed(now time.Time) {
	for len(g.wait) > 0 {
		w := g.wait[0]
		if !g.knows(w, now) {
			g.ask(now)
			return
		}
		if turn := g.turn(w); now.Before(turn) {
			g.after(turn.Sub(now))
			return
		}
		g.wait = slices.Delete(g.wait, 0, 1)
		g.all.done(w)
		g.send(w)
	}
	g.wait = nil
}

// done removes w from the messages that wait.
func (gs *Groups) done(w *waiting) {
	gs.waiting.Add(-1)
	gs.waitingBytes.Add(-int64(len(w.m.Data) + waitingCost))
}

// after calls proceed in d.
func (g *group) after(d time.Duration) {
	if g.timer != nil {
		g.timer.Stop()
	}
	g.timer = time.AfterFunc(d, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.proceed(g.all.opt.Now())
	})
}

// turn returns when w, the first that waits, may be delivered.
func (g *group) turn(w *waiting) time.Time {
	id := w.m.MsgID
	switch {
	case g.last == 0 && id > 1:
		return w.came.Add(settleWait)
	case id > g.last+1:
		return w.came.Add(gapWait)
	}
	return w.came
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
func (g *group) send(w *waiting) {
	switch id := w.m.MsgID; {
	case id <= g.last:
		g.all.metrics.late.Inc()
	case g.last != 0 && id > g.last+1:
		g.all.metrics.gaps.Inc()
	}
	g.last = max(g.last, w.m.MsgID)
	if w.from != nil {
		g.all.opt.Pushes.Stored(w.m, g.members)
	}
	lists := g.sessions()
	if len(lists) == 0 {
		return
	}
	if frame := g.all.opt.Fanout.Frame(w.m); frame != nil {
		g.all.opt.Fanout.PostLists(lists, w.from, w.since, frame,
			session.Tag{Peer: g.id, ID: w.m.MsgID, Flags: g.all.opt.Tag})
	}
}
