package turns

import (
	"sync"
	"time"

	"teamtalk/core/hash"
	"teamtalk/core/recent"
)

const (
	// keep is how long the messages of a conversation are remembered that arrived, at
	// least, and that none is delivered after a newer one. A repeat of an older message is
	// not delivered. maxConversations bounds the conversations remembered, at about 120 bytes
	// each. Beyond, the time is shorter.
	keep             = 5 * time.Minute
	maxConversations = 1 << 18
	// turnAge is how long the message after the last one of a conversation is awaited. It is
	// longer than the time for which db_proxies name a predecessor, and for which message
	// servers send messages again, see package peers.
	turnAge = 45 * time.Second
	// maxRepeats bounds the repeats remembered, maxFound the found messages.
	maxRepeats = 1 << 16
	maxFound   = 1 << 15

	shards = 64
)

// conversation is what is known of a conversation, between two users or of a group. That
// of a group has ids only.
type conversation struct {
	key  uint64
	ids  ids           // of the messages that arrived
	last lastTurn      // see lastOf
	at   time.Duration // when last was delivered, since Turns.begun
	held *heldTurns    // nil: no message waits
}

// lastTurn is the message of a conversation that was delivered last: its id, the highest
// one, and a session id. Sessions with a lower one were connected when it was stored.
type lastTurn struct {
	id    uint32
	since uint64
}

// message is a message of a conversation.
type message struct {
	conversation uint64
	id           uint32
}

// shard is the conversations of some keys.
type shard struct {
	mu    sync.Mutex
	known recent.Map[uint64, *conversation]
	held  map[uint64]*conversation // those with messages that wait
	// repeats are the messages that were delivered as repeats, found those that were
	// delivered because a search found them.
	repeats, found recent.Map[message, struct{}]
}

func (sh *shard) init() {
	sh.known = recent.Map[uint64, *conversation]{Age: keep, Max: maxConversations / 2 / shards}
	sh.held = map[uint64]*conversation{}
	sh.repeats = recent.Map[message, struct{}]{Age: keep, Max: maxRepeats / 2 / shards}
	sh.found = recent.Map[message, struct{}]{Age: turnAge, Max: maxFound / 2 / shards}
}

func (ts *Turns) shard(key uint64) *shard { return &ts.shards[hash.Next(key)%shards] }

// find returns what is known of a conversation, and remembers it from now on again. It
// returns nil when nothing is. With mu held.
func (sh *shard) find(key uint64, now time.Time) *conversation {
	if c, known := sh.known.Touch(key, now); known {
		return c
	}
	if len(sh.held) == 0 {
		return nil
	}
	c := sh.held[key]
	if c != nil { // too many others were remembered
		sh.known.Put(key, c, now)
	}
	return c
}

// of returns what is known of a conversation, from now on at least that it exists. With
// mu held.
func (sh *shard) of(key uint64, now time.Time) *conversation {
	c := sh.find(key, now)
	if c == nil {
		c = &conversation{key: key}
		sh.known.Put(key, c, now)
	}
	return c
}

// First takes a message that is stored, and reports whether it is to be delivered: it is
// not, if a repeat of it was. Take does it for the messages between users. Any goroutine.
func (ts *Turns) First(key uint64, id uint32) bool {
	sh, now := ts.shard(key), ts.opt.Now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return ts.first(sh, sh.of(key, now), id)
}

// first is First. With the shard's lock.
func (ts *Turns) first(sh *shard, c *conversation, id uint32) bool {
	if is(&sh.repeats, c, id) {
		ts.repeats.overtaken.Inc()
		return false
	}
	c.ids.add(id)
	return true
}

// is reports whether a message is in set.
func is(set *recent.Map[message, struct{}], c *conversation, id uint32) bool {
	if set.Len() == 0 { // as nearly always
		return false
	}
	_, ok := set.Get(message{c.key, id})
	return ok
}

// lastOf returns the message of c that was delivered last, none when that was so long ago
// that nothing after it is awaited. With the shard's lock.
func (ts *Turns) lastOf(c *conversation, now time.Time) lastTurn {
	if now.Sub(ts.begun)-c.at > turnAge {
		return lastTurn{}
	}
	return c.last
}

// isLate reports whether a message of c with a higher id than that was delivered. It looks
// further back than lastOf: a client may repeat its message, or a search find it, minutes
// after it was stored. With the shard's lock.
func (ts *Turns) isLate(c *conversation, id uint32, now time.Time) bool {
	return id <= c.last.id && now.Sub(ts.begun)-c.at <= keep
}
