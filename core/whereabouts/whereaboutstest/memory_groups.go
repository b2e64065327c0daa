package whereaboutstest

import (
	"context"
	"slices"
	"strings"

	"teamtalk/core/whereabouts"
)

// group is the marks of a group.
type group struct {
	epochs  map[string]uint64 // by name of a node
	version uint32
}

// Mark sets marks; see whereabouts.Groups.
func (m *Memory) Mark(ctx context.Context, marks []whereabouts.Mark) []whereabouts.Group {
	m.mu.Lock()
	defer m.mu.Unlock()
	groups := make([]whereabouts.Group, len(marks))
	for i, mark := range marks {
		if groups[i].Err = ctx.Err(); groups[i].Err != nil {
			continue
		}
		m.mark(mark)
		if mark.Version != 0 {
			groups[i] = m.group(mark.Group)
		}
	}
	return groups
}

// mark sets the marks of a group. The caller holds mu.
func (m *Memory) mark(mark whereabouts.Mark) {
	g := m.groups[mark.Group]
	if g == nil {
		g = &group{epochs: map[string]uint64{}}
		m.groups[mark.Group] = g
	}
	for _, n := range mark.Nodes {
		g.epochs[n.Name] = max(g.epochs[n.Name], n.Epoch)
	}
	if g.version >= mark.Since {
		g.version = max(g.version, mark.Version)
	}
	if len(g.epochs) == 0 && g.version == 0 {
		delete(m.groups, mark.Group)
	}
}

// group returns what a group has. The caller holds mu.
func (m *Memory) group(id uint32) (found whereabouts.Group) {
	g := m.groups[id]
	if g == nil {
		return found
	}
	for name, epoch := range g.epochs {
		found.Nodes = append(found.Nodes, whereabouts.Node{Name: name, Epoch: epoch})
	}
	slices.SortFunc(found.Nodes, func(a, b whereabouts.Node) int {
		return strings.Compare(a.Name, b.Name)
	})
	found.Version = g.version
	return found
}

// Unmark removes marks; see whereabouts.Groups.
func (m *Memory) Unmark(ctx context.Context, marks []whereabouts.Unmark) []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	errs := make([]error, len(marks))
	for i, mark := range marks {
		g := m.groups[mark.Group]
		if errs[i] = ctx.Err(); errs[i] != nil || g == nil || g.version > mark.Version ||
			g.epochs[mark.Node.Name] != mark.Node.Epoch {
			continue
		}
		if delete(g.epochs, mark.Node.Name); len(g.epochs) == 0 {
			delete(m.groups, mark.Group)
		}
	}
	return errs
}

// LookupAll returns what is known of users and groups; see whereabouts.Groups.
func (m *Memory) LookupAll(ctx context.Context, users, groups []uint32) ([]whereabouts.Found,
	[]whereabouts.Group) {
	found := m.Lookup(ctx, users)
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]whereabouts.Group, len(groups))
	for i, id := range groups {
		if list[i].Err = ctx.Err(); list[i].Err == nil {
			list[i] = m.group(id)
		}
	}
	return found, list
}

// Group returns the names of the marked message servers of a group, sorted, and its version.
func (m *Memory) Group(id uint32) (names []string, version uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.group(id)
	for _, n := range g.Nodes {
		names = append(names, n.Name)
	}
	return names, g.Version
}
