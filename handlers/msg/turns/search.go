package turns

import (
	"slices"
	"time"

	"teamtalk/core/session"
	"teamtalk/handlers/msg/missing"
	"teamtalk/proto/pb"
)

// prevAge is how much older a predecessor that db_proxy names may be than the message.
const prevAge = 4 * time.Second

// search asks for what is missing before t, the first message that waits, when it is time
// for that. It returns when to look at t again. With the shard's lock.
func (ts *Turns) search(sh *turnShard, key uint64, t *Turn, last lastTurn,
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
		func(found []*pb.MsgData, err error) { ts.searched(sh, key, t, since, found, err) })
	return t.gap.Asked(t.came, now, asked)
}

// searched takes the answer to a search for the messages before t.
func (ts *Turns) searched(sh *turnShard, key uint64, t *Turn, since uint64,
	found []*pb.MsgData, err error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	h := sh.held[key]
	if h == nil || !slices.Contains(h.list, t) {
		return // delivered since
	}
	now := ts.opt.Now()
	t.gap.Answered(t.came, now, err)
	for _, m := range found {
		ts.insertFound(sh, key, h, &Turn{M: m, came: t.came, Since: since, Found: true, gap: t.gap,
			Tag: session.Tag{Peer: m.FromUserID, ID: m.MsgID}})
	}
	ts.proceed(sh, key, h)
}

// insertFound makes a found message wait for its turn, unless it has arrived. With the
// shard's lock.
func (ts *Turns) insertFound(sh *turnShard, key uint64, h *heldTurns, t *Turn) {
	at, there := h.place(t.M.MsgID)
	if last, _ := sh.last.Get(key); there || t.M.MsgID <= last.id {
		return
	}
	ts.waiting.Add(1)
	ts.bytes.Add(t.size())
	h.list = slices.Insert(h.list, at, t)
}

// arrived makes t, found by a search, the message that has arrived.
func (t *Turn) arrived(m *Turn) {
	if t.Found {
		t.M, t.From, t.Tag, t.Found = m.M, m.From, m.Tag, false
	}
}

// isFound reports whether a message was delivered because a search found it. With the
// shard's lock.
func (sh *turnShard) isFound(key uint64, id uint32) bool {
	_, is := sh.found.Get(foundTurn{key, id})
	return is
}
