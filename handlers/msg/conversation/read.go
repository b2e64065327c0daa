package conversation

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/obs"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/readmarks"
	"teamtalk/proto/pb"
)

// Reads handles read acks.
type Reads struct {
	opt    Options
	metric *prometheus.CounterVec // by result
	store  ReadStore
	marks  readmarks.Marks
	often  obs.Often
	// received takes the messages that a client has read as received.
	received func(*session.Client, *pb.IMMsgDataReadAck)
	held     atomic.Int64 // read acks beyond freeReads of each connection
}

// HandleReadAck clears the unread count and tells the user's other devices. A client has
// received the messages that it has read: that counts at once.
func (h *Reads) HandleReadAck(s *session.Client, seq uint16, m *pb.IMMsgDataReadAck) error {
	m.SetUserId(s.User)
	h.received(s, m)
	st, r := h.opt.Loop(s.Loop()), heldRead{readmarks.KeyOf(m), m.GetMsgId(), seq}
	if st.reads[s] != nil || !h.opt.Client(s).reads.Take(s.Loop().Now(), readRate, readBurst) {
		return h.holdRead(st, s, r)
	}
	return h.passRead(s, r)
}

// passRead gives a read ack to db_proxy, and tells the user's other devices when it moves
// the mark forward. Clients that answer a notify with a read ack would otherwise answer
// each other without end.
func (h *Reads) passRead(s *session.Client, r heldRead) error {
	key, id := r.key, r.id
	m := &pb.IMMsgDataReadAck{} // db_proxy's once it is sent
	m.SetUserId(key.User)
	m.SetSessionId(key.Session)
	m.SetMsgId(id)
	m.SetSessionType(key.Type)
	n := &pb.IMMsgDataReadNotify{}
	n.SetUserId(key.User)
	n.SetSessionId(key.Session)
	n.SetMsgId(id)
	n.SetSessionType(key.Type)
	// Under the key of the user's queries, so that a query for unread messages that
	// follows finds them cleared. The messages that it says were read are stored and
	// counted: they were delivered.
	if err := h.store.Send(uint64(key.User), r.seq, m); err != nil {
		h.metric.WithLabelValues("failed").Inc()
		return err
	}
	switch h.marks.Advance(key, id) {
	case readmarks.MovedOn:
		h.metric.WithLabelValues("told").Inc()
		h.tell(n, s)
	case readmarks.InQuestion:
		h.check(n, func(n *pb.IMMsgDataReadNotify) { h.tell(n, s) })
	default:
		h.metric.WithLabelValues("known").Inc()
	}
	return nil
}

// tell tells the user's devices except but, here and elsewhere.
func (h *Reads) tell(n *pb.IMMsgDataReadNotify, but *session.Client) {
	h.tellOthers(n, but)
	h.opt.Others.Forward(n)
}

// check asks db_proxy whether a mark beyond the id of n is that of a message. A client may
// have named one that does not exist, and no device would be told of the messages up to
// it. In that case the mark moves back and then is called, with the id at most that of
// the newest message. Each mark is asked about once. Any goroutine.
func (h *Reads) check(n *pb.IMMsgDataReadNotify, then func(*pb.IMMsgDataReadNotify)) {
	key := readmarks.KeyOf(n)
	req := &pb.IMGetLatestMsgIdReq{}
	req.SetUserId(key.User)
	req.SetSessionType(key.Type)
	req.SetSessionId(key.Session)
	h.store.Call(nil, uint64(key.User), 0, req, func(rsp pb.Message, err error) {
		answer, ok := rsp.(*pb.IMGetLatestMsgIdRsp)
		if err != nil || !ok {
			return // the next read ack asks again
		}
		newest := answer.GetLatestMsgId()
		n.SetMsgId(min(n.GetMsgId(), newest))
		back := h.marks.Settle(key, newest, n.GetMsgId())
		// Another one may have moved it back.
		if !back && h.marks.Advance(key, n.GetMsgId()) != readmarks.MovedOn {
			h.metric.WithLabelValues("known").Inc()
			return
		}
		h.metric.WithLabelValues("corrected").Inc()
		if n.GetMsgId() > 0 {
			then(n)
		}
	})
}

func (h *Reads) tellOthers(n *pb.IMMsgDataReadNotify, but *session.Client) {
	for _, o := range h.opt.Online.Of(n.GetUserId()) {
		if o != but {
			_ = o.Push(0, n) // a full mailbox closes the session
		}
	}
}

// HandleRoutedRead tells the devices here what their user read elsewhere, unless they
// know: they have read it or were told of it.
func (h *Reads) HandleRoutedRead(_ *session.Link, _ uint16, m *pb.IMMsgDataReadNotify) error {
	if len(h.opt.Online.Of(m.GetUserId())) == 0 {
		return nil
	}
	switch h.marks.Advance(readmarks.KeyOf(m), m.GetMsgId()) {
	case readmarks.MovedOn:
		h.tellOthers(m, nil)
	case readmarks.InQuestion:
		h.check(proto.CloneOf(m), func(n *pb.IMMsgDataReadNotify) { h.tellOthers(n, nil) })
	}
	return nil
}
