package admission

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"teamtalk/core/rate"
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
	// maxReturns is how many users are remembered. The one that logged in longest ago is
	// forgotten: it has its burst again.
	maxReturns = 16384
)

// returns bounds how often users log in. Each connection may send some messages and requests
// at once, before its rates apply. Without this, a client that logs in, sends all that, logs
// out, and begins again has a hundred times these rates. The policy Unlimited has no such bound:
// a user may have any number of connections there, and all come back after a restart.
type returns struct {
	mu    sync.Mutex
	users *simplelru.LRU[fighter, *rate.Bucket]
}

func newReturns() *returns {
	// The only error is a size that is not positive.
	users, _ := simplelru.NewLRU[fighter, *rate.Bucket](maxReturns, nil)
	return &returns{users: users}
}

// take counts a login, and returns false when it has to wait. Any goroutine.
func (r *returns) take(user uint32, class uint8, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := fighter{user, class}
	b, ok := r.users.Get(key)
	if !ok {
		b = &rate.Bucket{}
		r.users.Add(key, b)
	}
	return b.Take(now, returnRate, returnBurst)
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
