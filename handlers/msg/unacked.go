package msg

import (
	"math/bits"
	"sync/atomic"
	"time"

	"teamtalk/core/session"
)

// The recipient's side: what a device did not answer is sent again, once.

const (
	// maxUnacked is how many deliveries are followed for one connection, maxUnackedBytes how long their frames may be in sum; of more, the oldest are no
	// longer. The frames are shared by all who got them.
	maxUnacked      = 256
	maxUnackedBytes = 2 << 20
)

// unacked is the deliveries to one connection that it has not answered, oldest first. They lie in a ring: answers come in the order of the
// deliveries, mostly.
type unacked struct {
	silent atomic.Bool // let AckWait pass: not waited for until it answers something. From anywhere.
	mute   bool        // did not answer what was sent twice: not followed until it answers something
	head   uint16
	n      uint16
	bytes  int32      // of frames
	slot   int32      // place in loopState.waiting plus one, 0: not there
	ring   []delivery // length zero or a power of two, at most maxUnacked
}

type delivery struct {
	tag   session.Tag
	again bool
	at    int64  // unix milliseconds
	frame []byte // shared with other sessions
}

// at returns the i-th delivery.
func (u *unacked) at(i int) *delivery { return &u.ring[(int(u.head)+i)&(len(u.ring)-1)] }

// find returns the place of the delivery with that peer and id, -1 when there is none.
func (u *unacked) find(tag session.Tag) int {
	for i := range int(u.n) {
		if t := u.at(i).tag; t.Peer == tag.Peer && t.ID == tag.ID && t.Flags&tagGroup == tag.Flags&tagGroup {
			return i
		}
	}
	return -1
}

// remove takes out the i-th delivery, moving the fewer of those before and behind it.
func (u *unacked) remove(i int) {
	u.bytes -= int32(len(u.at(i).frame))
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

// full reports whether a frame of size bytes does not fit with what is there.
func (u *unacked) full(size int) bool {
	return u.n > 0 && (u.n >= maxUnacked || int(u.bytes)+size > maxUnackedBytes)
}

// add appends d, with a larger ring from the pool where needed.
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
	u.bytes += int32(len(d.frame))
	*u.at(int(u.n) - 1) = d
}

// drop forgets everything.
func (u *unacked) drop(pool *ringPool) {
	pool.give(u.ring)
	u.ring, u.head, u.n, u.bytes = nil, 0, 0, 0
}

const (
	minRing = 4
	maxRing = 32 // larger ones are not kept
	// keptRings is how many rings of each of the four sizes a loop keeps: a fan-out to many that answer at once makes no garbage. 3 MiB at most.
	keptRings = 1024
)

// ringPool is a loop's rings for those that have something to wait for. A connection that has answered everything holds none.
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

// give takes a ring back, which nobody uses any more.
func (p *ringPool) give(ring []delivery) {
	if len(ring) == 0 || len(ring) > maxRing {
		return
	}
	if free := &p.free[ringClass(len(ring))]; len(*free) < keptRings {
		clear(ring) // of frames
		*free = append(*free, ring)
	}
}

// Sent follows a delivery.
func (h *Server) Sent(s *session.Session, tag session.Tag, frame []byte) {
	h.contactSpoke(s, tag, frame)
	c, st := clientOf(s), stateOf(s.Loop())
	u := &c.unacked
	if u.mute {
		h.metrics.unansweredLost(1)
		return
	}
	for u.full(len(frame)) {
		h.metrics.unansweredLost(1)
		u.remove(0)
	}
	u.add(delivery{tag: tag, at: s.Loop().Now().UnixMilli(), frame: frame}, &st.rings)
	st.watch(s, c)
}

func (st *loopState) watch(s *session.Session, c *client) {
	if c.unacked.slot == 0 {
		st.waiting = append(st.waiting, s)
		c.unacked.slot = int32(len(st.waiting))
	}
}

func (st *loopState) unwatch(c *client) {
	i := c.unacked.slot
	if i == 0 {
		return
	}
	last := len(st.waiting) - 1
	moved := st.waiting[last]
	st.waiting[i-1] = moved
	clientOf(moved).unacked.slot = i
	st.waiting[last] = nil
	st.waiting = st.waiting[:last]
	c.unacked.slot = 0
	c.unacked.drop(&st.rings)
}

// redeliver sends again what was not answered in time, and gives up on what was sent again already.
func (h *Server) redeliver(st *loopState, now time.Time) {
	if h.opt.RedeliverAfter < 0 {
		return
	}
	for i := len(st.waiting) - 1; i >= 0; i-- {
		s := st.waiting[i]
		c := clientOf(s)
		u := &c.unacked
		for j := range int(u.n) {
			d := u.at(j)
			if now.UnixMilli()-d.at < h.opt.RedeliverAfter.Milliseconds() {
				continue
			}
			if d.again {
				// Twice in vain: this client does not answer at all.
				h.metrics.unansweredLost(int(u.n))
				u.silent.Store(true)
				u.mute = true
				st.unwatch(c)
				break
			}
			d.again, d.at = true, now.UnixMilli()
			h.metrics.redelivered.Inc()
			s.SendFrame(d.frame)
		}
	}
}
