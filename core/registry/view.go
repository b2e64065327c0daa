package registry

import (
	"slices"
	"sync"
)

// View is what a process knows of the nodes. It keeps what it knew while the registry cannot
// be read. Any goroutine.
type View struct {
	mu      sync.Mutex
	updates uint64
	roles   map[string][]Node
	// waits holds, for the roles that were asked for, the channel that the next change
	// closes.
	waits map[string]chan struct{}
}

// NewView returns a view without nodes.
func NewView() *View {
	return &View{roles: map[string][]Node{}, waits: map[string]chan struct{}{}}
}

// Nodes returns the live nodes of a role, sorted by name, and a channel that is closed when
// the list changes next: a node was added or removed, or anything but the load of a node
// differs. The caller must not change the list.
func (v *View) Nodes(role string) (list []Node, changed <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	wait := v.waits[role]
	if wait == nil {
		wait = make(chan struct{})
		v.waits[role] = wait
	}
	return v.roles[role], wait
}

// Count returns the number of live nodes of a role.
func (v *View) Count(role string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.roles[role])
}

// Updates returns how often the nodes were updated, with or without a change.
func (v *View) Updates() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.updates
}

// Update replaces the known nodes. If the list may lack nodes that are alive, because the
// registry has lost its contents a moment ago, complete is false, and known nodes that the
// list lacks stay known.
func (v *View) Update(list []Node, complete bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	next := map[Key]Node{}
	if !complete {
		for _, known := range v.roles {
			for _, n := range known {
				next[n.Key()] = n
			}
		}
	}
	for _, n := range list {
		next[n.Key()] = n
	}
	roles := map[string][]Node{}
	for key, n := range next {
		roles[key.Role] = append(roles[key.Role], n)
	}
	for _, nodes := range roles {
		slices.SortFunc(nodes, Compare)
	}
	for role, wait := range v.waits {
		if !slices.EqualFunc(v.roles[role], roles[role], same) {
			close(wait)
			delete(v.waits, role)
		}
	}
	v.roles = roles
	v.updates++
}
