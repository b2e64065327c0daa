package conversation

import (
	"math/bits"
	"sync/atomic"
	"time"

	"teamtalk/core/session"
)

// On the receiver's side, the deliveries that a connection has not acknowledged are
// followed. A delivery of a kind that the connection has acknowledged before is kept, and
// redelivered once when it gets no ack. Of the other kinds the latest few are remembered,
// without their frames, to recognise a first ack: clients that never acknowledge a kind
// would show a second delivery as a second message.

const (
	// maxUnacked is how many deliveries are followed for one connection, maxUnackedBytes
	// how long their frames may be in sum. Beyond that the oldest are given up.
	maxUnacked      = 256
	maxUnackedBytes = 2 << 20
	// maxRemembered is how many deliveries of kinds never acknowledged are remembered,
	// for rememberFor.
	maxRemembered = 8
	rememberFor   = 15 * time.Second
)

// kinds is a set of kinds of deliveries.
type kinds uint8

const (
	kindSingle kinds = 1 << iota // a message from another user
	kindOwn                      // the user's own message to another one, from another device
	kindGroup                    // a message in a group
)

// kindOf returns the kind of a delivery.
func kindOf(tag session.Tag) kinds {
	switch {
	case tag.Flags&TagGroup != 0:
		return kindGroup
	case tag.Flags&TagOwn != 0:
		return kindOwn
	}
	return kindSingle
}

// unacked is the deliveries to one connection that it has not acknowledged, oldest first.
// They lie in a ring: acks mostly arrive in the order of the deliveries.
type unacked struct {
	// answers says that senders wait for this connection: it acknowledged a message from
	// another user, and let no wait pass since. Receipts.setAnswers sets it, on the loop.
	// Any goroutine reads it.
	answers    atomic.Bool
	acks       kinds // kinds that it acknowledges
	remembered uint8 // deliveries without a frame
	head       uint16
	n          uint16
	bytes      int32      // of frames
	slot       int32      // place in Loop.waiting plus one; 0: none
	ring       []delivery // length zero or a power of two, at most maxUnacked
}

type delivery struct {
	tag   session.Tag
	again bool   // was sent again
	at    int64  // session.Loop.Millis
	frame []byte // shared with other sessions; nil: remembered only
}

// at returns the i-th delivery.
func (u *unacked) at(i int) *delivery { return &u.ring[(int(u.head)+i)&(len(u.ring)-1)] }

// find returns the place of the delivery with that kind, peer and id, -1 when there is
// none.
func (u *unacked) find(tag session.Tag) int {
	for i := range int(u.n) {
		if t := u.at(i).tag; t.Peer == tag.Peer && t.ID == tag.ID && kindOf(t) == kindOf(tag) {
			return i
		}
	}
	return -1
}

// ack is the content of an IMMsgDataAck.
type ack struct {
	user, session, id uint32
	group             bool
}

// match returns the place of the delivery that a client of user self acknowledges, -1
// when there is none.
//
// Clients name a delivery between two users in several forms. Windows and iOS give the
// other user as session. Android gives itself as session, and the message's sender as
// user. Ids count up in each conversation, so deliveries of several conversations may
// have the id: an ack that names only the client's own user is for its own message from
// another device, else for the oldest delivery.
func (u *unacked) match(self uint32, a ack) int {
	loose := -1
	for i := range int(u.n) {
		t := u.at(i).tag
		if t.ID != a.id || a.group != (t.Flags&TagGroup != 0) {
			continue
		}
		if t.Peer == a.session {
			return i
		}
		if a.group || a.session != self {
			continue
		}
		own := t.Flags&TagOwn != 0
		if !own && t.Peer == a.user {
			return i
		}
		if a.user != self && a.user != 0 {
			continue // names another sender
		}
		if loose < 0 || own && u.at(loose).tag.Flags&TagOwn == 0 {
			loose = i
		}
	}
	return loose
}

// remove removes the i-th delivery. It moves those before it or those behind it,
// whichever are fewer.
func (u *unacked) remove(i int) {
	u.uncount(u.at(i))
	last := int(u.n) - 1
	if i <= last/2 {
		for ; i > 0; i-- {
			*u.at(i) = *u.at(i - 1)
		}
		*u.at(0) = delivery{}
		u.head = uint16((int(u.head) + 1) & (len(u.ring) - 1))
	} else {
		for ; i < last; i++ {
			*u.at(i) = *u.at(i + 1)
		}
		*u.at(last) = delivery{}
	}
	u.n--
}

// count adds a delivery to the sums, uncount subtracts it.
func (u *unacked) count(d *delivery) {
	u.bytes += int32(len(d.frame))
	if d.frame == nil {
		u.remembered++
	}
}

func (u *unacked) uncount(d *delivery) {
	u.bytes -= int32(len(d.frame))
	if d.frame == nil {
		u.remembered--
	}
}

// takeOut removes the deliveries that over picks. over is called once for each, oldest
// first, and may change the delivery; it must not use u.
func (u *unacked) takeOut(over func(d *delivery) bool) {
	kept := 0
	for i := range int(u.n) {
		d := u.at(i)
		if over(d) {
			u.uncount(d)
			continue
		}
		if kept != i {
			*u.at(kept) = *d
		}
		kept++
	}
	for i := kept; i < int(u.n); i++ {
		*u.at(i) = delivery{}
	}
	u.n = uint16(kept)
}

// makeRoom gives up the oldest deliveries until d fits, and returns how many those were.
// gone is called with each; it must not use u.
func (u *unacked) makeRoom(d *delivery, gone func(*delivery)) (lost int) {
	if d.frame == nil && u.remembered >= maxRemembered {
		i := 0
		for u.at(i).frame != nil {
			i++
		}
		gone(u.at(i))
		u.remove(i)
		lost++
	}
	for u.full(len(d.frame)) {
		gone(u.at(0))
		u.remove(0)
		lost++
	}
	return lost
}

// hasRoom reports whether d fits, so that makeRoom is not needed.
func (u *unacked) hasRoom(d *delivery) bool {
	if d.frame == nil && u.remembered >= maxRemembered {
		return false
	}
	return !u.full(len(d.frame))
}

// full reports whether a frame of size bytes does not fit beside the others.
func (u *unacked) full(size int) bool {
	return u.n > 0 && (u.n >= maxUnacked || int(u.bytes)+size > maxUnackedBytes)
}

// add appends d, with a larger ring from the pool if needed.
func (u *unacked) add(d delivery, pool *ringPool) {
	if int(u.n) == len(u.ring) {
		ring := pool.take(max(minRing, 2*len(u.ring)))
		for i := range int(u.n) {
			ring[i] = *u.at(i)
		}
		pool.give(u.ring)
		u.ring, u.head = ring, 0
	}
	u.n++
	u.count(&d)
	*u.at(int(u.n) - 1) = d
}

// drop removes all deliveries.
func (u *unacked) drop(pool *ringPool) {
	pool.give(u.ring)
	u.ring, u.head, u.n, u.bytes, u.remembered = nil, 0, 0, 0, 0
}

const (
	minRing = 4
	maxRing = 32 // larger ones are not kept
	// keptRings is how many rings of each of the four sizes a loop keeps, 3 MiB at most:
	// a fan-out to many clients that answer at once makes no garbage.
	keptRings = 1024
)

// ringPool is the free rings of a loop. A connection that has acknowledged everything
// holds no ring.
type ringPool struct{ free [4][][]delivery }

func ringClass(size int) int { return bits.Len(uint(size/minRing)) - 1 }

func (p *ringPool) take(size int) []delivery {
	if size > maxRing {
		return make([]delivery, size)
	}
	free := &p.free[ringClass(size)]
	last := len(*free) - 1
	if last < 0 {
		return make([]delivery, size)
	}
	ring := (*free)[last]
	(*free)[last] = nil
	*free = (*free)[:last]
	return ring
}

// give returns a ring to the pool. The caller must not use it any more.
func (p *ringPool) give(ring []delivery) {
	if len(ring) == 0 || len(ring) > maxRing {
		return
	}
	if free := &p.free[ringClass(len(ring))]; len(*free) < keptRings {
		clear(ring) // of frames
		*free = append(*free, ring)
	}
}
