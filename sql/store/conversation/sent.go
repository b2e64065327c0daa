package conversation

import (
	"maps"
	"sync/atomic"

	"teamtalk/core/im"
)

// Messages of young connections may be repeats, so each is looked for in the table. Most of these
// look-ups are answered from memory: a conversation remembers how its last messages were numbered.
//
// The memory is complete for the ids up to the last settled one (settled), from a creation time
// on. It is read from the table once. Afterwards this process adds what it stores, as long as the
// ids follow each other. When ids of another process lie in between, the memory is read anew. So a
// message that the memory lacks is in no row up to the last settled id. Whether its own id follows
// that one is checked after it is drawn; if not, the table is asked (unsettled.go in messages).

const (
	// maxSent bounds the messages that a conversation remembers, at about 40 bytes each.
	maxSent = 1 << 16
	// maxSentAll bounds those of all conversations. A memory counts sentOverhead more.
	maxSentAll   = 1 << 20
	sentOverhead = 8
	// pruneFrom is the number of messages from which old ones are dropped.
	pruneFrom = 64
	// sentPause is for how many seconds the memory of a conversation with too many messages is
	// not read again.
	sentPause = 10
	// sentMargin is for how many seconds longer than a client repeats messages are remembered:
	// the clocks of message servers differ.
	sentMargin = 20
)

// Sent is how a message of a conversation was numbered.
type Sent struct{ From, SentAs uint32 }

// sentMemory is what a conversation remembers. The lock of the conversation guards it.
type sentMemory struct {
	by     map[Sent]uint32 // the last time at which a message with this number was created
	since  uint32          // complete for messages created then or later
	known  bool            // since is valid
	prune  int             // size at which old messages are dropped
	pause  uint32          // not to be read before this creation time
	within uint32          // the longest ResentWithin that was asked for
	gone   bool            // the cache has evicted the conversation
}

// sentTotal counts what all conversations of a cache remember.
type sentTotal struct{ n atomic.Int64 }

// Answer says whether a message may have been stored before.
type Answer int

const (
	// Unread means that the conversation remembers nothing, and may read it.
	Unread Answer = iota
	// Absent means that no message up to the last settled id is numbered like this one.
	Absent
	// Ask means that only the table can tell.
	Ask
)

// SentBefore says whether a row up to the last settled id may be that of m, which its client
// numbered.
func (c *Conversation) SentBefore(m *im.Message) Answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.sent
	s.within = max(s.within, m.ResentWithin)
	switch {
	case !s.known && m.Created >= s.pause:
		return Unread
	case !s.known, m.ResentSince() < s.since:
		return Ask
	}
	if _, there := s.by[Sent{m.From, m.SentAs}]; there {
		return Ask
	}
	return Absent
}

// MaxSent is the number of messages that ReadSent takes.
const MaxSent = maxSent / 4

// ReadSent records all messages in the table that were created at since or later, in place of
// what was remembered, with their times. Of rows messages in the table, with more than MaxSent
// nothing is remembered for some seconds.
func (c *Conversation) ReadSent(since, now uint32, rows int, by map[Sent]uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetSent()
	if rows > MaxSent || c.sent.gone || !c.total.add(len(by)+sentOverhead) {
		c.sent.pause = now + sentPause
		return
	}
	if by == nil {
		by = map[Sent]uint32{}
	}
	c.sent.by, c.sent.since, c.sent.known, c.sent.prune = by, since, true, pruneFrom
}

// addSent remembers a message that was just stored with the last settled id.
func (c *Conversation) addSent(m *im.Message) {
	s := &c.sent
	if !s.known || m.SentAs == 0 {
		return
	}
	key := Sent{m.From, m.SentAs}
	if at, there := s.by[key]; there {
		s.by[key] = max(at, m.Created)
		return
	}
	if len(s.by) >= s.prune {
		c.pruneSent(m.Created)
	}
	if len(s.by) >= maxSent || !c.total.add(1) {
		c.forgetSent()
		s.pause = m.Created + sentPause
		return
	}
	s.by[key] = m.Created
}

// pruneSent drops the messages that are too old to be repeated at a time.
func (c *Conversation) pruneSent(now uint32) {
	s := &c.sent
	if since := now - min(now, s.within+sentMargin); since > s.since {
		before := len(s.by)
		maps.DeleteFunc(s.by, func(_ Sent, created uint32) bool { return created < since })
		s.since = since
		c.total.add(len(s.by) - before)
	}
	s.prune = max(pruneFrom, 2*len(s.by))
}

// forgetSent forgets what the conversation remembers. The caller holds the lock.
func (c *Conversation) forgetSent() {
	if c.sent.known {
		c.total.add(-len(c.sent.by) - sentOverhead)
	}
	c.sent.by, c.sent.since, c.sent.known = nil, 0, false
}

// evicted forgets what a conversation remembers that is not in the cache any more.
func (c *Conversation) evicted() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetSent()
	c.sent.gone = true
}

// add adds n to the number of messages remembered, and reports whether their bound allows it.
func (t *sentTotal) add(n int) bool {
	if t.n.Add(int64(n)) > maxSentAll && n > 0 {
		t.n.Add(-int64(n))
		return false
	}
	return true
}
