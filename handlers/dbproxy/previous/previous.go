// Package previous knows the last message of each conversation between two users, for the
// db_proxy that stores them.
//
// Two message servers that store messages of one conversation deliver each other's
// through a route server. So that their clients receive them in the order of the ids, a
// stored message names its predecessor when that one may still be on its way: see PrevID
// of pb.MsgData. A predecessor of another db_proxy is not known here when this one has
// stored nothing of the conversation lately. The store looks it up: see Previous of
// im.Message.
package previous

import (
	"sync"
	"time"

	"teamtalk/core/hash"
	"teamtalk/core/recent"
)

const (
	// onItsWay is how long after its answer a message may be on its way to a message
	// server.
	onItsWay = time.Second
	// maxAge is how long a conversation's last message is remembered: a gap after it
	// shows that another db_proxy stored one since. It is shorter than the time for which
	// message servers remember what they delivered: these wait for nothing that they
	// have delivered. maxKnown bounds the conversations remembered, at about 60 bytes
	// each.
	maxAge   = 4 * time.Second
	maxKnown = 1 << 17
	shards   = 16
)

// Messages holds the last messages of conversations between users. Any goroutine.
type Messages struct{ shards [shards]shard }

type shard struct {
	mu   sync.Mutex
	last recent.Map[uint64, lastStored]
}

type lastStored struct {
	id uint32
	at time.Time // when it was answered
}

// New returns a Messages that knows no message yet.
func New() *Messages {
	p := &Messages{}
	for i := range p.shards {
		p.shards[i].last = recent.Map[uint64, lastStored]{Age: maxAge,
			Max: maxKnown / 2 / shards}
	}
	return p
}

// Stored records that a message was stored under id at the time now. It returns the message
// before it that may be on its way to a receiver; 0: none.
func (p *Messages) Stored(conversation uint64, id uint32, now time.Time) (prev uint32) {
	sh := &p.shards[hash.Next(conversation)%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	last, known := sh.last.Get(conversation)
	age := now.Sub(last.at)
	switch {
	case !known || last.id >= id || age > maxAge:
	case last.id < id-1:
		// Another db_proxy stored the one before, or it was not stored.
		prev = id - 1
	case age < onItsWay:
		prev = last.id
	}
	if last.id < id {
		sh.last.Put(conversation, lastStored{id, now}, now)
	}
	return prev
}
