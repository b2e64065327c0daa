package msg

import (
	"bytes"
	"hash/maphash"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
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
const (
	lookBack  = 50
	maxPages  = 20
	clockSkew = 5
)

// storeAgain takes a repeated message of which nobody knows whether it was stored: db_proxy answered
// too late, or was lost. It is in the history then, and goes on from there, as it was not
// delivered; else it is stored now. On the sender's loop.
func (h *Server) storeAgain(s *session.Session, g sending, m *pb.MsgData) {
	clientOf(s).sends.order.looks(&g)
	h.lookFor(s, g, m, 0, maxPages)
}

// lookFor searches the messages with ids up to begin (0: from the newest), and stores m when it is
// in none of that many pages.
func (h *Server) lookFor(s *session.Session, g sending, m *pb.MsgData, begin uint32, pages int) {
	seq := g.seq
	req := &pb.IMGetMsgListReq{}
	req.SetUserId(m.FromUserID)
	req.SetSessionType(sessionType(m))
	req.SetSessionId(m.ToSessionID)
	req.SetMsgIdBegin(begin)
	req.SetMsgCnt(lookBack)
	h.db.Call(s.Loop(), orderKey(m), 0, req, func(rsp pb.Message, err error) {
		answer, ok := rsp.(*pb.IMGetMsgListRsp)
		if err != nil || !ok {
			defer h.inFlight.Add(-1)
			clientOf(s).sends.order.found(&g)
			h.notStoredHere(s, g, false, errLookedFor)
			return
		}
		list := answer.GetMsgList()
		sends := &clientOf(s).sends
		for _, old := range list {
			// Equal texts of one second are told apart by what is known of the others.
			if old.GetFromSessionId() == m.FromUserID && old.GetCreateTime() == m.CreateTime && old.GetMsgType() == m.Type && bytes.Equal(old.GetMsgData(), m.Data) &&
				!sends.stands(m, old.GetMsgId()) {
				defer h.inFlight.Add(-1)
				h.metrics.resends.Inc()
				m.MsgID = old.GetMsgId()
				h.storedBefore(s, seq, m)
				return
			}
		}
		if n := len(list); n > 0 && pages > 1 && list[n-1].GetMsgId() > 1 && list[n-1].GetCreateTime()+clockSkew >= m.CreateTime {
			h.lookFor(s, g, m, list[n-1].GetMsgId()-1, pages-1)
			return
		}
		if !clientOf(s).sends.order.found(&g) {
			defer h.inFlight.Add(-1)
			h.notStoredHere(s, g, false, errLookedFor)
			return
		}
		h.store(s, g, m)
	})
}

// errLookedFor leaves a message in doubt: the history could not be searched for it, or one before it
// is still searched for.
var errLookedFor = im.Errorf(im.Unavailable, "not known whether it was stored")

// storedBefore goes on with a message that was found in the history.
func (h *Server) storedBefore(s *session.Session, seq uint16, m *pb.MsgData) {
	if m.Type.IsGroup() {
		h.groupStored(s, seq, m, true)
		return
	}
	h.msgStored(s, seq, m)
}

// bucket is a token bucket: so many messages a second, and a burst.
type bucket struct {
	tokens float64
	last   int64 // unix milliseconds; 0: never used
}

func (b *bucket) take(now time.Time, rate, burst float64) bool {
	ms := now.UnixMilli()
	if b.last == 0 {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+float64(max(0, ms-b.last))*rate/1000)
	}
	b.last = ms
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
