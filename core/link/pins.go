package link

import (
	"cmp"
	"slices"
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
//
// A call that the member did not carry out, and that another member may carry out, is
// parked too, at its place among the others.
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
	member *member
	round  uint32 // pb.MsgData.Round of its calls
	open   int    // number of open calls
	calls  uint64 // number of calls so far
	failed uint64 // calls with a lower number are behind one that failed
	parked []parked
	moving bool // parked calls are being sent, and new ones are parked behind them
}

// place is the place of a call among the calls of its key.
type place struct {
	state  state
	pin    *pin
	member *member // that gets the call
	round  uint32
	number uint64
}

// parked is a call that waits for the open ones of its key. The function send sends it to
// a member, and refuse ends it with an error.
type parked struct {
	number uint64
	tried  uint64 // a bit for each member that did not carry it out
	cause  error  // the answer of the last of them; nil when there is none
	send   func(at place)
	refuse func(err error)
}

// maxParked bounds the calls of one key that are parked before they were sent. They wait
// for answers to calls that the member has accepted, so at most for the timeout of a call.
const maxParked = 256

func (p *pins) shard(key uint64) *pinShard {
	return &p.shards[hash.Next(key)%uint64(len(p.shards))]
}

// state is what take did with a call.
type state uint8

const (
	placed state = iota
	noneUp
	isParked
	tooMany
)

// chooser is how a pin selects members.
type chooser interface {
	// takes reports whether a member takes requests.
	takes(m *member) bool
	// pick returns the member for a key whose server is not among the tried ones, nil when
	// there is none.
	pick(key, tried uint64) *member
	// round returns the round of the calls that are sent from now on, next begins one.
	round() uint32
	next() uint32
}

// take returns the place for a call of key: at the member with the open calls, if that
// takes requests, otherwise at the result of pick. Each call that take counts must be
// given back with release. When the call has to wait, take parks the result of wait and
// returns isParked. With noneUp and tooMany the call is not sent.
func (p *pins) take(key uint64, c chooser, wait func() parked) place {
	s := p.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.keys[key]; at != nil {
		if !at.moving && len(at.parked) == 0 && c.takes(at.member) {
			return at.count()
		}
		if len(at.parked) >= maxParked {
			return place{state: tooMany}
		}
		w := wait() // few calls are parked, so only these make it
		w.number = at.calls
		at.calls++
		at.parked = append(at.parked, w)
		return place{state: isParked}
	}
	m := c.pick(key, 0)
	if m == nil {
		return place{state: noneUp}
	}
	if s.keys == nil {
		s.keys = map[uint64]*pin{}
	}
	at := &pin{member: m, round: c.round()}
	s.keys[key] = at
	return at.count()
}

// count counts a call that is sent to the member.
func (at *pin) count() place {
	at.open++
	at.calls++
	return place{pin: at, member: at.member, round: at.round, number: at.calls - 1}
}

// outcome is how a call of a key ended.
type outcome uint8

const (
	succeeded outcome = iota
	// failed: the request was not carried out, or may not have been.
	failed
)

// release ends a call of key. The calls behind one that failed are refused, if they are
// parked. After the last open call it sends the parked ones.
func (p *pins) release(key uint64, at place, how outcome, c chooser) {
	s := p.shard(key)
	s.mu.Lock()
	if how == failed {
		at.pin.failed = at.pin.calls
	}
	p.end(s, key, at.pin, c)
}

// again ends a call of key that the member did not carry out. It is parked at its place,
// and goes to another member with the calls behind it. It reports false when the call ends
// like one that failed.
func (p *pins) again(key uint64, at place, wait parked, c chooser) bool {
	s := p.shard(key)
	s.mu.Lock()
	if at.number < at.pin.failed || c.pick(key, wait.tried) == nil {
		s.mu.Unlock()
		return false
	}
	wait.number = at.number
	at.pin.parked = append(at.pin.parked, wait)
	p.end(s, key, at.pin, c)
	return true
}

// end ends an open call. After the last one it sends the parked calls, in the order of
// their numbers. The caller holds s.mu, which end unlocks.
func (p *pins) end(s *pinShard, key uint64, at *pin, c chooser) {
	at.open--
	if at.open > 0 || at.moving {
		s.mu.Unlock()
		return
	}
	at.moving = true
	var refusal error
	for len(at.parked) > 0 && (refusal != nil || at.mayMove(c)) {
		list := at.parked
		at.parked = nil
		refusal = at.move(key, list, refusal, c)
		to := place{pin: at, member: at.member, round: at.round}
		s.mu.Unlock()
		for _, w := range list {
			to.number = w.number
			switch {
			case refusal == nil:
				w.send(to)
			case w.cause != nil:
				w.refuse(w.cause)
			default:
				w.refuse(refusal)
			}
		}
		s.mu.Lock()
	}
	if at.moving = false; at.open == 0 { // then none is parked
		delete(s.keys, key)
	}
	s.mu.Unlock()
}

// mayMove reports whether the parked calls may be sent now. While calls are open that were
// parked before, only calls behind them may follow, to the same member. The caller holds
// the shard's lock.
func (at *pin) mayMove(c chooser) bool {
	tried := func(w parked) bool { return w.tried != 0 }
	return at.open == 0 || c.takes(at.member) && !slices.ContainsFunc(at.parked, tried)
}

// move selects the member for a list of parked calls, which it sorts. The error refuses
// them: they are behind a call that failed, or there is no member for the first of them.
// Once a call is refused, so are those behind it. The caller holds the shard's lock.
func (at *pin) move(key uint64, list []parked, refusal error, c chooser) error {
	slices.SortFunc(list, func(a, b parked) int { return cmp.Compare(a.number, b.number) })
	tried := uint64(0)
	for _, w := range list {
		tried |= w.tried
	}
	if refusal != nil || list[0].number < at.failed {
		return notSent(im.Errorf(im.Unavailable, "a call before it failed"))
	}
	if at.open == 0 {
		m := c.pick(key, tried)
		if m == nil {
			return notSent(im.Errorf(im.Unavailable, "no server is up"))
		}
		if at.member, at.round = m, c.round(); tried != 0 {
			at.round = c.next()
		}
	}
	at.open += len(list)
	return nil
}
