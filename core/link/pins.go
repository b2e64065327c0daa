package link

import (
	"sync"

	"teamtalk/core/hash"
	"teamtalk/core/im"
)

// pins hold the calls of a key to one member of a group while any of them is open. A
// member that becomes reachable takes over its share of the keys, but no key with open
// calls: with messages of one key in flight on two connections, their answers would
// overtake each other.
//
// When the member takes no more requests while calls of the key are open, the next calls
// are parked until the open ones end, and then go to another member. The parked calls are
// refused when one of the open ones failed: its sender may repeat the request, and the
// parked calls must not overtake it.
type pins struct {
	shards [64]pinShard
}

type pinShard struct {
	mu   sync.Mutex // never held during a call of other code
	keys map[uint64]*pin
	_    [48]byte // one shard per cache line
}

// pin is the member that has the open calls of a key. The shard's lock guards all fields.
type pin struct {
	peer   int
	open   int // number of open calls
	failed bool
	parked []parked
	moving bool // parked calls are being sent, and new ones are parked behind them
}

// parked is a call that waits for the open ones of its key. The function send sends it to
// a member, and refuse ends it with an error.
type parked struct {
	send   func(peer int, at *pin)
	refuse func(err error)
}

// maxParked bounds the parked calls of one key. They wait for answers to calls that the
// member has accepted, so at most for the timeout of a call.
const maxParked = 256

func (p *pins) shard(key uint64) *pinShard {
	return &p.shards[hash.Next(key)%uint64(len(p.shards))]
}

// Results of take in place of a member.
const (
	noneUp   = -1
	isParked = -2
	tooMany  = -3
)

// take returns the member for a call of key: the member with the open calls, if it is
// usable, otherwise the result of pick. Each call that take counts must be given back
// with release. When the call has to wait, take parks wait and returns isParked. With
// noneUp and tooMany the call is not sent.
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

// release ends a call of key. With failed the request was not carried out, or may not
// have been: the calls parked behind it are refused. After the last open call it sends
// the parked ones.
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
