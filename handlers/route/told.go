package route

import (
	"slices"
	"time"

	"teamtalk/proto/pb"
)

// A message server whose link was broken for a while has missed the notifies of that time, and its
// clients would see old statuses for good. So the users of the latest notifies are kept. When a
// message server is connected again and says for how long it was not, it is told their present
// statuses.

const (
	// toldKept is how long a user is kept: a longer absence is rare, and its clients have
	// logged in again as a rule.
	toldKept = 10 * time.Minute
	// maxTold bounds the users kept in one stripe. Above it, the oldest are forgotten.
	maxTold = 1 << 11
)

// told is a user whose status the message servers were told.
type told struct {
	user uint32
	at   time.Time
}

// note keeps the users of notifies that are sent, and returns how many others were forgotten too
// early. The caller holds st.mu.
func (st *stripe) note(n notes, now time.Time) (forgotten int) {
	for _, m := range n {
		if stat, ok := m.(*pb.IMUserStatNotify); ok {
			st.told = append(st.told, told{stat.GetUserStat().GetUserId(), now})
		}
	}
	old := 0
	for old < len(st.told) && now.Sub(st.told[old].at) > toldKept {
		old++
	}
	forgotten = max(len(st.told)-old-maxTold, 0)
	st.told = slices.Delete(st.told, 0, old+forgotten)
	return forgotten
}

// tellStatuses tells sv the present statuses of the users that the message servers were told of
// at a time or later.
func (r *Server) tellStatuses(sv *server, since time.Time) {
	if sv.slave.Load() {
		return
	}
	for i := range r.stripes {
		st := &r.stripes[i]
		st.mu.Lock() // until the notifies are pushed, so that later ones follow them
		users := map[uint32]struct{}{}
		var n notes
		for _, t := range st.told {
			if _, again := users[t.user]; again || t.at.Before(since) {
				continue
			}
			users[t.user] = struct{}{}
			online := r.where.Online(t.user, Filter{PC: true})
			if sv.users[t.user] > 0 { // it may have phones of the user
				n.pc(t.user, online)
			}
			if online {
				n.status(t.user, pb.UserStatType_USER_STATUS_ONLINE)
			} else {
				n.status(t.user, pb.UserStatType_USER_STATUS_OFFLINE)
			}
		}
		if len(n) > 0 {
			r.metrics.notifies.Add(float64(len(n)))
			r.send([]*server{sv}, 0, n...)
		}
		st.mu.Unlock()
	}
}
