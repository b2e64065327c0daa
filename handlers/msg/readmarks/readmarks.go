// Package readmarks knows how far users have read their conversations, so that each step
// forward is told once.
package readmarks

import (
	"sync"

	"teamtalk/proto/pb"
)

// maxMarks is about how many read marks of all users are known. A mark that was forgotten
// costs one notify too many.
const (
	maxMarks  = 1 << 18
	maxShards = 16
)

// Key is one user's side of a conversation.
type Key struct {
	User, Session uint32
	Type          pb.SessionType
}

// KeyOf returns the subject of a read ack or of a notify of one.
func KeyOf(m interface {
	GetUserId() uint32
	GetSessionId() uint32
	GetSessionType() pb.SessionType
}) Key {
	return Key{m.GetUserId(), m.GetSessionId(), m.GetSessionType()}
}

// Marks holds the last message that users have read in each conversation, as far as
// their devices here said or were told. The zero value is ready. Any goroutine.
type Marks struct{ shards [maxShards]shard }

// shard holds two generations. When the younger one is full the older one is dropped.
type shard struct {
	mu         sync.Mutex
	young, old map[Key]mark
	_          [40]byte // a shard to a cache line
}

type mark struct {
	id uint32
	// stored says that a message of that id, or a later one, is known to be stored. A
	// client may have named one that does not exist.
	stored bool
}

// Result says what an id did to a mark.
type Result uint8

// The results of Marks.Advance.
const (
	NotMoved   Result = iota // the mark is at the id or beyond
	MovedOn                  // to the id
	InQuestion               // the mark is beyond the id, and may be that of no message
)

// Advance moves a mark forward to id, and returns what that did to it.
func (r *Marks) Advance(key Key, id uint32) Result {
	sh := r.of(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	m, known, young := sh.get(key)
	result := NotMoved
	switch {
	case !known || id > m.id:
		m, result = mark{id: id}, MovedOn
	case id < m.id && !m.stored:
		result = InQuestion
	}
	if result == MovedOn || !young {
		sh.put(key, m)
	}
	return result
}

// Settle ends the question whether a mark is that of a message: newest is the newest one.
// A mark beyond it moves back to id, and Settle returns true.
func (r *Marks) Settle(key Key, newest, id uint32) (back bool) {
	sh := r.of(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	m, known, _ := sh.get(key)
	if !known {
		return false
	}
	if back = m.id > newest; back {
		m.id = id
	}
	m.stored = true
	sh.put(key, m)
	return back
}

func (r *Marks) of(key Key) *shard {
	return &r.shards[key.User%uint32(len(r.shards))]
}

// get returns a mark, and whether it is in the younger generation.
func (sh *shard) get(key Key) (m mark, known, young bool) {
	if m, young = sh.young[key]; young {
		return m, true, true
	}
	m, known = sh.old[key]
	return m, known, false
}

// put records a mark in the younger generation.
func (sh *shard) put(key Key, m mark) {
	_, there := sh.young[key]
	if full := len(sh.young) >= maxMarks/2/maxShards; sh.young == nil || full && !there {
		sh.old, sh.young = sh.young, map[Key]mark{}
	}
	sh.young[key] = m
}
