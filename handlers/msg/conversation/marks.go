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
	young, old map[readKey]uint32
	_          [40]byte // a shard to a cache line
}

// advance moves a mark forward to id. It returns false when the mark is at id or beyond.
func (r *readMarks) advance(key readKey, id uint32) bool {
	sh := &r.shards[key.user%uint32(len(r.shards))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	mark, known := sh.young[key]
	young := known
	if !known {
		mark, known = sh.old[key]
	}
	moves := !known || id > mark
	if moves {
		mark = id
	}
	if moves || !young {
		sh.put(key, mark)
	}
	return moves
}

// put records a mark in the younger generation.
func (sh *markShard) put(key readKey, mark uint32) {
	_, there := sh.young[key]
	if full := len(sh.young) >= maxMarks/2/markShards; sh.young == nil || full && !there {
		sh.old, sh.young = sh.young, map[readKey]uint32{}
	}
	sh.young[key] = mark
}
