package admission

import (
	"sync"
	"time"

	"teamtalk/core/rate"
	"teamtalk/core/recent"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

const (
	// returnRate is how many logins a second a user has in one class of devices, returnBurst
	// how many at once.
	returnRate  = 2.0
	returnBurst = 30.0
	// returnPause is the time after which a login beyond it is looked at again.
	returnPause = time.Second / 2
	// returnFull is the time in which a user without logins has its whole burst again.
	returnFull = time.Duration(returnBurst / returnRate * float64(time.Second))
	// maxReturns is how many users are remembered at least, and up to twice as many. The ones
	// that logged in longest ago are forgotten: they have their burst again.
	maxReturns = 16384
)

// returns bounds how often users log in. Each connection may send some messages and requests
// at once, before its rates apply. Without this, a client that logs in, sends all that, logs
// out, and begins again has a hundred times these rates. The policy Unlimited has no such bound:
// a user may have any number of connections there, and all come back after a restart.
type returns struct {
	mu    sync.Mutex
	users recent.Map[fighter, rate.Bucket]
}

func newReturns() *returns {
	return &returns{users: recent.Map[fighter, rate.Bucket]{Age: returnFull, Max: maxReturns}}
}

// take counts a login, and returns false when it has to wait. Any goroutine.
func (r *returns) take(user uint32, class uint8, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := fighter{user, class}
	b, _ := r.users.Get(key)
	ok := b.Take(now, returnRate, returnBurst)
	r.users.Put(key, b, now)
	return ok
}

// admitAtRate continues with a login whose password is right, as soon as its user has not logged
// in too often. A login that waited long is checked again. Loop only.
func (h *Handler) admitAtRate(s *session.Client, seq uint16, m *pb.IMLoginReq,
	v *pb.IMValidateRsp) {
	c := h.opt.Client(s)
	if h.stale(s) {
		h.checkLogin(s, seq, m)
		return
	}
	user, class := v.GetUserInfo().GetUserId(), h.fightClass(m.GetClientType())
	if h.opt.Policy != Unlimited && !c.counted &&
		!h.returns.take(user, class, s.Loop().Now()) {
		if !c.slowed {
			c.slowed = true
			h.metrics.loginsHeld.WithLabelValues("rate").Inc()
		}
		h.hold(s, &heldLogin{due: s.Loop().Now().Add(returnPause), then: func(cut bool) {
			c.counted = cut // its place is needed, so it does not wait any longer
			h.admitAtRate(s, seq, m, v)
		}})
		return
	}
	c.counted = true
	h.admitByPolicy(s, seq, m, v)
}
