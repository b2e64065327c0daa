package passing

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/rate"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A change of a sign info or an avatar is told to every client of every message server, so
// its cost grows with the company. A person makes one at a time.
const (
	profileRate  = 1.0 / 30 // changes of one user, a second
	profileBurst = 10.0     // at once
	// maxProfiles is how many users have a bucket. The one that changed something least
	// recently loses it.
	maxProfiles = 16384
)

// profileRates limits the changes of each user, on all of its connections to this message
// server, also those made one after the other. Any goroutine.
type profileRates struct {
	mu    sync.Mutex
	users *simplelru.LRU[uint32, *rate.Bucket]
}

// take reports whether a user may change its profile now.
func (p *profileRates) take(user uint32, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users == nil {
		// An error means that the size is not positive.
		p.users, _ = simplelru.NewLRU[uint32, *rate.Bucket](maxProfiles, nil)
	}
	b, ok := p.users.Get(user)
	if !ok {
		b = &rate.Bucket{}
		p.users.Add(user, b)
	}
	return b.Take(now, profileRate, profileBurst)
}

// tooOften answers a change that is not made with a refusal.
func (h *Handler) tooOften(s *session.Client, seq uint16, refusal pb.Message) error {
	h.opt.QueriesFailed.WithLabelValues("rate").Inc()
	_ = s.Send(seq, refusal)
	return im.Errorf(im.Denied, "user %d changes its profile too often", s.User)
}

func signInfoRefused(user uint32) *pb.IMChangeSignInfoRsp {
	return pb.IMChangeSignInfoRsp_builder{UserId: proto.Uint32(user),
		ResultCode: proto.Uint32(1)}.Build()
}

func avatarRefused(user uint32) *pb.IMChangeAvatarRsp {
	return pb.IMChangeAvatarRsp_builder{UserId: proto.Uint32(user),
		ResultCode: proto.Uint32(1)}.Build()
}
