package login

import (
	"net"
	"strconv"
	"time"

	"teamtalk/core/registry"
)

// Registered are the servers of a deployment as the registry has them. A *registry.View is one.
type Registered interface {
	// Nodes returns the live servers of a role, sorted by name.
	Nodes(role string) ([]registry.Node, <-chan struct{})
	// Updates returns how often the servers were read.
	Updates() uint64
}

// sentFor is the least time for which a client that was sent to a server counts there: it takes a
// moment to log in, and the server renews its record every two seconds.
const sentFor = 5 * time.Second

// registered is the registered message servers, as entries without a link. Their loads are
// seconds old. So the clients that were sent to a server since then count as well, or a whole
// crowd would go to one server. Some count twice for a moment, alike on all servers. With
// table.mu held.
type registered struct {
	from Registered
	now  func() time.Time

	updates uint64 // of list
	list    []*entry
	// recent and before are how many clients were sent to each server, by name: since the
	// time began, the last one at the time last, and for sentFor or longer before it. They
	// count until the servers are read again, so clients are spread evenly also while Redis is
	// away.
	recent, before map[string]uint32
	began, last    time.Time
}

func newRegistered(from Registered, now func() time.Time) *registered {
	return &registered{from: from, now: now, recent: map[string]uint32{}}
}

// entries returns the message servers that clients can be sent to, without those that drain. r may
// be nil.
func (r *registered) entries() []*entry {
	if r == nil {
		return nil
	}
	updates := r.from.Updates() // before Nodes: a list that is newer is read again
	if updates == r.updates {
		return r.list
	}
	if now := r.now(); now.Sub(r.began) >= sentFor {
		r.before = r.recent
		if now.Sub(r.last) >= sentFor {
			r.before = nil // the last one is in the loads
		}
		r.recent, r.began = map[string]uint32{}, now
	}
	nodes, _ := r.from.Nodes("msg")
	r.updates, r.list = updates, nil
	for _, n := range nodes {
		if e := entryOf(n); e != nil && !n.Draining {
			e.handed = r.recent[n.Name] + r.before[n.Name]
			r.list = append(r.list, e)
		}
	}
	return r.list
}

// sent counts a client that is sent to a server.
func (r *registered) sent(e *entry) {
	r.recent[e.hostName]++
	r.last = r.now()
}

// entryOf returns a node as an entry; nil when clients cannot be sent there.
func entryOf(n registry.Node) *entry {
	e := &entry{registered: true, late: n.Late, hostName: n.Name,
		limit: uint32(min(n.Capacity, maxCount)), current: uint32(min(n.Load.Users, maxCount))}
	if e.limit == 0 { // it has none of its own
		e.limit = maxCount
	}
	if len(n.Clients) == 0 {
		return nil
	}
	var ok bool
	if e.ip1, e.port, ok = splitAddress(n.Clients[0]); !ok {
		return nil
	}
	e.ip2 = e.ip1
	if len(n.Clients) > 1 {
		if ip, port, ok := splitAddress(n.Clients[1]); ok && port == e.port {
			e.ip2 = ip
		}
	}
	return e
}

// maxCount bounds the numbers of a record, so that their sums fit.
const maxCount = 1 << 30

// splitAddress splits an address that clients are told.
func splitAddress(addr string) (ip string, port uint32, ok bool) {
	ip, text, err := net.SplitHostPort(addr)
	if err != nil || ip == "" {
		return "", 0, false
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return ip, uint32(n), err == nil && n > 0
}
