package route

import (
	"slices"
	"sync"

	"teamtalk/proto/pb"
)

// stripe is the lock of a part of the users, and what has to be remembered of them beyond their whereabouts.
type stripe struct {
	mu sync.Mutex // held while a user changes and the notifies are pushed
	// lost are users whose pc was announced as gone because their message server was lost.
	lost map[uint32]struct{}
	// claims are logins under way, by user, in order: see claim.
	claims map[uint32][]claim
	_      [32]byte // a stripe to a cache line
}

// claim is a login between its two messages: IMServerKickUser, which ends the user's other clients of the class, and
// IMUserStatusUpdate, which makes it known. Two logins at once on two message servers would otherwise not see each other, as the kick of
// each comes before the other is known, and both would stay. So the later kick is kept for the earlier login, and given to its
// server when it becomes known. The later login stays.
type claim struct {
	node   Node
	client pb.ClientType
	beaten *pb.IMServerKickUser // the later kick, nil while there is none
}

// maxClaims bounds the logins under way in one stripe; they last for milliseconds. Beyond it all are forgotten, which matters
// only to those that meet at that moment.
const maxClaims = 4096

func (st *stripe) init() {
	st.lost = map[uint32]struct{}{}
	st.claims = map[uint32][]claim{}
}

func (r *Server) stripe(user uint32) *stripe { return &r.stripes[user%uint32(len(r.stripes))] }

// claim notes the login that sent kick from n. With st.mu held.
func (st *stripe) claim(n Node, kick *pb.IMServerKickUser) {
	user := kick.GetUserId()
	claims := slices.DeleteFunc(st.claims[user], func(c claim) bool { return c.node == n && c.client.SameClass(kick.GetClientType()) })
	for i := range claims {
		if claims[i].client.SameClass(kick.GetClientType()) {
			claims[i].beaten = kick
		}
	}
	if len(st.claims) >= maxClaims {
		clear(st.claims)
		claims = nil
	}
	st.claims[user] = append(claims, claim{node: n, client: kick.GetClientType()})
}

// arrive ends user's logins under way at n, now that client is known. It returns the kicks of later logins that client must hear.
// With st.mu held.
func (st *stripe) arrive(n Node, user uint32, client pb.ClientType) []*pb.IMServerKickUser {
	claims, ok := st.claims[user]
	if !ok {
		return nil
	}
	var kicks []*pb.IMServerKickUser
	claims = slices.DeleteFunc(claims, func(c claim) bool {
		if c.node == n && c.beaten != nil && c.client.SameClass(client) {
			kicks = append(kicks, c.beaten)
		}
		return c.node == n
	})
	st.keep(user, claims)
	return kicks
}

// forget ends all logins under way at n.
func (st *stripe) forget(n Node) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for user, claims := range st.claims {
		st.keep(user, slices.DeleteFunc(claims, func(c claim) bool { return c.node == n }))
	}
}

func (st *stripe) keep(user uint32, claims []claim) {
	if len(claims) == 0 {
		delete(st.claims, user)
		return
	}
	st.claims[user] = claims
}
