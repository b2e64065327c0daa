package route

import (
	"slices"
	"sync"

	"teamtalk/proto/pb"
)

// Node identifies a message server: it is the id of the session over which the server is
// connected.
type Node uint64

// Whereabouts stores which users are online, on which message servers, and with which
// client types. Table implements it in the memory of one route server. An implementation
// that several route servers share is possible.
//
// Server never runs two changes of the same user at a time, so an implementation need not
// order them. Reads: any goroutine, at any time.
type Whereabouts interface {
	// Add adds one client of user on node n.
	Add(n Node, user uint32, client pb.ClientType) Change
	// Remove removes one client. When n has no such client of user, nothing changes and
	// known is false.
	Remove(n Node, user uint32, client pb.ClientType) (c Change, known bool)
	// Drop removes all of user's clients on n.
	Drop(n Node, user uint32) Change
	// SetAcks records whether user's clients of this type on n acknowledge deliveries. It
	// has no effect when n has no such client. Added clients do not acknowledge until
	// SetAcks says so.
	SetAcks(n Node, user uint32, client pb.ClientType, acks bool)
	// Holders returns the nodes that hold user. The caller must not change the slice.
	Holders(user uint32) []Node
	// Online reports whether user has a client that f counts.
	Online(user uint32, f Filter) bool
}

// Change is the effect of one change on a user's clients.
type Change struct {
	PCBefore, PCAfter bool // whether a pc client was online before the change, and is after it
	Online            bool // whether any client is online after the change
}

// Filter selects the clients that count. The zero value counts all.
type Filter struct {
	Class  pb.ClientType // used with SameClass
	Except Node          // clients of this node do not count; 0: no exception

	SameClass bool // only clients of Class's device class
	PC        bool // only pc clients
	Acks      bool // only clients that acknowledge deliveries
}

// Table is a Whereabouts in memory. Any goroutine.
type Table struct {
	shards []tableShard
}

type tableShard struct {
	mu    sync.RWMutex // held for one change or lookup
	users map[uint32]*presence
	_     [32]byte // pads a shard to a cache line
}

// presence is one online user.
type presence struct {
	nodes   []Node // copy on write: readers keep the slice that they got
	devices []device
}

// device is the clients of one client type on one node.
type device struct {
	node   Node
	client pb.ClientType
	count  int32
	acks   bool // one of them acknowledges deliveries
}

// tableShards is the number of locks that the users share. On two cores BenchmarkTable
// shows no difference between 1 and 64 (180 ns). The shards are for machines with more
// cores, where one lock would be contended.
const tableShards = 64

// NewTable returns an empty table.
func NewTable() *Table { return newTable(tableShards) }

func newTable(shards int) *Table {
	t := &Table{shards: make([]tableShard, shards)}
	for i := range t.shards {
		t.shards[i].users = map[uint32]*presence{}
	}
	return t
}

func (t *Table) shard(user uint32) *tableShard { return &t.shards[user%uint32(len(t.shards))] }

// Add adds one client of user on n.
func (t *Table) Add(n Node, user uint32, client pb.ClientType) Change {
	sh := t.shard(user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p := sh.users[user]
	if p == nil {
		p = &presence{}
		sh.users[user] = p
	}
	before := p.pc()
	p.add(n, client)
	return Change{PCBefore: before, PCAfter: p.pc(), Online: true}
}

// Remove removes one client of user on n, and reports whether there was one.
func (t *Table) Remove(n Node, user uint32, client pb.ClientType) (Change, bool) {
	sh := t.shard(user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p := sh.users[user]
	if p == nil {
		return Change{}, false
	}
	before := p.pc()
	known := p.remove(n, client)
	return sh.settle(user, p, before), known
}

// Drop removes all of user's clients on n.
func (t *Table) Drop(n Node, user uint32) Change {
	sh := t.shard(user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p := sh.users[user]
	if p == nil {
		return Change{}
	}
	before := p.pc()
	p.devices = slices.DeleteFunc(p.devices, func(d device) bool { return d.node == n })
	p.settleNode(n)
	return sh.settle(user, p, before)
}

// SetAcks records whether user's clients of this type on n acknowledge deliveries.
func (t *Table) SetAcks(n Node, user uint32, client pb.ClientType, acks bool) {
	sh := t.shard(user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if p := sh.users[user]; p != nil {
		if i := p.find(n, client); i >= 0 {
			p.devices[i].acks = acks
		}
	}
}

// Holders returns the nodes that hold user. The caller must not change the slice.
func (t *Table) Holders(user uint32) []Node {
	sh := t.shard(user)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if p := sh.users[user]; p != nil {
		return p.nodes
	}
	return nil
}

// Online reports whether user has a client that f counts.
func (t *Table) Online(user uint32, f Filter) bool {
	sh := t.shard(user)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	p := sh.users[user]
	return p != nil && slices.ContainsFunc(p.devices, f.counts)
}

// Users returns the number of users online.
func (t *Table) Users() int {
	n := 0
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.RLock()
		n += len(sh.users)
		sh.mu.RUnlock()
	}
	return n
}

func (f Filter) counts(d device) bool {
	return (f.Except == 0 || d.node != f.Except) && (!f.SameClass || d.client.SameClass(f.Class)) &&
		(!f.PC || !d.client.IsMobile()) && (!f.Acks || d.acks)
}

// settle deletes a user without clients, and returns the change.
func (sh *tableShard) settle(user uint32, p *presence, before bool) Change {
	if len(p.devices) == 0 {
		delete(sh.users, user)
	}
	return Change{PCBefore: before, PCAfter: p.pc(), Online: len(p.devices) > 0}
}

func (p *presence) pc() bool {
	return slices.ContainsFunc(p.devices, func(d device) bool { return !d.client.IsMobile() })
}

func (p *presence) find(n Node, client pb.ClientType) int {
	return slices.IndexFunc(p.devices, func(d device) bool {
		return d.node == n &&
			d.client == client
	})
}

func (p *presence) add(n Node, client pb.ClientType) {
	if i := p.find(n, client); i >= 0 {
		p.devices[i].count++
		return
	}
	p.devices = append(p.devices, device{node: n, client: client, count: 1})
	if !slices.Contains(p.nodes, n) {
		p.nodes = append(slices.Clip(p.nodes), n)
	}
}

func (p *presence) remove(n Node, client pb.ClientType) bool {
	i := p.find(n, client)
	if i < 0 {
		return false
	}
	if p.devices[i].count--; p.devices[i].count == 0 {
		p.devices = slices.Delete(p.devices, i, i+1)
		p.settleNode(n)
	}
	return true
}

// settleNode removes n from nodes when no client is left on it.
func (p *presence) settleNode(n Node) {
	if slices.ContainsFunc(p.devices, func(d device) bool { return d.node == n }) {
		return
	}
	rest := make([]Node, 0, len(p.nodes))
	for _, have := range p.nodes {
		if have != n {
			rest = append(rest, have)
		}
	}
	p.nodes = rest
}
