package conversation

import (
	"hash/maphash"
	"time"

	"teamtalk/core/mono"
	"teamtalk/proto/pb"
)

// maxSends is how many recent messages are remembered for one connection.
const maxSends = 1024

// resends recognises a message that a client repeats because it got no ack: it has the
// same target, content and seq. Clients that do not number their messages send seq 0:
// their messages never count as repeats.
//
// A seq has one place in the table. The table grows when that place holds a message that
// still counts. Loop only.
type resends struct {
	table []sent // length zero or a power of two
	order *sendOrder
}

// sent is a message that a client sent.
type sent struct {
	hash uint64 // of type and content
	at   int64  // mono.Of; of the last repeat if one has arrived before the answer
	to   uint32 // user or group, as the type in hash says
	id   uint32 // 0: not stored yet
	// created is the message's create_time, by which the history is searched for it when
	// it is in doubt.
	created uint32
	seq     uint16
	used    bool
	flags   sentFlags
}

type sentFlags uint8

const (
	sentUnknown sentFlags = 1 << iota // db_proxy did not answer
	sentGroup                         // to a group
)

// sendState is how far an earlier message with the same target, content and seq got.
type sendState uint8

const (
	sendNew     sendState = iota // there is none
	sendPending                  // db_proxy has it
	sendStored
	sendUnknown // in doubt
)

var contentSeed = maphash.MakeSeed()

// contentHash tells messages apart that have the same target and seq. It contains the
// type: the same bytes to a user and to the group of that number are two messages.
func contentHash(m *pb.MsgData) uint64 {
	return maphash.Bytes(contentSeed, m.Data) + uint64(m.Type)
}

func (r *resends) place(seq uint16) *sent {
	if len(r.table) == 0 {
		return nil
	}
	return &r.table[int(seq)&(len(r.table)-1)]
}

// look returns whether m was sent within the window, and its id if it is stored. The sender
// is then one that repeats.
func (r *resends) look(seq uint16, m *pb.MsgData, now time.Time, window time.Duration) (
	id uint32, state sendState) {
	e := r.place(seq)
	if seq == 0 || e == nil || !e.used || e.seq != seq || e.to != m.ToSessionID ||
		mono.Of(now)-e.at >= int64(window) || e.hash != contentHash(m) {
		return 0, sendNew
	}
	if r.order != nil {
		r.order.repeats = true
	}
	switch {
	case e.flags&sentUnknown != 0:
		return 0, sendUnknown
	case e.id == 0:
		e.at = mono.Of(now) // see asked
		return 0, sendPending
	}
	return e.id, sendStored
}

// asked returns when the sender sent a message last that is not stored yet, zero if that is
// not known.
func (r *resends) asked(seq uint16, hash uint64, now time.Time) time.Time {
	e := r.place(seq)
	if seq == 0 || e == nil || !e.used || e.seq != seq || e.hash != hash || e.id != 0 {
		return time.Time{}
	}
	return now.Add(time.Duration(e.at - mono.Of(now)))
}

// add remembers a message that is given to db_proxy. hash is its contentHash.
func (r *resends) add(seq uint16, hash uint64, m *pb.MsgData, now time.Time, window time.Duration) {
	if seq == 0 {
		return
	}
	for {
		e := r.place(seq)
		if e != nil && (!e.used || e.seq == seq || len(r.table) >= maxSends ||
			mono.Of(now)-e.at >= int64(window)) {
			*e = sent{hash: hash, at: mono.Of(now), to: m.ToSessionID, created: m.CreateTime,
				seq: seq, used: true}
			if m.Type.IsGroup() {
				e.flags = sentGroup
			}
			return
		}
		r.grow()
	}
}

func (r *resends) grow() {
	old := r.table
	r.table = make([]sent, max(8, 2*len(old)))
	for _, e := range old {
		if e.used {
			*r.place(e.seq) = e
		}
	}
}

// stored records the id of the message sent with seq.
func (r *resends) stored(seq uint16, id uint32) {
	if e := r.place(seq); e != nil && e.used && e.seq == seq {
		e.id = id
		e.flags &^= sentUnknown
		if r.order != nil && len(r.order.holds) > 0 {
			r.order.settled(target{e.to, e.flags&sentGroup != 0}, seq, e.hash)
		}
	}
}

// doubt records that the message sent with seq may be stored, or not.
func (r *resends) doubt(seq uint16) {
	if e := r.place(seq); e != nil && e.used && e.seq == seq && e.id == 0 {
		e.flags |= sentUnknown
	}
}

// isDoubtful reports whether the message sent with seq is in doubt, and was not repeated.
func (r *resends) isDoubtful(seq uint16, hash uint64) bool {
	e := r.place(seq)
	return e != nil && e.used && e.seq == seq && e.hash == hash && e.flags&sentUnknown != 0
}

// retry records that the history is searched for the message sent with seq, and returns
// its create_time.
func (r *resends) retry(seq uint16) (created uint32) {
	e := r.place(seq)
	e.flags &^= sentUnknown
	return e.created
}

// stands reports whether another message to the target of m is known to be stored under
// id.
func (r *resends) stands(m *pb.MsgData, id uint32) bool {
	for i := range r.table {
		e := &r.table[i]
		if e.used && e.to == m.ToSessionID && e.id == id &&
			(e.flags&sentGroup != 0) == m.Type.IsGroup() {
			return true
		}
	}
	return false
}

// forget makes a repeat of the message sent with seq count as new: it was not stored.
func (r *resends) forget(seq uint16) {
	if e := r.place(seq); e != nil && e.used && e.seq == seq && e.id == 0 {
		e.used = false
	}
}
