package msg

import (
	"sync"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

const (
	// readRate is how many read acks a second of one connection are passed on, readBurst
	// how many at once. A client sends one for each conversation that it opens, and for
	// each message while one is on the screen. Beyond the rate only the last of each
	// conversation counts.
	readRate  = 20.0
	readBurst = 40.0
	// maxHeldReads is how many conversations' read acks one connection may have waiting.
	maxHeldReads = 128
)

// heldRead is a read ack that waits for its turn.
type heldRead struct {
	seq uint16
	m   *pb.IMMsgDataReadAck
}

// handleReadAck clears the unread count and tells the user's other devices. What the
// client has read it has received: that counts at once.
func (h *Server) handleReadAck(s *session.Session, seq uint16, m *pb.IMMsgDataReadAck) error {
	m.SetUserId(s.User)
	h.readUpTo(s, m)
	st := stateOf(s.Loop())
	if len(st.reads[s]) > 0 || !clientOf(s).reads.take(s.Loop().Now(), readRate, readBurst) {
		return h.holdRead(st, s, heldRead{seq, m})
	}
	return h.passRead(s, seq, m)
}

// holdRead keeps a read ack until its turn, in the place of an earlier one of the
// conversation.
func (h *Server) holdRead(st *loopState, s *session.Session, r heldRead) error {
	held := st.reads[s]
	for i, o := range held {
		if keyOf(o.m) == keyOf(r.m) {
			h.metrics.reads.WithLabelValues("merged").Inc()
			if r.m.GetMsgId() > o.m.GetMsgId() {
				held[i] = r
			}
			return nil
		}
	}
	if len(held) >= maxHeldReads {
		h.metrics.reads.WithLabelValues("dropped").Inc()
		return im.Errorf(im.Denied, "read ack dropped: those of %d conversations wait", len(held))
	}
	if st.reads == nil {
		st.reads = map[*session.Session][]heldRead{}
	}
	st.reads[s] = append(held, r)
	return nil
}

// passReads passes on the read acks whose turn it is.
func (h *Server) passReads(st *loopState, now time.Time) {
	for s, held := range st.reads {
		b := &clientOf(s).reads
		for len(held) > 0 && b.take(now, readRate, readBurst) {
			h.passHeld(s, held[0])
			held = held[1:]
		}
		st.keepReads(s, held)
	}
}

// flushReads passes on all read acks of s that wait. On the loop.
func (h *Server) flushReads(s *session.Session) {
	st := stateOf(s.Loop())
	if len(st.reads) == 0 {
		return
	}
	for _, r := range st.reads[s] {
		h.passHeld(s, r)
	}
	st.keepReads(s, nil)
}

func (st *loopState) keepReads(s *session.Session, held []heldRead) {
	if len(held) > 0 {
		st.reads[s] = held
		return
	}
	if delete(st.reads, s); len(st.reads) == 0 {
		st.reads = nil
	}
}

func (h *Server) passHeld(s *session.Session, r heldRead) {
	if err := h.passRead(s, r.seq, r.m); err != nil {
		h.warn(&h.often.query, "read ack not passed on", "conn", s.ID(), "user", s.User, "err", err)
	}
}

// passRead gives a read ack to db_proxy, and tells the user's other devices when it moves
// the mark forward. Clients that answer a notify with a read ack would else answer each
// other without end.
func (h *Server) passRead(s *session.Session, seq uint16, m *pb.IMMsgDataReadAck) error {
	key, id := keyOf(m), m.GetMsgId() // m is db_proxy's once it is sent
	n := &pb.IMMsgDataReadNotify{}
	n.SetUserId(key.user)
	n.SetSessionId(key.session)
	n.SetMsgId(id)
	n.SetSessionType(key.kind)
	// The way of the user's queries, so that a question for unread messages asked behind
	// it finds them cleared. The messages that it says were read are stored and counted:
	// they were delivered.
	if err := h.dbFirst.Send(uint64(s.User), seq, m); err != nil {
		h.metrics.reads.WithLabelValues("failed").Inc()
		return err
	}
	if !h.marks.advance(key, id) {
		h.metrics.reads.WithLabelValues("known").Inc()
		return nil
	}
	h.metrics.reads.WithLabelValues("told").Inc()
	h.tellOthers(n, s)
	h.toRoute(0, n)
	return nil
}

func (h *Server) tellOthers(n *pb.IMMsgDataReadNotify, but *session.Session) {
	for _, o := range h.online.Of(n.GetUserId()) {
		if o != but {
			_ = o.Push(0, n) // a full mailbox closes the session
		}
	}
}

// handleRoutedRead tells the devices here what their user read elsewhere, unless they
// know: they have read it or were told of it.
func (h *Server) handleRoutedRead(_ *session.Session, _ uint16, m *pb.IMMsgDataReadNotify) error {
	if len(h.online.Of(m.GetUserId())) == 0 {
		return nil
	}
	if h.marks.advance(keyOf(m), m.GetMsgId()) {
		h.tellOthers(m, nil)
	}
	return nil
}

// maxMarks is about how many read marks are known, of all users. A mark that was
// forgotten costs one notify too many.
const (
	maxMarks   = 1 << 18
	markShards = 16
)

// readKey is one user's side of a conversation.
type readKey struct {
	user, session uint32
	kind          pb.SessionType
}

// keyOf is what a read ack or a notify of one is about.
func keyOf(m interface {
	GetUserId() uint32
	GetSessionId() uint32
	GetSessionType() pb.SessionType
}) readKey {
	return readKey{m.GetUserId(), m.GetSessionId(), m.GetSessionType()}
}

// readMarks is up to which message users have read, as far as their devices here said or
// were told. The zero value is ready. From anywhere.
type readMarks struct{ shards [markShards]markShard }

// markShard holds two generations. When the younger one is full the older one is
// forgotten.
type markShard struct {
	mu         sync.Mutex
	young, old map[readKey]uint32
	_          [40]byte // a shard to a cache line
}

// advance moves a mark forward to id. It reports false when the mark is there already.
func (r *readMarks) advance(key readKey, id uint32) bool {
	sh := &r.shards[key.user%uint32(len(r.shards))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	mark, known := sh.young[key]
	young := known
	if !known {
		mark, known = sh.old[key]
	}
	moves := !known || id > mark
	if moves {
		mark = id
	}
	if moves || !young {
		sh.put(key, mark)
	}
	return moves
}

// put notes a mark in the younger generation.
func (sh *markShard) put(key readKey, mark uint32) {
	_, there := sh.young[key]
	if full := len(sh.young) >= maxMarks/2/markShards; sh.young == nil || full && !there {
		sh.old, sh.young = sh.young, map[readKey]uint32{}
	}
	sh.young[key] = mark
}
