package conversation

import (
	"slices"
	"time"

	"teamtalk/core/mono"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/missing"
	"teamtalk/proto/pb"
)

// Finder asks db_proxy for messages that did not arrive.
type Finder interface {
	// Search calls done with the messages of c with ids, in descending order, that exist,
	// or with an error. done must not wait. Search reports whether it asked.
	Search(c missing.Conversation, ids []uint32, done func(found []*pb.MsgData, err error)) bool
}

// prevAge is how much older a predecessor that db_proxy names may be than the message.
const prevAge = 4 * time.Second

// search asks for what is missing before t, the first message that waits, when it is time
// for that. It returns when to look at t again. With the shard's lock.
func (ts *turns) search(sh *turnShard, key uint64, t *turn, last lastTurn,
	now time.Time) time.Time {
	ask, again := t.gap.Next(t.came, now)
	if !ask {
		return again
	}
	ids := []uint32{t.m.PrevID}
	since := last.since
	if last.id != 0 {
		ids = missing.IDs(last.id, t.m.MsgID)
	} else {
		since = ts.since(now.Sub(t.came) + prevAge)
	}
	asked := ts.missing.Search(
		missing.Conversation{User: t.m.FromUserID, ID: t.m.ToSessionID}, ids,
		func(found []*pb.MsgData, err error) { ts.searched(sh, key, t, since, found, err) })
	return t.gap.Asked(t.came, now, asked)
}

// searched takes the answer to a search for the messages before t.
func (ts *turns) searched(sh *turnShard, key uint64, t *turn, since uint64,
	found []*pb.MsgData, err error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	h := sh.held[key]
	if h == nil || !slices.Contains(h.list, t) {
		return // delivered since
	}
	now := ts.now()
	t.gap.Answered(t.came, now, err)
	for _, m := range found {
		ts.insertFound(sh, key, h, &turn{m: m, came: t.came, since: since, found: true, gap: t.gap,
			tag: session.Tag{Peer: m.FromUserID, ID: m.MsgID}})
	}
	ts.proceed(sh, key, h)
}

// insertFound makes a found message wait for its turn, unless it has arrived. With the
// shard's lock.
func (ts *turns) insertFound(sh *turnShard, key uint64, h *heldTurns, t *turn) {
	at, there := h.place(t.m.MsgID)
	if last, _ := sh.last.Get(key); there || t.m.MsgID <= last.id {
		return
	}
	ts.waiting.Add(1)
	ts.bytes.Add(t.size())
	h.list = slices.Insert(h.list, at, t)
}

// arrived makes t, found by a search, the message that has arrived.
func (t *turn) arrived(m *turn) {
	if t.found {
		t.m, t.from, t.tag, t.found = m.m, m.from, m.tag, false
	}
}

// isFound reports whether a message was delivered because a search found it. With the
// shard's lock.
func (sh *turnShard) isFound(key uint64, id uint32) bool {
	_, is := sh.found.Get(foundTurn{key, id})
	return is
}

// awaits reports whether a session of m's users has an id below since.
func (h *Handler) awaits(m *pb.MsgData, since uint64) bool {
	before := func(s *session.Client) bool { return s.ID() < since }
	return slices.ContainsFunc(h.online.Of(m.ToSessionID), before) ||
		slices.ContainsFunc(h.online.Of(m.FromUserID), before)
}

// writesFor is how long a session counts as one that may have sent a found message.
const writesFor = time.Minute

// Writes reports whether the client has sent a message lately. Any goroutine.
func (c *Client) Writes(now time.Time) bool {
	at := c.wrote.Load()
	return at != 0 && time.Duration(mono.Of(now)-at) < writesFor
}

// notWriting returns the sessions whose clients have not sent a message lately.
func (h *Handler) notWriting(sessions []*session.Client) []*session.Client {
	now := h.opt.Now()
	return slices.DeleteFunc(slices.Clone(sessions),
		func(s *session.Client) bool { return h.opt.Client(s).Writes(now) })
}
