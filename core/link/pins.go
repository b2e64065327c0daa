package link

import (
	"sync"

	"teamtalk/core/im"
)

// pins hold the calls of a key to one member of a group while any of them is open. A member that
// comes up takes over its share of the keys, but not in the middle of a conversation: with messages
// of one key under way on two connections, their answers would overtake each other.
//
// When the member takes no more requests while calls of the key are open, the next calls are parked
// until those are over, and then go to another member. They are refused when one of those failed:
// what it asked for may still be repeated, and they must not overtake it.
type pins struct {
	shards [64]pinShard
}

type pinShard struct {
	mu   sync.Mutex // held for one look
	keys map[uint64]*pin
	_    [48]byte // a shard to a cache line
}

// pin is where the open calls of a key went. All fields are guarded by the shard's lock.
type pin struct {
	peer   int
	open   int // calls
	failed bool
	parked []parked
	moving bool // parked calls are being sent: new ones go behind them
}

// parked is a call that waits for the open ones of its key: send sends it to a member, refuse ends
// it with an error.
type parked struct {
	send   func(peer int, at *pin)
	refuse func(err error)
}

// maxParked bounds the parked calls of one key. They wait for the answers of calls that the member
// has accepted: for as long as it takes to drain, and no longer than a call's timeout.
const maxParked = 256

func (p *pins) shard(key uint64) *pinShard {
	return &p.shards[mix(key)%uint64(len(p.shards))]
}

// What take returns in place of a member.
const (
	noneUp   = -1
	isParked = -2
	tooMany  = -3
)

// take returns the member for a call of key: the one its open calls went to, if that is still
// usable, else what pick says. release takes back what is counted here. When the call has to wait
// take keeps wait and returns isParked. noneUp and tooMany say that it is not sent.
func (p *pins) take(key uint64, usable func(i int) bool, pick func() int, wait parked) (int, *pin) {
	s := p.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.keys[key]; at != nil {
		if !at.moving && len(at.parked) == 0 && usable(at.peer) {
			at.open++
			return at.peer, at
		}
		if len(at.parked) >= maxParked {
			return tooMany, nil
		}
		at.parked = append(at.parked, wait)
		return isParked, nil
	}
	i := pick()
	if i < 0 {
		return noneUp, nil
	}
	if s.keys == nil {
		s.keys = map[uint64]*pin{}
	}
	at := &pin{peer: i, open: 1}
	s.keys[key] = at
	return i, at
}

// release ends a call of key. failed says that what it asked for was not done, or may not be: calls
// that were parked meanwhile are refused. The last one lets the parked calls go.
func (p *pins) release(key uint64, at *pin, failed bool, pick func() int) {
	s := p.shard(key)
	s.mu.Lock()
	at.open--
	at.failed = at.failed || failed && len(at.parked) > 0
	if at.open > 0 || at.moving {
		s.mu.Unlock()
		return
	}
	if len(at.parked) == 0 {
		delete(s.keys, key)
		s.mu.Unlock()
		return
	}
	at.moving = true
	for len(at.parked) > 0 {
		list, refused := at.parked, at.failed
		if at.parked = nil; !refused {
			if at.peer = pick(); at.peer >= 0 {
				at.open += len(list)
			}
		}
		peer := at.peer
		s.mu.Unlock()
		for _, w := range list {
			switch {
			case refused:
				w.refuse(notSent(im.Errorf(im.Unavailable, "a call before it failed")))
			case peer < 0:
				w.refuse(notSent(im.Errorf(im.Unavailable, "no server is up")))
			default:
				w.send(peer, at)
			}
		}
		s.mu.Lock()
	}
	if at.moving, at.failed = false, false; at.open == 0 {
		delete(s.keys, key)
	}
	s.mu.Unlock()
}
