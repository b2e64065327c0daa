package conversation

import (
	"sync"

	"teamtalk/proto/pb"
)

// maxMarks is about how many read marks of all users are known. A mark that was forgotten
// costs one notify too many.
const (
	maxMarks   = 1 << 18
	markShards = 16
)

// readKey is one user's side of a conversation.
type readKey struct {
	user, session uint32
	kind          pb.SessionType
}

// keyOf returns the subject of a read ack or of a notify of one.
func keyOf(m interface {
	GetUserId() uint32
	GetSessionId() uint32
	GetSessionType() pb.SessionType
}) readKey {
	return readKey{m.GetUserId(), m.GetSessionId(), m.GetSessionType()}
}

// readMarks holds the last message that users have read in each conversation, as far as
// their devices here said or were told. The zero value is ready. Any goroutine.
type readMarks struct{ shards [markShards]markShard }

// markShard holds two generations. When the younger one is full the older one is dropped.
type markShard struct {
	mu         sync.Mutex
	young, old map[readKey]readMark
	_          [40]byte // a shard to a cache line
}

type readMark struct {
	id uint32
	// stored says that a message of that id, or a later one, is known to be stored. A
	// client may have named one that does not exist.
	stored bool
}

// moved says what an id did to a mark.
type moved uint8

const (
	notMoved   moved = iota // the mark is at the id or beyond
	movedOn                 // to the id
	inQuestion              // the mark is beyond the id, and may be that of no message
)

// advance moves a mark forward to id.
func (r *readMarks) advance(key readKey, id uint32) moved {
	sh := r.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	mark, known, young := sh.get(key)
	result := notMoved
	switch {
	case !known || id > mark.id:
		mark, result = readMark{id: id}, movedOn
	case id < mark.id && !mark.stored:
		result = inQuestion
	}
	if result == movedOn || !young {
		sh.put(key, mark)
	}
	return result
}

// settle ends the question whether a mark is that of a message: newest is the newest one.
// A mark beyond it moves back to id, and settle returns true.
func (r *readMarks) settle(key readKey, newest, id uint32) (back bool) {
	sh := r.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	mark, known, _ := sh.get(key)
	if !known {
		return false
	}
	if back = mark.id > newest; back {
		mark.id = id
	}
	mark.stored = true
	sh.put(key, mark)
	return back
}

func (r *readMarks) shard(key readKey) *markShard {
	return &r.shards[key.user%uint32(len(r.shards))]
}

// get returns a mark, and whether it is in the younger generation.
func (sh *markShard) get(key readKey) (mark readMark, known, young bool) {
	if mark, young = sh.young[key]; young {
		return mark, true, true
	}
	mark, known = sh.old[key]
	return mark, known, false
}

// put records a mark in the younger generation.
func (sh *markShard) put(key readKey, mark readMark) {
	_, there := sh.young[key]
	if full := len(sh.young) >= maxMarks/2/markShards; sh.young == nil || full && !there {
		sh.old, sh.young = sh.young, map[readKey]readMark{}
	}
	sh.young[key] = mark
}
