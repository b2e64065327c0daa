package conversation

import (
	"hash/maphash"
	"time"

	"teamtalk/proto/pb"
)

// maxSends is how many recent sends are remembered for one connection.
const maxSends = 1024

// resends recognises a message that a client sends again because its ack did not come: same target, same content, same seq. A seq of 0 is what
// clients send that do not number their messages: those are never taken for repeats.
//
// It is a table in which a seq has one place; it grows when that place holds a send that still counts.
type resends struct {
	table []sent // length zero or a power of two
	order *sendOrder
}

type sent struct {
	hash uint64 // of type and content
	at   int64  // unix milliseconds
	to   uint32 // user or group, as the type in hash says
	id   uint32 // 0: not stored yet
	// created is the message's create_time, by which it is found in the history once nobody knows whether it was stored.
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

type sendState uint8

const (
	sendNew sendState = iota
	sendPending
	sendStored
	sendUnknown
)

var contentSeed = maphash.MakeSeed()

// contentHash tells messages apart that have the same target and seq. The type is in it: the same bytes to a user and to the group of
// that number are two messages.
func contentHash(m *pb.MsgData) uint64 { return maphash.Bytes(contentSeed, m.Data) + uint64(m.Type) }

func (r *resends) place(seq uint16) *sent {
	if len(r.table) == 0 {
		return nil
	}
	return &r.table[int(seq)&(len(r.table)-1)]
}

// look says whether m was sent before, and its id once it is stored.
func (r *resends) look(seq uint16, m *pb.MsgData, now time.Time, window time.Duration) (uint32, sendState) {
	e := r.place(seq)
	if seq == 0 || e == nil || !e.used || e.seq != seq || e.to != m.ToSessionID ||
		now.UnixMilli()-e.at > window.Milliseconds() || e.hash != contentHash(m) {
		return 0, sendNew
	}
	switch {
	case e.flags&sentUnknown != 0:
		return 0, sendUnknown
	case e.id == 0:
		return 0, sendPending
	}
	return e.id, sendStored
}

// add remembers a message on its way to the store. hash is its contentHash.
func (r *resends) add(seq uint16, hash uint64, m *pb.MsgData, now time.Time, window time.Duration) {
	if seq == 0 {
		return
	}
	for {
		e := r.place(seq)
		if e != nil && (!e.used || e.seq == seq || len(r.table) >= maxSends || now.UnixMilli()-e.at > window.Milliseconds()) {
			*e = sent{hash: hash, at: now.UnixMilli(), to: m.ToSessionID, created: m.CreateTime, seq: seq, used: true}
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

// stored notes the id of the message sent with seq.
func (r *resends) stored(seq uint16, id uint32) {
	if e := r.place(seq); e != nil && e.used && e.seq == seq {
		e.id = id
		e.flags &^= sentUnknown
		if r.order != nil && len(r.order.holds) > 0 {
			r.order.settled(target{e.to, e.flags&sentGroup != 0}, seq, e.hash)
		}
	}
}

// doubt notes that nobody knows whether the message sent with seq was stored.
func (r *resends) doubt(seq uint16) {
	if e := r.place(seq); e != nil && e.used && e.seq == seq && e.id == 0 {
		e.flags |= sentUnknown
	}
}

// retry says that the message sent with seq is looked for, and returns its create_time.
func (r *resends) retry(seq uint16) (created uint32) {
	e := r.place(seq)
	e.flags &^= sentUnknown
	return e.created
}

// stands reports whether id is that of a message to m's target that is known to be stored.
func (r *resends) stands(m *pb.MsgData, id uint32) bool {
	for i := range r.table {
		if e := &r.table[i]; e.used && e.to == m.ToSessionID && e.flags&sentGroup != 0 == m.Type.IsGroup() && e.id == id {
			return true
		}
	}
	return false
}

// forget lets the message be sent again: it was not stored.
func (r *resends) forget(seq uint16) {
	if e := r.place(seq); e != nil && e.used && e.seq == seq && e.id == 0 {
		e.used = false
	}
}

// The history is searched for a message that may have been stored, page by page, as far back as the message is old, but no further than maxPages. A page of
// the longest sounds fits into a frame between servers. clockSkew is how far the clocks of message servers may be apart, in seconds.
