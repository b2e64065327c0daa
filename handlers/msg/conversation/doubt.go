package conversation

import (
	"bytes"
	"errors"
	"slices"
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

// maxLooks is how many conversations of one connection are searched at a time.
const maxLooks = 4

// storeAgain stores a message in doubt, unless the history has it. In that case it
// continues with the message of the history, which was not delivered. Loop only.
func (h *Handler) storeAgain(f attempt) { h.lookFor([]attempt{f}, func() {}) }

// storeHeld is storeAgain for messages of one connection that were held, in the order in
// which they were sent. Those of one conversation share the search. Loop only.
func (h *Handler) storeHeld(list []attempt) {
	var groups [][]attempt
	for _, f := range list {
		h.mayBeStored(&f)
		i := slices.IndexFunc(groups, func(g []attempt) bool { return g[0].target == f.target })
		if i < 0 {
			i, groups = len(groups), append(groups, nil)
		}
		groups[i] = append(groups[i], f)
	}
	var next func()
	next = func() {
		if len(groups) > 0 {
			first := groups[0]
			groups = groups[1:]
			h.lookFor(first, next)
		}
	}
	for range maxLooks {
		next()
	}
}

// search is a search of the history for messages in doubt of one connection to one
// conversation. Loop only.
type search struct {
	h     *Handler
	list  []attempt // in the order in which they were sent; with their id when found
	pages int       // that may be read
	over  func()    // called when no page is read any more
}

// lookFor searches the history for the messages of list, and stores those that it does not
// have.
func (h *Handler) lookFor(list []attempt, over func()) {
	for i := range list {
		list[i].data.MsgID = 0
		h.opt.Client(list[i].from).sends.order.looks(&list[i])
	}
	s := &search{h: h, list: list, pages: maxPages, over: over}
	s.read(0)
}

// read reads the page of the messages with ids up to begin, or the newest ones if begin is 0.
func (s *search) read(begin uint32) {
	f, req := s.list[0], &pb.IMGetMsgListReq{}
	req.SetUserId(f.data.FromUserID)
	req.SetSessionType(sessionType(f.group))
	req.SetSessionId(f.data.ToSessionID)
	req.SetMsgIdBegin(begin)
	req.SetMsgCnt(lookBack)
	if slices.ContainsFunc(s.list, attempt.isRecognisable) {
		req.SetAskRepeats(true)
	}
	s.pages--
	s.h.store.Call(f.from.Loop(), OrderKey(f.data), 0, req, func(rsp pb.Message, err error) {
		answer, ok := rsp.(*pb.IMGetMsgListRsp)
		if err != nil || !ok {
			s.fail()
			return
		}
		list, recognises := answer.GetMsgList(), answer.GetRecognisesRepeats()
		s.match(list)
		if n := len(list); n > 0 && s.pages > 0 && s.needs(list[n-1], recognises) {
			s.read(list[n-1].GetMsgId() - 1)
			return
		}
		s.end(recognises)
	})
}

// isRecognisable reports whether a db_proxy that recognises repeats tells whether the message
// is stored already.
func (f attempt) isRecognisable() bool {
	return (f.doubt || !f.asked.IsZero()) && (f.data.SentAs != 0 || len(f.data.ClientMsgID) > 0)
}

// match looks for the messages in a page of the history. Equal texts of one second have ids in
// the order in which they were sent, and are told apart from others by the ids of those.
func (s *search) match(list []*pb.MsgInfo) {
	sends := &s.h.opt.Client(s.list[0].from).sends
	for i, old := range slices.Backward(list) {
		for _, f := range s.list {
			m := f.data
			if m.MsgID == 0 && isStored(m, old) && !sends.stands(m, old.GetMsgId()) {
				m.MsgID, m.PrevID = old.GetMsgId(), turns.BeforeFound(list[i+1:], s.h.opt.Now())
				break
			}
		}
	}
}

// needs reports whether a message may be in the history before last. One that db_proxy
// recognises is not searched any further.
func (s *search) needs(last *pb.MsgInfo, recognises bool) bool {
	return last.GetMsgId() > 1 && slices.ContainsFunc(s.list, func(f attempt) bool {
		return f.data.MsgID == 0 && !(recognises && f.isRecognisable()) &&
			last.GetCreateTime()+clockSkew >= f.data.CreateTime
	})
}

// fail ends a search without an answer.
func (s *search) fail() {
	defer s.over()
	for _, f := range s.list {
		f.data.MsgID, f.data.PrevID = 0, 0
		s.h.opt.Client(f.from).sends.order.found(f)
		s.h.notStoredHere(f, false, errLookedFor)
	}
}

// end continues with the messages that were found, and stores the others. All are sent before
// the first answer: db_proxy stores none behind one that fails.
func (s *search) end(recognises bool) {
	defer s.over()
	h := s.h
	for _, f := range s.list {
		order := h.opt.Client(f.from).sends.order
		switch {
		case f.data.MsgID != 0:
			h.metrics.resends.Inc()
			h.storedBefore(f.Message)
			h.inFlight.Add(-1)
		case f.doubt && !recognises || f.isGivenUp():
			h.giveUp(f, false, errLookedFor) // it may be committed later, and stored twice
		case !order.found(f) || h.outboxOf(f.from).HoldsBefore(f):
			h.notStoredHere(f, false, errLookedFor)
		default:
			f.doubt = f.doubt || recognises && f.isRecognisable()
			h.send(f)
		}
	}
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
	h.failures.Warn(h.log, h.opt.Now(), "message not stored", err,
		"conn", f.from.ID(), "user", f.from.User, "seq", f.seq)
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
