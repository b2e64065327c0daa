package admission

import (
	"container/heap"
	"net/netip"
	"slices"
	"time"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

const (
	// maxHeld is how many logins wait on one loop, maxHeldFrom how many of them from one
	// address. With more, the login whose wait ends first, of all or of that address,
	// does not wait any longer.
	maxHeld     = 16384
	maxHeldFrom = maxHeld / 2
	// maxResumed is how many logins a loop resumes in a tick once the servers that they
	// need are connected again, see also pace.
	maxResumed = 512
	// probePause is the pause between the logins with which a loop probes whether db_proxy
	// can check logins again.
	probePause = 300 * time.Millisecond
)

// heldLogin is a login that has to wait. Loop only.
type heldLogin struct {
	due  time.Time
	then func(cut bool) // called at due, or earlier with cut, to make room
	// again is called instead, as soon as no server is missing and db_proxy checks logins;
	// nil: never.
	again func()

	s     *session.Client
	addr  netip.Addr
	place int // in heldLogins.byDue
}

// heldLogins is the logins that wait on a loop. The client of such a login is connected
// and not logged in: it is served as before its login, and its texts are kept. Loop only.
type heldLogins struct {
	byDue   heldHeap
	of      map[*session.Client]*heldLogin
	from    map[netip.Addr]int
	resumes int       // those with again
	probed  time.Time // when one of them was the last probe
}

type heldHeap []*heldLogin

func (q heldHeap) Len() int           { return len(q) }
func (q heldHeap) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q heldHeap) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push is for container/heap.
func (q *heldHeap) Push(x any) {
	w := x.(*heldLogin)
	w.place = len(*q)
	*q = append(*q, w)
}

// Pop is for container/heap.
func (q *heldHeap) Pop() any {
	last := len(*q) - 1
	w := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return w
}

// hold makes the login of s wait. The login deadline does not close the connection
// meanwhile. Loop only.
func (h *Handler) hold(s *session.Client, w *heldLogin) {
	q := &h.opt.Loop(s.Loop()).held
	w.s, w.addr = s, clientAddr(s)
	if q.from[w.addr] >= maxHeldFrom {
		h.cut(q, q.firstFrom(w.addr), "address")
	}
	if len(q.byDue) >= maxHeld {
		h.cut(q, q.byDue[0], "full")
	}
	if q.of == nil {
		q.of, q.from = map[*session.Client]*heldLogin{}, map[netip.Addr]int{}
	}
	s.SetDeadline(0)
	heap.Push(&q.byDue, w)
	q.of[s] = w
	q.from[w.addr]++
	if w.again != nil {
		q.resumes++
	}
	h.metrics.loginsWaiting.Inc()
}

// cut ends a wait early.
func (h *Handler) cut(q *heldLogins, w *heldLogin, reason string) {
	h.metrics.loginsCut.WithLabelValues(reason).Inc()
	h.endWait(q, w, func() { w.then(true) })
}

// endWait removes a login that waits and continues with it, unless its session is being
// closed.
func (h *Handler) endWait(q *heldLogins, w *heldLogin, then func()) {
	h.unhold(q, w)
	if !w.s.IsClosed() {
		then()
	}
}

// firstFrom returns the login from addr whose wait ends first. At least one must wait.
func (q *heldLogins) firstFrom(addr netip.Addr) *heldLogin {
	var first *heldLogin
	for _, w := range q.byDue {
		if w.addr == addr && (first == nil || w.due.Before(first.due)) {
			first = w
		}
	}
	return first
}

// unhold removes a login that waits.
func (h *Handler) unhold(q *heldLogins, w *heldLogin) {
	heap.Remove(&q.byDue, w.place)
	delete(q.of, w.s)
	if q.from[w.addr]--; q.from[w.addr] == 0 {
		delete(q.from, w.addr)
	}
	if w.again != nil {
		q.resumes--
	}
	if len(q.byDue) == 0 {
		*q = heldLogins{probed: q.probed} // release what a storm has grown
	}
	h.metrics.loginsWaiting.Dec()
}

// forgetHeld removes the login of s, whose connection has ended, if it waits. Loop only.
func (h *Handler) forgetHeld(s *session.Client) {
	q := &h.opt.Loop(s.Loop()).held
	if w, ok := q.of[s]; ok {
		h.unhold(q, w)
	}
}

// Due returns when Tick has something to do, see session.LoopHandler. Loop only.
func (h *Handler) Due(l *session.Loop) int64 {
	q := &h.opt.Loop(l).held
	if q.resumes > 0 {
		return 0
	}
	at := int64(session.Never)
	if len(q.byDue) > 0 {
		at = l.At(q.byDue[0].due)
	}
	if l.Sessions() > 0 { // changes of users concern those that are connected
		at = min(at, h.credentials.dueOn(l))
	}
	return at
}

// Tick continues with the logins that have waited long enough, and with those whose
// servers are connected again. It asks for changed users when that is due. Loop only.
func (h *Handler) Tick(l *session.Loop, now time.Time) {
	h.credentials.ask(h, now)
	q := &h.opt.Loop(l).held
	for len(q.byDue) > 0 && !now.Before(q.byDue[0].due) {
		w := q.byDue[0]
		h.endWait(q, w, func() { w.then(false) })
	}
	if q.resumes == 0 || h.missing() != pb.ResultType_REFUSE_REASON_NONE {
		return
	}
	probe := now.Sub(q.probed) >= probePause
	most := h.pace.take(q.resumes, probe)
	if most == 0 {
		return
	}
	if probe {
		q.probed = now
	}
	for _, w := range q.longest(most) {
		h.endWait(q, w, w.again)
	}
}

// longest returns up to n logins with again, those whose wait ends first; n is at least 1. It
// does not sort all that wait: that would take milliseconds of the loop in each tick of a storm.
func (q *heldLogins) longest(n int) []*heldLogin {
	list := make([]*heldLogin, 0, n+1) // in the order of their ends
	for _, w := range q.byDue {
		if w.again == nil || len(list) == n && !w.due.Before(list[n-1].due) {
			continue
		}
		i, _ := slices.BinarySearchFunc(list, w,
			func(a, b *heldLogin) int { return a.due.Compare(b.due) })
		list = slices.Insert(list, i, w)
		list = list[:min(n, len(list))]
	}
	return list
}
