package chat

import (
	"cmp"
	"slices"
	"strings"

	"teamtalk/core/im"
)

// DepartNode is a department, or a user in one, in the order of a tree.
type DepartNode struct {
	Depth  int
	Depart im.Depart
	User   *Contact // nil: the department itself
	People int      // users in the department, without those of departments inside
	On     int      // those of them that are online
}

// Departs returns the tree of departments with their users, the session's own included.
// Users whose department is unknown are last, under a department without id. filter
// selects the departments whose name contains it, with all departments inside.
func (b *Book) Departs(filter string) []DepartNode {
	b.mu.Lock()
	defer b.mu.Unlock()
	below := make(map[uint32][]im.Depart)
	for _, d := range b.depart {
		parent := d.Parent
		if _, ok := b.depart[parent]; !ok || parent == d.ID {
			parent = 0
		}
		below[parent] = append(below[parent], d)
	}
	people := make(map[uint32][]Contact)
	for _, u := range b.users {
		id := u.DepartID
		if _, ok := b.depart[id]; !ok {
			id = 0
		}
		people[id] = append(people[id], Contact{
			User: u, Online: isOnline(b.online[u.ID]) || u.ID == b.self.ID,
			Away: isAway(b.online[u.ID]),
		})
	}
	w := departWalk{below: below, people: people, filter: strings.ToLower(filter),
		seen: make(map[uint32]bool)}
	w.walk(0, 0, filter == "")
	for _, d := range sortedDeparts(b.depart) { // departments of a cycle, which no root reaches
		if !w.seen[d.ID] {
			w.depart(d, 0, filter == "")
		}
	}
	if rest := people[0]; len(rest) > 0 && filter == "" {
		w.add(im.Depart{}, 0, rest)
	}
	return w.out
}

// sortedDeparts returns departments by id.
func sortedDeparts(m map[uint32]im.Depart) []im.Depart {
	var list []im.Depart
	for _, d := range m {
		list = append(list, d)
	}
	slices.SortFunc(list, func(x, y im.Depart) int { return cmp.Compare(x.ID, y.ID) })
	return list
}

// departWalk collects the nodes of a tree.
type departWalk struct {
	below  map[uint32][]im.Depart
	people map[uint32][]Contact
	filter string
	seen   map[uint32]bool
	out    []DepartNode
}

// walk adds the departments inside parent. all adds them without a look at the filter.
func (w *departWalk) walk(parent uint32, depth int, all bool) {
	list := w.below[parent]
	slices.SortFunc(list, func(x, y im.Depart) int {
		return cmp.Or(cmp.Compare(x.Priority, y.Priority), cmp.Compare(x.Name, y.Name),
			cmp.Compare(x.ID, y.ID))
	})
	for _, d := range list {
		w.depart(d, depth, all)
	}
}

// depart adds a department, its users, and the departments inside.
func (w *departWalk) depart(d im.Depart, depth int, all bool) {
	if w.seen[d.ID] {
		return
	}
	w.seen[d.ID] = true
	all = all || strings.Contains(strings.ToLower(d.Name), w.filter)
	if all {
		w.add(d, depth, w.people[d.ID])
		depth++
	}
	w.walk(d.ID, depth, all)
}

// add adds a department and its users, those online first.
func (w *departWalk) add(d im.Depart, depth int, people []Contact) {
	slices.SortFunc(people, func(x, y Contact) int {
		return cmp.Or(trueFirst(x.Online, y.Online), cmp.Compare(x.Name, y.Name))
	})
	node := DepartNode{Depth: depth, Depart: d, People: len(people)}
	for i := range people {
		if people[i].Online {
			node.On++
		}
	}
	w.out = append(w.out, node)
	for i := range people {
		w.out = append(w.out, DepartNode{Depth: depth + 1, Depart: d, User: &people[i]})
	}
}
