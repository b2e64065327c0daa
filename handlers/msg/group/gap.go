package group

import (
	"slices"
	"time"

	"teamtalk/core/session"
	"teamtalk/handlers/msg/missing"
	"teamtalk/proto/pb"
)

// A message that arrives before those with lower ids waits for them. When they do not
// arrive soon, db_proxy is asked for them: their message server has ended, or the route
// server between is away or slow. What db_proxy has is delivered in its order. A message
// that arrives after one with a higher id was delivered is not delivered: members have it
// by the search, or find it in the history.
//
// A found message does not say against which version of the group it was checked, and a
// member must get no message from before it joined. So it is delivered to the users that
// were members when a message with a lower id was stored, and are members still. Sessions
// that connected since that message arrived may have it from the history, and do not get it.

// delivered is the message of a group that was delivered last.
type delivered struct {
	id uint32 // 0: none
	at time.Time
	// since is a session id: sessions with a lower one were connected when the message was
	// stored.
	since uint64
	// members are the users that were members when the message, or one before it, was
	// stored, and in all versions of the group since; nil: not known.
	members []uint32
	// skipped are the latest ids below id that nobody got.
	skipped []uint32
}

const (
	// lastAge is how long the last message of a group counts: when nothing was delivered
	// for longer, it is not known which message is the next.
	lastAge = 10 * time.Minute
	// maxSkipped bounds the ids remembered that nobody got. They only serve the metrics.
	maxSkipped = 64
)

// forgetOld forgets the last message when that is long ago. With mu held.
func (g *group) forgetOld(now time.Time) {
	if g.last.id != 0 && now.Sub(g.last.at) > lastAge {
		g.last = delivered{}
	}
}

// passed records that w is delivered. With mu held.
func (g *group) passed(w *waiting, now time.Time) {
	last := &g.last
	if last.id != 0 {
		if n := w.m.MsgID - last.id - 1; n > 0 {
			g.all.metrics.gaps.Inc()
			last.skip(last.id+1, w.m.MsgID)
		}
	}
	last.id, last.at, last.since = w.m.MsgID, now, w.since
	if w.since == 0 { // it did not wait
		last.since = session.NextID()
	}
	if v := w.m.GroupVersion; w.m.HasGroupVersion && v != 0 && v == g.version && g.current() {
		last.members = g.members
	}
}

// skip remembers that nobody got the messages with ids of from to below to.
func (d *delivered) skip(from, to uint32) {
	if to-from > maxSkipped {
		from = to - maxSkipped
	}
	for ; from < to; from++ {
		d.skipped = append(d.skipped, from)
	}
	if n := len(d.skipped) - maxSkipped; n > 0 {
		d.skipped = slices.Delete(d.skipped, 0, n)
	}
}

// overtaken counts a message that arrived after one with a higher id was delivered. With
// mu held.
func (g *group) overtaken(id uint32) {
	if i := slices.Index(g.last.skipped, id); i >= 0 {
		g.last.skipped = slices.Delete(g.last.skipped, i, i+1)
		g.all.metrics.late.Inc()
		return
	}
	g.all.metrics.repeated.Inc()
}

// changes takes the members that g is about to have. Users that were added are none of
// those that get found messages. With mu held.
func (g *group) changes(members []uint32, version uint32, added []uint32) {
	last := &g.last
	switch {
	case last.members == nil:
	case version == 0 || version != g.version && version != g.version+1:
		last.members = nil // a user may have left and come again in between
	case version == g.version+1:
		last.members = slices.DeleteFunc(intersect(last.members, members),
			func(u uint32) bool { return slices.Contains(added, u) })
	}
}

// intersect returns the users of a that are in b.
func intersect(a, b []uint32) []uint32 {
	in := make(map[uint32]struct{}, len(b))
	for _, user := range b {
		in[user] = struct{}{}
	}
	return slices.DeleteFunc(slices.Clone(a), func(user uint32) bool {
		_, is := in[user]
		return !is
	})
}

// isNext reports whether nothing is missing before w.
func (g *group) isNext(w *waiting) bool { return w.m.MsgID <= g.last.id+1 || w.gap.Over }

// search asks for what is missing before w, the first message that waits, when it is time
// for that. It returns when to look at w again. With mu held.
func (g *group) search(w *waiting, now time.Time) time.Time {
	if len(g.last.members) == 0 {
		return w.came.Add(missing.Wait) // nobody may get what would be found
	}
	ask, again := w.gap.Next(w.came, now)
	if !ask {
		return again
	}
	user := g.last.members[0]
	if slices.Contains(g.last.members, w.m.FromUserID) {
		user = w.m.FromUserID // surely a member still
	}
	asked := g.all.opt.Missing.Search(missing.Conversation{User: user, ID: g.id, Group: true},
		missing.IDs(g.last.id, w.m.MsgID), func(found []*pb.MsgData, err error) {
			g.found(w, found, err)
		})
	return w.gap.Asked(w.came, now, asked)
}

// found takes the answer to a search for the messages before w.
func (g *group) found(w *waiting, found []*pb.MsgData, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Contains(g.wait, w) {
		return // delivered or dropped since
	}
	now := g.all.opt.Now()
	w.gap.Answered(w.came, now, err)
	for _, m := range found {
		g.insertFound(w, m)
	}
	g.proceed(now)
}

// insertFound makes m, found before w, wait for its turn, unless it has arrived. With mu
// held.
func (g *group) insertFound(w *waiting, m *pb.MsgData) {
	at, there := g.place(m.MsgID)
	if there || m.MsgID <= g.last.id {
		return
	}
	f := &waiting{m: m, came: w.came, since: g.last.since, found: true, gap: w.gap}
	g.all.waiting.Add(1)
	g.all.waitingBytes.Add(f.size())
	g.wait = slices.Insert(g.wait, at, f)
}

// foundSessions returns the sessions that get a found message: those of the users that may
// see it, without sessions of its sender that may have sent it. With mu held.
func (g *group) foundSessions(m *pb.MsgData) []session.OnLoop {
	lists := g.all.opt.Online.ByLoop(intersect(g.last.members, g.members))
	for i := range lists {
		lists[i].Clients = slices.DeleteFunc(lists[i].Clients, func(s *session.Client) bool {
			return s.User == m.FromUserID && g.all.opt.Writes(s)
		})
	}
	return lists
}
