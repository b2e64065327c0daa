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
func (h *Handler) waitFor(user uint32) waitKind {
	for _, s := range h.online.Of(user) {
		if h.opt.Client(s).Acks() {
			return waitLocal
		}
	}
	if h.others.HasReceipts() {
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
func (h *Handler) wait(f Message, kind waitKind) {
	st := h.opt.Loop(f.from.Loop())
	key := waitKey{f.data.FromUserID, f.data.ToSessionID, f.data.MsgID}
	st.waits.open[key] = wait{s: f.from, seq: f.seq, came: f.at}
	st.waits.due = append(st.waits.due, dueWait{key, f.from.Loop().Now().Add(h.opt.AckWait)})
	if kind == waitLocal {
		h.metrics.waitsHere.Inc()
		return
	}
	h.askForAcks(f.from, key)
}

// askForAcks asks whether a device elsewhere acknowledges deliveries, and sends the ack
// at once when none does. An answer without the scope is that of a C++ route server,
// which does not know.
func (h *Handler) askForAcks(s *session.Client, key waitKey) {
	scope := pb.DeviceScope_DEVICE_SCOPE_ACKS
	req := pb.IMUsersStatReq_builder{UserId: proto.Uint32(key.from), UserIdList: []uint32{key.to},
		Scope: scope.Enum()}.Build()
	h.route.Call(s.Loop(), uint64(key.to), 0, req, func(rsp pb.Message, err error) {
		stat, ok := rsp.(*pb.IMUsersStatRsp)
		proven := err == nil && ok && stat.HasScope() && stat.GetScope() == scope
		if proven && stat.IsOnline(key.to) {
			h.metrics.waitsElsewhere.Inc()
			return
		}
		h.release(s.Loop(), key)
	})
}

// release sends an ack that was held back, if it still is. Loop only.
func (h *Handler) release(l *session.Loop, key waitKey) {
	st := h.opt.Loop(l)
	w, ok := st.waits.open[key]
	if !ok {
		return
	}
	delete(st.waits.open, key)
	h.ack(w.s, w.seq, newAck(key.from, target{id: key.to}, key.id), w.came)
}

// ReleaseAcks sends all acks of a loop that h holds back: the server drains, and closes the
// connections soon. Loop only.
func ReleaseAcks(h *Handler, l *session.Loop) {
	waits := &h.opt.Loop(l).waits
	for _, d := range waits.due {
		h.release(l, d.key)
	}
	waits.due = nil
}

// expireAcks sends the acks that have waited long enough. Later acks do not wait for the
// devices here that did not acknowledge, until they do. Devices elsewhere are judged by
// their own server, see overdueOf.
func (h *Handler) expireAcks(st *Loop, now time.Time) {
	due := st.waits.due
	for len(due) > 0 && !now.Before(due[0].at) {
		key := due[0].key
		due = due[1:]
		w, ok := st.waits.open[key]
		if !ok {
			continue
		}
		h.release(w.s.Loop(), key)
		h.metrics.ackTimeouts.Inc()
		for _, o := range h.online.Of(key.to) {
			o.Loop().Post(func() {
				if h.opt.Client(o).unacked.find(session.Tag{Peer: key.from, ID: key.id}) >= 0 {
					h.fellSilent(o, "from", key.from, "msg", key.id)
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
func (h *Handler) fellSilent(s *session.Client, args ...any) {
	if h.opt.Client(s).Acks() {
		args = append(args, "waited", h.opt.AckWait, "conn", s.ID(), "user", s.User,
			"client", s.ClientType.String())
		h.often.silent.Warn(h.log, h.opt.Now(),
			"device stopped acknowledging, senders no longer wait for it", args...)
	}
	h.setAnswers(s, false)
}

// answered releases the ack of a message that a device of its receiver acknowledged, if
// its sender waits here. here is the loop that the caller runs on, nil if it runs on
// none.
func (h *Handler) answered(here *session.Loop, key waitKey) {
	if h.opt.Ack != AckDelivered {
		return
	}
	sessions := h.online.Of(key.from)
	for i, o := range sessions {
		if postedBefore(sessions[:i], nil, o.Loop()) {
			continue
		}
		l := o.Loop()
		if l == here {
			h.release(l, key)
			continue
		}
		l.Post(func() { h.release(l, key) })
	}
}

// HandleRoutedAck takes the ack of a device on another message server.
func (h *Handler) HandleRoutedAck(_ *session.Link, _ uint16, m *pb.IMMsgDataAck) error {
	h.answered(nil, waitKey{from: m.GetSessionId(), to: m.GetUserId(), id: m.GetMsgId()})
	return nil
}
