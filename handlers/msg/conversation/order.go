package conversation

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A client pipelines messages. When one of them, A, cannot be stored, the messages behind
// it in the same conversation are not stored either until the sender repeats A or gives
// it up. Otherwise A, repeated, would get a higher id than B, which was written after it.
// A refused message gets no ack, like one that could not be stored: its sender repeats
// it, or reports a failure. Clients that set want_refusal are told at once.
//
// A sender has given A up when
//   - it repeats B, which was refused before, without having repeated A since. Clients
//     repeat in order: Windows repeats each message once, after about 6 s.
//   - the time of patience has passed since A was received last.
//   - its connection ends.
//
// A sender that has not repeated A for the time of patience since the failure of A was
// known, and never repeated any message, repeats nothing at all: it has given up A and the
// messages behind it.
//
// Two servers keep the rule. This one refuses messages that it receives after it knows
// that A failed. db_proxy refuses those that were in flight by then: it knows a message
// by connection, conversation and epoch, and the epoch ends here when the failure of A is
// known.

// The rule holds for clients that repeat: those that set want_refusal, and those of the
// type of the Windows client. Mac, iOS and Android clients report a failure to the user
// and repeat nothing. Their failed message is never stored later, so no message can
// overtake it, and a refusal of the user's next message would lose that one as well.

// stockPatience is how long a Windows client may take to repeat a message: it does so
// about 6 s after it has sent it. Web clients have the same type and do not repeat: their
// messages are refused for so long after a failure.
const stockPatience = 8 * time.Second

// Bounds for one connection. Beyond maxHolds conversations, order is not kept. Beyond
// maxUnsettled messages in one, a further one is refused as long as the first is not
// settled.
const (
	maxHolds     = 64
	maxUnsettled = 256
)

// sendOrder keeps the order of the messages of one connection. A connection has none
// until it sends its first message. Loop only, except for fails, heard and isFailing.
type sendOrder struct {
	conn uint32 // names the connection to db_proxies
	came uint32 // messages so far
	// repeats says that the sender has repeated a message.
	repeats bool
	holds   []*hold

	// failing are failures that were seen elsewhere and are not yet known on the loop.
	failing atomic.Int32
	mu      sync.Mutex
	targets []target // of failing
}

// hold is a conversation with messages that were not stored. The epoch of a conversation
// without one is that of the outbox.
type hold struct {
	target
	epoch     uint32
	unsettled []unsettled // in the order of their first
}

// unsettled is a message that was not stored, or was refused, and is not given up.
type unsettled struct {
	hash   uint64
	seq    uint16
	flying bool // repeated, and in flight
	// looking says that it is in flight and the history is searched for it. See
	// storeAgain.
	looking bool
	first   uint32        // its number when it was received first
	last    uint32        // its number when it was received last
	at      time.Time     // when it was received last
	since   time.Time     // when the server knew that it was not stored
	await   time.Duration // how long its sender may take to repeat it
}

var connNumbers atomic.Uint32

func newSendOrder() *sendOrder {
	n := connNumbers.Add(1)
	if n == 0 {
		n = connNumbers.Add(1) // 0 is none
	}
	return &sendOrder{conn: n}
}

// admit decides whether a message may be given to db_proxy now, and sets its epoch. No
// message waits for messages that are not repeated, and they wait for none.
func (o *sendOrder) admit(f *attempt) bool {
	if !f.repeats {
		return true
	}
	h := o.find(f.target)
	if h != nil && h.place(f) < 0 && h.giveUp(f.at, o.repeats) {
		f.epoch = h.epoch // db_proxy learns the new one
		o.drop(h)
		return true
	}
	if h == nil {
		if !o.isFailing(f.target) {
			return true
		}
		if h = o.open(f.target); h == nil {
			return true
		}
	}
	f.epoch = h.epoch
	return h.admit(f, o.isFailing(f.target))
}

// admit is sendOrder.admit for a conversation with messages that were not stored. more
// says that another one has failed that is not among them yet.
func (h *hold) admit(f *attempt, more bool) bool {
	i := h.place(f)
	blocked := more
	if i < 0 {
		waits := func(u unsettled) bool { return !u.flying }
		blocked = blocked || slices.ContainsFunc(h.unsettled, waits)
		if blocked {
			h.add(unsettledOf(f))
		}
		return !blocked
	}
	last := h.unsettled[i].last
	for _, u := range h.unsettled[:i] {
		blocked = blocked || !u.flying && int32(u.last-last) > 0
	}
	u := &h.unsettled[i]
	if f.came != u.first && f.asked.IsZero() {
		f.asked = f.at // it was refused before, and resends takes it for a new one
	}
	u.last, u.at, u.since, f.number = f.came, f.at, f.at, u.first
	if blocked {
		return false
	}
	u.flying = true
	first := u.first
	// Those before it that were not repeated are given up.
	h.unsettled = slices.DeleteFunc(h.unsettled, func(u unsettled) bool {
		return !u.flying && int32(u.first-first) < 0
	})
	return true
}

// comesAgain records that a message is held which was not stored before: its sender has repeated
// it. It is held before those that were sent after it. last remains for admit.
func (o *sendOrder) comesAgain(f *attempt) {
	h := o.find(f.target)
	if h == nil || !f.repeats {
		return
	}
	if i := h.place(f); i >= 0 {
		u := &h.unsettled[i]
		u.at, u.since, u.flying = f.at, f.at, true
		f.number, f.epoch, f.asked = u.first, h.epoch, f.at
	}
}

// place returns the place of a message among those that were not stored, -1 when it is a
// new one.
func (h *hold) place(f *attempt) int {
	return slices.IndexFunc(h.unsettled, func(u unsettled) bool { return u.is(f.seq, f.hash) })
}

// giveUp removes the messages that the sender has let wait for longer than it takes to
// repeat them. It reports whether all are given up. A repeat of any of them, however
// late, shows that the sender has not given them up. repeats says that it has repeated a
// message before.
func (h *hold) giveUp(now time.Time, repeats bool) (all bool) {
	first := &h.unsettled[0]
	repeats = repeats || first.last != first.first
	if !first.flying && !repeats && now.Sub(first.since) > first.await {
		return true
	}
	h.unsettled = slices.DeleteFunc(h.unsettled, func(u unsettled) bool {
		return !u.flying && now.Sub(u.at) > u.await
	})
	return len(h.unsettled) == 0
}

func unsettledOf(f *attempt) unsettled {
	return unsettled{hash: f.hash, seq: f.seq, first: f.came, last: f.came, at: f.At(), since: f.at,
		await: f.await}
}

func (u *unsettled) is(seq uint16, hash uint64) bool { return u.seq == seq && u.hash == hash }

// add inserts a message at its place.
func (h *hold) add(u unsettled) {
	if len(h.unsettled) >= maxUnsettled {
		return
	}
	i, _ := slices.BinarySearchFunc(h.unsettled, u,
		func(a, b unsettled) int { return int(int32(a.first - b.first)) })
	h.unsettled = slices.Insert(h.unsettled, i, u)
}

// settled records that a message is stored, or can never be stored.
func (o *sendOrder) settled(to target, seq uint16, hash uint64) {
	h := o.find(to)
	if h == nil {
		return
	}
	h.unsettled = slices.DeleteFunc(h.unsettled, func(u unsettled) bool { return u.is(seq, hash) })
	if len(h.unsettled) == 0 {
		o.drop(h)
	}
}

// failed records that a message was not stored and may be repeated. A new epoch of its
// conversation begins: the messages from now on are sent in knowledge of that. It returns
// false when the order cannot be kept because too many conversations have failures.
func (o *sendOrder) failed(f attempt, now time.Time) (kept bool) {
	if !f.repeats {
		return true
	}
	h := o.find(f.target)
	if h == nil {
		if h = o.open(f.target); h == nil {
			return false
		}
	}
	if int32(f.epoch-h.epoch) >= 0 {
		h.epoch = f.epoch + 1
	}
	for i := range h.unsettled {
		if u := &h.unsettled[i]; u.is(f.seq, f.hash) {
			u.flying, u.last, u.at, u.since = false, f.came, f.At(), now
			return true
		}
	}
	u := unsettledOf(&f)
	u.since = now
	h.add(u)
	return true
}

// mayHold reports whether a message that was not stored may be stored later by itself. If
// others of its conversation have failed, their sender has to repeat them, and then it must
// have repeated this one, too, and each one before it.
func (o *sendOrder) mayHold(f *attempt) bool {
	h := o.find(f.target)
	if h == nil {
		return true
	}
	i := h.place(f)
	return i >= 0 && h.unsettled[i].last != h.unsettled[i].first &&
		!slices.ContainsFunc(h.unsettled[:i], func(u unsettled) bool { return !u.flying })
}

// next sets the epoch of the next attempt to store a message that is held, if others of its
// conversation have failed. An epoch begins, as in failed.
func (o *sendOrder) next(f *attempt) {
	h := o.find(f.target)
	if h == nil || !f.repeats {
		return
	}
	if int32(f.epoch-h.epoch) >= 0 {
		h.epoch = f.epoch + 1
	}
	f.epoch = h.epoch
}

func (o *sendOrder) find(to target) *hold {
	for _, h := range o.holds {
		if h.target == to {
			return h
		}
	}
	return nil
}

// open returns a new hold, nil when there are too many.
func (o *sendOrder) open(to target) *hold {
	if len(o.holds) >= maxHolds {
		return nil
	}
	h := &hold{target: to}
	o.holds = append(o.holds, h)
	return h
}

func (o *sendOrder) drop(h *hold) {
	o.holds = slices.DeleteFunc(o.holds, func(other *hold) bool { return other == h })
	if len(o.holds) == 0 {
		o.holds = nil
	}
}

// fails records a failure at once, so that the loop sends no message behind it before
// failed is called there. Any goroutine. heard, called on the loop, takes it back.
func (o *sendOrder) fails(to target) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.targets = append(o.targets, to)
	o.failing.Store(int32(len(o.targets)))
}

func (o *sendOrder) heard(to target) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i := slices.Index(o.targets, to); i >= 0 {
		o.targets = slices.Delete(o.targets, i, i+1)
	}
	if len(o.targets) == 0 {
		o.targets = nil
	}
	o.failing.Store(int32(len(o.targets)))
}

func (o *sendOrder) isFailing(to target) bool {
	if o.failing.Load() == 0 {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.targets, to)
}

// looks records that the history is searched for a message before it is stored. The
// history is searched for the messages behind it as well, so that they cannot overtake
// it.
func (o *sendOrder) looks(f *attempt) {
	h := o.find(f.target)
	if h == nil || !f.repeats {
		return
	}
	for i := range h.unsettled {
		if u := &h.unsettled[i]; u.is(f.seq, f.hash) {
			u.looking = true
			return
		}
	}
	u := unsettledOf(f)
	u.flying, u.looking = true, true
	h.add(u)
}

// looking reports whether the history is searched for a message of the conversation.
func (o *sendOrder) looking(to target) bool {
	h := o.find(to)
	return h != nil && slices.ContainsFunc(h.unsettled, func(u unsettled) bool { return u.looking })
}

// found records that the search for a message is over. It reports whether the message may
// be stored now: a message before it may still be searched for, or have failed.
func (o *sendOrder) found(f attempt) bool {
	h := o.find(f.target)
	if h == nil {
		return true
	}
	for i := range h.unsettled {
		u := &h.unsettled[i]
		if u.is(f.seq, f.hash) {
			u.looking = false
			return true
		}
		if u.looking || !u.flying {
			return false
		}
	}
	return true
}
