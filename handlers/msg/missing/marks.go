package missing

import (
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Age returns how long ago m was stored, as its server says when it forwards it again; 0
// for any other message.
func Age(m *pb.MsgData) time.Duration {
	if !m.Resent {
		return 0
	}
	return time.Duration(m.Age) * time.Millisecond
}

const (
	// markEvery is the shortest time between two marks, maxMarks how many are kept: for
	// longer than a message may be old that is delivered late, see package turns.
	markEvery = time.Second / 2
	maxMarks  = 640
)

// Marks tells which sessions were connected at a time of the last five minutes. Any
// goroutine.
type Marks struct {
	opened atomic.Bool // a session since the last mark

	mu    sync.Mutex
	marks []mark // oldest first
}

// mark is a session id, and when it was the next one.
type mark struct {
	id uint64
	at time.Time
}

// Opened records that a session has been opened, which the next Note has to see.
func (k *Marks) Opened() {
	if !k.opened.Load() { // the loops share no cache line for each session
		k.opened.Store(true)
	}
}

// Waits reports whether a session has been opened since the last mark.
func (k *Marks) Waits() bool { return k.opened.Load() }

// Note records which sessions are connected now. It is called about once a second while
// Waits reports true.
func (k *Marks) Note(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := len(k.marks); n > 0 && now.Sub(k.marks[n-1].at) < markEvery {
		return
	}
	if len(k.marks) == maxMarks {
		k.marks = append(k.marks[:0], k.marks[1:]...)
	}
	k.opened.Store(false) // before NextID: a session with a higher id sets it again
	k.marks = append(k.marks, mark{session.NextID(), now})
}

// Since returns a session id: sessions with a lower one were connected age before now,
// perhaps not all that were. With age 0 it is the next id.
func (k *Marks) Since(now time.Time, age time.Duration) uint64 {
	if age <= 0 {
		return session.NextID()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := len(k.marks) - 1; i >= 0; i-- {
		if m := k.marks[i]; now.Sub(m.at) >= age {
			return m.id
		}
	}
	return 1 // no session has a lower one
}
