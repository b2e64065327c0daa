package conversation

import (
	"bytes"
	"errors"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/handlers/msg/turns"
	"teamtalk/handlers/msg/waits"
	"teamtalk/proto/pb"
)

// A message is in doubt when db_proxy answered too late or was lost: it may be stored.
// When its sender repeats it, the history is searched for it first. If a newer message of
// the conversation was delivered meanwhile, it is left to the history: every receiver gets
// the order of the ids. Windows, iOS and Android clients look for missing ids when they show
// a conversation, and ask for them.

// The history is searched page by page, as far back as the message is old, at most
// maxPages pages of lookBack messages. A page of the longest sounds fits into a frame
// between servers. clockSkew is by how many seconds the clocks of message servers may
// differ.
const (
	lookBack  = 50
	maxPages  = 20
	clockSkew = 5
)

// repeatWait is how long a Windows client waits at least for the ack of a repeat.
const repeatWait = 5 * time.Second

// errLookedFor leaves a message in doubt: the history could not be searched for it, or a
// message before it is still searched for.
var errLookedFor = im.Errorf(im.Unavailable, "not known whether it was stored")

// storeAgain stores a message in doubt, unless the history has it. In that case it
// continues with the message of the history, which was not delivered. Loop only.
func (h *Handler) storeAgain(f attempt) {
	h.opt.Client(f.from).sends.order.looks(&f)
	h.lookFor(f, 0, maxPages)
}

// lookFor searches the messages with ids up to begin, or the newest ones if begin is 0.
// It stores the message when none of that many pages has it.
func (h *Handler) lookFor(f attempt, begin uint32, pages int) {
	req := &pb.IMGetMsgListReq{}
	req.SetUserId(f.data.FromUserID)
	req.SetSessionType(sessionType(f.group))
	req.SetSessionId(f.data.ToSessionID)
	req.SetMsgIdBegin(begin)
	req.SetMsgCnt(lookBack)
	if f.doubt {
		req.SetAskRepeats(true)
	}
	h.store.Call(f.from.Loop(), OrderKey(f.data), 0, req, func(rsp pb.Message, err error) {
		answer, ok := rsp.(*pb.IMGetMsgListRsp)
		sends := &h.opt.Client(f.from).sends
		if err != nil || !ok {
			sends.order.found(f)
			h.notStoredHere(f, false, errLookedFor)
			return
		}
		list, m := answer.GetMsgList(), f.data
		for i, old := range list {
			// Equal texts of one second are told apart by the ids of the others.
			if isStored(m, old) && !sends.stands(m, old.GetMsgId()) {
				defer h.inFlight.Add(-1)
				h.metrics.resends.Inc()
				m.MsgID = old.GetMsgId()
				m.PrevID = turns.BeforeFound(list[i+1:], h.opt.Now())
				h.storedBefore(f.Message)
				return
			}
		}
		if n := len(list); n > 0 && pages > 1 && list[n-1].GetMsgId() > 1 &&
			list[n-1].GetCreateTime()+clockSkew >= m.CreateTime {
			h.lookFor(f, list[n-1].GetMsgId()-1, pages-1)
			return
		}
		if f.doubt && !answer.GetRecognisesRepeats() || f.isGivenUp() {
			h.giveUp(f, false, errLookedFor) // it may be committed later, and stored twice
			return
		}
		if !sends.order.found(f) {
			h.notStoredHere(f, false, errLookedFor)
			return
		}
		h.send(f)
	})
}

// isStored reports whether old, a message of the history, equals m.
func isStored(m *pb.MsgData, old *pb.MsgInfo) bool {
	return old.GetFromSessionId() == m.FromUserID && old.GetCreateTime() == m.CreateTime &&
		old.GetMsgType() == m.Type && bytes.Equal(old.GetMsgData(), m.Data)
}

// isGivenUp reports whether the sender of a repeat has left, and may have given it up before:
// a Windows client does so 6 s after it. On its next connection it may send the messages
// behind this one again, without this one, which must not be stored after them.
func (f *attempt) isGivenUp() bool {
	return f.repeats && !f.wants && !f.asked.IsZero() && f.from.IsClosed() &&
		f.from.Loop().Now().Sub(f.asked) >= repeatWait
}

// storedBefore continues with a message that was stored some time ago. Its ack waits for no
// device: one may have acknowledged the message already, when another message server
// searched for it.
func (h *Handler) storedBefore(f Message) {
	switch {
	case f.group:
		h.groupStored(f, true)
	case f.data.Duplicate:
		h.stored(f)
	default:
		h.userStored(f, waits.None)
	}
}

// awaitLate makes the late answer to a call that ended with err count, if it arrives. The
// message is then delivered, and acked if its sender is still connected.
func (h *Handler) awaitLate(f attempt, err error) {
	var overdue *link.Overdue
	if !errors.As(err, &overdue) {
		return
	}
	overdue.Then(func(rsp pb.Message) {
		if answer, ok := rsp.(*pb.MsgData); ok && answer.MsgID != 0 {
			f.from.Loop().Post(func() { h.storedLate(f.answered(answer), f.hash) })
		}
	})
}

// storedLate continues with a message whose answer arrived late, unless its sender has
// repeated it: the history is then searched for it. Loop only.
func (h *Handler) storedLate(f Message, hash uint64) {
	sends := &h.opt.Client(f.from).sends
	if f.seq != 0 && !sends.isDoubtful(f.seq, hash) {
		return
	}
	h.metrics.storedLate.Inc()
	h.outboxOf(f.from).Again(f.from.Loop().Now())
	sends.stored(f.seq, f.data.MsgID) // a repeat from here on is acked, and not looked for
	h.storedBefore(f)
}

// notStored ends a message that db_proxy did not store, or perhaps did not. Any
// goroutine.
func (h *Handler) notStored(f attempt, rsp *pb.MsgData, err error) {
	rejected := err == nil && rsp != nil && rsp.Rejected || isRejected(err)
	if err == nil {
		err = errNoReason
	}
	o := h.opt.Client(f.from).sends.order
	if !rejected {
		o.fails(f.target)
	}
	f.from.Loop().Post(func() {
		if !rejected {
			o.heard(f.target)
		}
		h.notStoredHere(f, rejected, err)
	})
}

// notStoredHere is notStored on the loop.
func (h *Handler) notStoredHere(f attempt, rejected bool, err error) {
	if !rejected && h.hold(f, err) {
		return
	}
	h.giveUp(f, rejected, err)
}

// giveUp ends a message that was not stored, or may not have been. Loop only.
func (h *Handler) giveUp(f attempt, rejected bool, err error) {
	defer h.inFlight.Add(-1)
	defer h.outboxes.Landed(f.from, false)
	h.metrics.notStored.Inc()
	h.often.Warn(h.log, h.opt.Now(), "message not stored",
		"conn", f.from.ID(), "user", f.from.User, "seq", f.seq, "err", err)
	sends := &h.opt.Client(f.from).sends
	// The time in which the sender may repeat it begins with its last repeat.
	again := h.isAsked(&f)
	if f.doubt || doubtful(err) { // otherwise db_proxy refused it, or did not get it
		sends.doubt(f.seq)
		h.outboxOf(f.from).Doubted()
	} else {
		sends.forget(f.seq)
	}
	if rejected {
		sends.order.settled(f.target, f.seq, f.hash)
		f.refuse(pb.MsgRefusal_MSG_REFUSAL_REJECTED)
		return
	}
	if !sends.order.failed(f, f.from.Loop().Now()) {
		h.metrics.dropped.WithLabelValues("order_not_kept").Inc()
	}
	f.refuse(pb.MsgRefusal_MSG_REFUSAL_AGAIN)
	if again && !f.wants && !f.from.IsClosed() {
		// The repeat came while the message was in flight. A Windows client makes no other.
		_ = h.handle(f.from, f.seq, f.data, f.asked) // counts it when it is not taken
	}
}

// errNoReason is the error of a message that a db_proxy did not store and gave no reason
// for: it does not know link.Refusal. It may have failed after the commit.
var errNoReason = im.WithKind(im.Unavailable, "not stored",
	&link.Refusal{Reason: "db_proxy gave no reason", InDoubt: true})

// isRejected reports whether a db_proxy answered that a message can never be stored.
func isRejected(err error) bool {
	var r *link.Refusal
	return errors.As(err, &r) && im.KindOf(err) == im.Invalid
}

// doubtful reports whether a call that ended with err may have been carried out.
func doubtful(err error) bool {
	var r *link.Refusal
	if errors.As(err, &r) {
		return r.InDoubt
	}
	return err != nil && im.KindOf(err) != im.Busy && !errors.Is(err, link.ErrNotSent)
}
