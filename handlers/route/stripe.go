package route

import (
	"slices"
	"sync"

	"teamtalk/proto/pb"
)

// stripe is the lock of a part of the users, with the state of these users that
// Whereabouts does not hold.
type stripe struct {
	mu sync.Mutex // held while a user changes and the notifies are pushed
	// lost holds the users that were announced as offline because the link of their
	// message server ended.
	lost map[uint32]struct{}
	// claims holds the logins in progress of each user, in order: see claim.
	claims map[uint32][]claim
	// told are the users of the latest notifies, oldest first: see told.
	told []told
	_    [32]byte // pads a stripe to a cache line
}

// claim is a login in progress: its IMServerKickUser, which disconnects the user's other
// clients of the same device class, has arrived, and its IMUserStatusUpdate, which
// reports the client as connected, has not.
//
// Two logins at the same time on two message servers would otherwise both stay: the kick
// of each arrives before the other client is known. So the later kick is kept in the
// claim of the earlier login, and sent to that login's server when the client becomes
// known. The later login stays.
type claim struct {
	node   Node
	client pb.ClientType
	beaten *pb.IMServerKickUser // kick of the later login; nil when there is none
}

// maxClaims bounds the logins in progress in one stripe. A login lasts milliseconds.
// Above the bound all claims of the stripe are dropped: two logins of one user that
// overlap at that moment may then both stay.
const maxClaims = 4096

func (st *stripe) init() {
	st.lost = map[uint32]struct{}{}
	st.claims = map[uint32][]claim{}
}

func (r *Server) stripe(user uint32) *stripe { return &r.stripes[user%uint32(len(r.stripes))] }

// claim records the login on n that sent kick. The caller holds st.mu.
func (st *stripe) claim(n Node, kick *pb.IMServerKickUser) {
	user := kick.GetUserId()
	claims := slices.DeleteFunc(st.claims[user],
		func(c claim) bool { return c.node == n && c.client.SameClass(kick.GetClientType()) })
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

// arrive removes the claims of user's logins on n, now that client is known. It returns
// the kicks of later logins that client must receive. The caller holds st.mu.
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

// forget removes all claims of n.
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
