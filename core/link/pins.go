package link

import "sync"

// pins hold the calls of a key to one member of a group while any of them is open. A member that comes up takes over its share of the keys, but not
// in the middle of a conversation: with messages of one key under way on two connections, their answers would overtake each other.
type pins struct {
	shards [64]struct {
		mu   sync.Mutex // held for one look
		keys map[uint64]*pin
		_    [48]byte // a shard to a cache line
	}
}

// pin is where the open calls of a key went.
type pin struct {
	peer int
	open int // calls; with the shard's lock
}

// take returns the member for a call of key: the one its open calls went to, if that is still usable, else what pick says, -1 when it has none.
// release takes back what is counted here.
func (p *pins) take(key uint64, usable func(i int) bool, pick func() int) (int, *pin) {
	s := &p.shards[mix(key)%uint64(len(p.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.keys[key]; at != nil && usable(at.peer) {
		at.open++
		return at.peer, at
	}
	i := pick()
	if i < 0 {
		return -1, nil
	}
	if s.keys == nil {
		s.keys = map[uint64]*pin{}
	}
	at := &pin{peer: i, open: 1} // the calls to one that went down keep their own
	s.keys[key] = at
	return i, at
}

func (p *pins) release(key uint64, at *pin) {
	s := &p.shards[mix(key)%uint64(len(p.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.open--; at.open == 0 && s.keys[key] == at {
		delete(s.keys, key)
	}
}
