package msg

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A kicked client gets IMKickUser. Its connection is closed when the client closes it, at the
// latest two seconds later: the official Windows client reads the end of the connection in
// another thread than the notice, and logs in again when it sees the end first. In between the
// connection is neither served nor delivered to, and is no longer online.

// kick ends the session of a client, from anywhere. The user is offline on it, here and for the
// other servers, when kick returns. With presence.mu held.
func (h *Server) kick(s *session.Session, reason pb.KickReasonType) {
	if h.expel(s, reason) {
		h.tellLeft(s)
	}
}

// expel does what kick does, but for telling the other servers. It reports whether the session
// was online. With presence.mu held.
func (h *Server) expel(s *session.Session, reason pb.KickReasonType) bool {
	if _, there := h.online.Remove(s); !there {
		return false // it was kicked before, or is gone
	}
	h.metrics.kicks.WithLabelValues(reason.String()).Inc()
	h.fights.kicked(s.User, h.fightClass(s.Client), clientAddr(s), h.opt.Now())
	m := &pb.IMKickUser{}
	m.SetUserId(s.User)
	m.SetKickReason(reason)
	s.Loop().Post(func() {
		if s.IsClosed() {
			return // Close does the rest
		}
		h.retire(s)
		clientOf(s).login = kicked
		_ = s.Send(0, m)
		s.Linger(im.Errorf(im.Denied, "kicked: %s", reason))
	})
	return true
}

// tellLeft tells the other servers that the session of a user is no longer online. With
// presence.mu held.
func (h *Server) tellLeft(s *session.Session) {
	if heard := h.presence.update(s, offline); !heard && !s.Client.IsMobile() && !h.hasPC(s.User) {
		h.presence.missed[s.User] = s.Client
	}
	if clientOf(s).unacked.answers.Load() {
		h.tellAcks(s) // those of its kind that stay may not acknowledge
	}
}

// retire drops what the loop keeps for a client that is logged in. Loop only.
func (h *Server) retire(s *session.Session) {
	c, st := clientOf(s), stateOf(s.Loop())
	h.endWaits(s)
	h.metrics.unansweredLost(int(c.unacked.n))
	st.unwatch(c)
	h.flushReads(s)
	h.forgetContacts(s)
	st.part(s)
}

// clientAddr is the address by which logins are slowed. The addresses of an IPv6 network of 64
// bits count as one: each host has all of them.
func clientAddr(s *session.Session) netip.Addr {
	addr := s.RemoteAddr().Addr()
	if addr.Is6() {
		if network, err := addr.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return addr
}

const (
	// fightGap is the least time between a kick and the next login of the kicked client.
	fightGap = 5 * time.Second
	// fightMemory is how long a kicked client is remembered.
	fightMemory = time.Minute
	// maxFights is how many users with kicks are remembered, fightSides how many addresses
	// with kicked clients of each. The one that was kicked longest ago is forgotten: its next
	// login is not slowed.
	maxFights  = 16384
	fightSides = 4
)

// fights slows clients that log in again as soon as they are kicked: two web pages of one user
// otherwise kick each other many times a second, as they ignore IMKickUser and connect again at
// once. A login from the address of a client that was kicked waits until fightGap after the
// last kick of that user and class, so a fight has one login in fightGap, however many clients
// take part. A user that moves to another machine is not slowed: no client of that machine was
// kicked. Each message server knows the kicks of its own clients, which come back to it.
type fights struct {
	mu    sync.Mutex
	users *simplelru.LRU[fighter, *fight]
}

// fighter is the devices of a user that replace each other.
type fighter struct {
	user  uint32
	class uint8
}

type fight struct {
	last  time.Time // of the kicks, and of the logins that waited for their turn
	sides [fightSides]fightSide
}

type fightSide struct {
	addr netip.Addr
	at   time.Time // of its last kick; zero: unused
}

func newFights() *fights {
	// The only error is a size that is not positive.
	users, _ := simplelru.NewLRU[fighter, *fight](maxFights, nil)
	return &fights{users: users}
}

// fightClass numbers the classes of devices that replace each other under the server's policy.
func (h *Server) fightClass(client pb.ClientType) uint8 {
	if h.opt.Policy != OneClient && client.IsMobile() {
		return 1
	}
	return 0
}

// kicked notes that a client of user was kicked.
func (f *fights) kicked(user uint32, class uint8, addr netip.Addr, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := fighter{user, class}
	ft, ok := f.users.Get(key)
	if !ok {
		ft = &fight{}
		f.users.Add(key, ft)
	}
	ft.last = now
	oldest := &ft.sides[0]
	for i := range ft.sides {
		side := &ft.sides[i]
		if side.addr == addr && !side.at.IsZero() {
			oldest = side
			break
		}
		if side.at.Before(oldest.at) {
			oldest = side
		}
	}
	*oldest = fightSide{addr, now}
}

// wait returns how long a login of user has to wait, and takes the turn when it is 0.
func (f *fights) wait(user uint32, class uint8, addr netip.Addr, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	ft, ok := f.users.Peek(fighter{user, class})
	if !ok || !ft.takesPart(addr, now) {
		return 0
	}
	if left := fightGap - now.Sub(ft.last); left > 0 {
		return left
	}
	ft.last = now // others that wait have to wait for this one
	return 0
}

func (ft *fight) takesPart(addr netip.Addr, now time.Time) bool {
	for _, side := range ft.sides {
		if side.addr == addr && !side.at.IsZero() && now.Sub(side.at) < fightMemory {
			return true
		}
	}
	return false
}

// admitInTurn admits a login whose password is right, once it is its turn. Loop only.
func (h *Server) admitInTurn(
	s *session.Session, seq uint16, m *pb.IMLoginReq, v *pb.IMValidateRsp,
) {
	class := h.fightClass(m.GetClientType())
	wait := h.fights.wait(v.GetUserInfo().GetUserId(), class, clientAddr(s), s.Loop().Now())
	if wait == 0 {
		h.admit(s, seq, m, v)
		return
	}
	h.metrics.loginsHeld.WithLabelValues("kicked").Inc()
	h.hold(s, &heldLogin{due: s.Loop().Now().Add(wait), then: func(cut bool) {
		if cut {
			h.admit(s, seq, m, v)
			return
		}
		h.admitInTurn(s, seq, m, v) // another login may have come first
	}})
}
