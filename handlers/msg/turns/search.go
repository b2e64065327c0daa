package turns

import (
	"slices"
	"time"

	"teamtalk/core/session"
	"teamtalk/handlers/msg/missing"
	"teamtalk/proto/pb"
)

// prevAge is how much older a predecessor that db_proxy names may be than the message, if the
// clocks of message servers agree: see im.MayBeOnItsWay.
const prevAge = 8 * time.Second

// search asks for what is missing before t, the first message of c that waits, when it is
// time for that. It returns when to look at t again. With the shard's lock.
func (ts *Turns) search(sh *shard, c *conversation, t *Turn, last lastTurn,
	now time.Time) time.Time {
	ask, again := t.gap.Next(t.came, now)
	if !ask {
		return again
	}
	ids := []uint32{t.M.PrevID}
	since := last.since
	if last.id != 0 {
		ids = missing.IDs(last.id, t.M.MsgID)
	} else {
		since = ts.opt.Since(now.Sub(t.came) + prevAge)
	}
	asked := ts.opt.Missing.Search(
		missing.Conversation{User: t.M.FromUserID, ID: t.M.ToSessionID}, ids,
		func(found []*pb.MsgData, err error) { ts.searched(sh, c, t, since, found, err) })
	return t.gap.Asked(t.came, now, asked)
}

// searched takes the answer to a search for the messages of c before t.
func (ts *Turns) searched(sh *shard, c *conversation, t *Turn, since uint64,
	found []*pb.MsgData, err error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c.held == nil || !slices.Contains(c.held.list, t) {
		return // delivered since
	}
	now := ts.opt.Now()
	t.gap.Answered(t.came, now, err)
	for _, m := range found {
		ts.insertFound(c, now, &Turn{M: m, came: t.came, Since: since, Found: true, gap: t.gap,
			Tag: session.Tag{Peer: m.FromUserID, ID: m.MsgID}})
	}
	ts.proceed(sh, c, now)
}

// insertFound makes a found message wait for its turn, unless it has arrived. With the
// shard's lock.
func (ts *Turns) insertFound(c *conversation, now time.Time, t *Turn) {
	at, there := c.held.place(t.M.MsgID)
	if there || ts.isLate(c, t.M.MsgID, now) {
		return
	}
	ts.waiting.Add(1)
	ts.bytes.Add(t.size())
	c.held.list = slices.Insert(c.held.list, at, t)
}

// arrived makes t, found by a search, the message that has arrived.
func (t *Turn) arrived(m *Turn) {
	if t.Found {
		t.M, t.From, t.Tag, t.Found = m.M, m.From, m.Tag, false
	}
}
