package admission

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"teamtalk/proto/pb"
)

const (
	// fightGap is the least time between a kick and the next login of the kicked client.
	fightGap = 5 * time.Second
	// fightMemory is how long a kicked client is remembered.
	fightMemory = time.Minute
	// maxFights is how many users with kicks are remembered, fightSides how many
	// addresses with kicked clients of each. The one that was kicked longest ago is
	// forgotten: its next login is not slowed.
	maxFights  = 16384
	fightSides = 4
)

// fights slows clients that log in again as soon as they are kicked: two web pages of one
// user otherwise kick each other many times a second, as they ignore IMKickUser and
// connect again at once. A login from the address of a client that was kicked waits until
// fightGap after the last kick of that user and class, so a fight has one login in
// fightGap, however many clients take part. A user that moves to another machine is not
// slowed: no client of that machine was kicked. Each message server knows the kicks of
// its own clients, which come back to it. Clients that ask for what is too long to be sent,
// and are disconnected, are slowed in the same way.
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
	at   time.Time // of its last kick, or of its last look at its turn; zero: unused
}

func newFights() *fights {
	// The only error is a size that is not positive.
	users, _ := simplelru.NewLRU[fighter, *fight](maxFights, nil)
	return &fights{users: users}
}

// fightClass numbers the classes of devices that replace each other under the server's
// policy.
func (h *Handler) fightClass(client pb.ClientType) uint8 {
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

// takesPart reports whether a client at addr was kicked lately. A client that waits for its
// turn is remembered for as long as it waits: else it would be admitted beside the turns.
func (ft *fight) takesPart(addr netip.Addr, now time.Time) bool {
	for i := range ft.sides {
		side := &ft.sides[i]
		if side.addr == addr && !side.at.IsZero() && now.Sub(side.at) < fightMemory {
			side.at = now
			return true
		}
	}
	return false
}
