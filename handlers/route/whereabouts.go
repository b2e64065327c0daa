package route

import (
	"slices"
	"sync"

	"teamtalk/proto/pb"
)

// Node is a message server as the whereabouts know it: the id of the session it is connected by.
type Node uint64

// Whereabouts knows which users are online, on which message servers and by which kinds of client. Route_server's own Table is one
// form of it; a store that several route_servers share would be another.
//
// Server changes one user at a time, so an implementation need not order changes of the same user. Reads come at any time, from anywhere.
type Whereabouts interface {
	// Add notes one more client of user on node.
	Add(n Node, user uint32, client pb.ClientType) Change
	// Remove notes one less. Known is false, and nothing changes, when node has no such client of user.
	Remove(n Node, user uint32, client pb.ClientType) (c Change, known bool)
	// Drop forgets all of user's clients on node.
	Drop(n Node, user uint32) Change
	// SetAcks notes whether user's clients of that kind on node acknowledge deliveries. It changes
	// nothing when node has no such client; clients that are added do not.
	SetAcks(n Node, user uint32, client pb.ClientType, acks bool)
	// Holders returns the nodes that have user; the slice must not be changed.
	Holders(user uint32) []Node
	// Online reports whether user has a client that f lets count.
	Online(user uint32, f Filter) bool
}

// Change says what became of a user's pc clients by one change.
type Change struct {
	PCBefore, PCAfter bool // any pc client online
	Online            bool // any client online, afterwards
}

// Filter says which clients count. The zero value counts all.
type Filter struct {
	Class  pb.ClientType // with SameClass
	Except Node          // clients of this node do not count; 0: all do

	SameClass bool // only clients of Class's device class
	PC        bool // only pc clients
	Acks      bool // only clients that acknowledge deliveries
}

// Table is the whereabouts in memory. All methods may be called from anywhere.
type Table struct {
	shards []tableShard
}

type tableShard struct {
	mu    sync.RWMutex // held for one change or look-up
	users map[uint32]*presence
	_     [32]byte // a shard to a cache line
}

// presence is one online user.
type presence struct {
	nodes   []Node // replaced, never changed: readers keep the one they got
	devices []device
}

// device is the clients of one kind on one node.
type device struct {
	node   Node
	client pb.ClientType
	count  int32
	acks   bool // one of them acknowledges deliveries
}

// tableShards is how many locks the users share. On two cores BenchmarkTable finds no difference between 1 and 64 (180 ns); it is machines with
// more that one lock would hold up.
const tableShards = 64

// NewTable makes an empty table.
func NewTable() *Table { return newTable(tableShards) }

func newTable(shards int) *Table {
	t := &Table{shards: make([]tableShard, shards)}
	for i := range t.shards {
		t.shards[i].users = map[uint32]*presence{}
	}
	return t
}

func (t *Table) shard(user uint32) *tableShard { return &t.shards[user%uint32(len(t.shards))] }

// Add notes one more client of user on n.
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

// Remove notes one client less.
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

// Drop forgets all of user's clients on n.
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

// SetAcks notes whether user's clients of that kind on n acknowledge deliveries.
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

// Holders returns the nodes that have user.
func (t *Table) Holders(user uint32) []Node {
	sh := t.shard(user)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if p := sh.users[user]; p != nil {
		return p.nodes
	}
	return nil
}

// Online reports whether user has a client that f lets count.
func (t *Table) Online(user uint32, f Filter) bool {
	sh := t.shard(user)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	p := sh.users[user]
	return p != nil && slices.ContainsFunc(p.devices, f.counts)
}

// Users is the number of users online.
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

// settle takes a user out who has no client left, and says what changed.
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
	return slices.IndexFunc(p.devices, func(d device) bool { return d.node == n && d.client == client })
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

// settleNode takes n out of nodes when no client is left there.
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
