package conversation

import (
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// With AckDelivered the sender's ack waits for an ack of the receiver's devices, for
// AckWait at most, and only while one of them is known to acknowledge deliveries. A route
// server that forwards acks is asked about devices on other message servers. C++ route
// servers drop acks.

// waitKind says what an ack waits for.
type waitKind uint8

const (
	noWait     waitKind = iota
	waitLocal           // a device of the receiver here acknowledges
	waitRemote          // the receiver may be connected elsewhere: ask, then wait
)

// waitFor returns what an ack to a message for user has to wait for. Any goroutine.
func (r *Receipts) waitFor(user uint32) waitKind {
	for _, s := range r.online.Of(user) {
		if r.opt.Client(s).Acks() {
			return waitLocal
		}
	}
	if r.others.HasReceipts() {
		return waitRemote
	}
	return noWait
}

type waitKey struct{ from, to, id uint32 }

// wait is an ack held back.
type wait struct {
	s    *session.Client
	seq  uint16
	came time.Time // of the message
}

// ackWaits is the acks that a loop holds back for its own sessions.
type ackWaits struct {
	open map[waitKey]wait
	due  []dueWait // in order of time; may hold keys that are gone from open
}

type dueWait struct {
	key waitKey
	at  time.Time
}

func newAckWaits() ackWaits { return ackWaits{open: map[waitKey]wait{}} }

// wait holds the ack of a message back. Loop only.
func (r *Receipts) wait(f Message, kind waitKind) {
	st := r.opt.Loop(f.from.Loop())
	key := waitKey{f.data.FromUserID, f.data.ToSessionID, f.data.MsgID}
	st.waits.open[key] = wait{s: f.from, seq: f.seq, came: f.at}
	st.waits.due = append(st.waits.due, dueWait{key, f.from.Loop().Now().Add(r.opt.AckWait)})
	if kind == waitLocal {
		r.metrics.waitsHere.Inc()
		return
	}
	r.askForAcks(f.from, key)
}

// askForAcks asks whether a device elsewhere acknowledges deliveries, and sends the ack
// at once when none does. An answer without the scope is that of a C++ route server,
// which does not know.
func (r *Receipts) askForAcks(s *session.Client, key waitKey) {
	scope := pb.DeviceScope_DEVICE_SCOPE_ACKS
	req := pb.IMUsersStatReq_builder{UserId: proto.Uint32(key.from), UserIdList: []uint32{key.to},
		Scope: scope.Enum()}.Build()
	r.route.Call(s.Loop(), uint64(key.to), 0, req, func(rsp pb.Message, err error) {
		stat, ok := rsp.(*pb.IMUsersStatRsp)
		proven := err == nil && ok && stat.HasScope() && stat.GetScope() == scope
		if proven && stat.IsOnline(key.to) {
			r.metrics.waitsElsewhere.Inc()
			return
		}
		r.release(s.Loop(), key)
	})
}

// ack sends the ack of a message that arrived at came. Loop only.
func (r *Receipts) ack(s *session.Client, seq uint16, m *pb.IMMsgDataAck, came time.Time) {
	r.metrics.ackSeconds.Observe(s.Loop().Now().Sub(came).Seconds())
	_ = s.Send(seq, m)
}

// release sends an ack that was held back, if it still is. Loop only.
func (r *Receipts) release(l *session.Loop, key waitKey) {
	st := r.opt.Loop(l)
	w, ok := st.waits.open[key]
	if !ok {
		return
	}
	delete(st.waits.open, key)
	r.ack(w.s, w.seq, newAck(key.from, target{id: key.to}, key.id), w.came)
}

// expireAcks sends the acks that have waited long enough. Later acks do not wait for the
// devices here that did not acknowledge, until they do. Devices elsewhere are judged by
// their own server, see overdueOf.
func (r *Receipts) expireAcks(st *Loop, now time.Time) {
	due := st.waits.due
	for len(due) > 0 && !now.Before(due[0].at) {
		key := due[0].key
		due = due[1:]
		w, ok := st.waits.open[key]
		if !ok {
			continue
		}
		r.release(w.s.Loop(), key)
		r.metrics.ackTimeouts.Inc()
		for _, o := range r.online.Of(key.to) {
			o.Loop().Post(func() {
				if r.opt.Client(o).unacked.find(session.Tag{Peer: key.from, ID: key.id}) >= 0 {
					r.fellSilent(o, "from", key.from, "msg", key.id)
				}
			})
		}
	}
	if len(due) == 0 {
		due = nil // release what append has grown
	}
	st.waits.due = due
}

// fellSilent records that a sender waited for the device of s for the whole AckWait, or
// that a redelivery was in vain. No sender waits for it any more until it acknowledges
// again. args are added to the log. Loop only.
func (r *Receipts) fellSilent(s *session.Client, args ...any) {
	if r.opt.Client(s).Acks() {
		args = append(args, "waited", r.opt.AckWait, "conn", s.ID(), "user", s.User,
			"client", s.ClientType.String())
		r.silent.Warn(r.log, r.opt.Now(),
			"device stopped acknowledging, senders no longer wait for it", args...)
	}
	r.setAnswers(s, false)
}

// answered releases the ack of a message that a device of its receiver acknowledged, if
// its sender waits here. here is the loop that the caller runs on, nil if it runs on
// none.
func (r *Receipts) answered(here *session.Loop, key waitKey) {
	if r.opt.Ack != AckDelivered {
		return
	}
	sessions := r.online.Of(key.from)
	for i, o := range sessions {
		if postedBefore(sessions[:i], nil, o.Loop()) {
			continue
		}
		l := o.Loop()
		if l == here {
			r.release(l, key)
			continue
		}
		l.Post(func() { r.release(l, key) })
	}
}

// HandleRoutedAck takes the ack of a device on another message server.
func (r *Receipts) HandleRoutedAck(_ *session.Link, _ uint16, m *pb.IMMsgDataAck) error {
	r.answered(nil, waitKey{from: m.GetSessionId(), to: m.GetUserId(), id: m.GetMsgId()})
	return nil
}
