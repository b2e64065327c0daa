package store

import (
	"cmp"
	"slices"
)

// duesOf returns what the transaction of items owes.
func duesOf(items []*item) dues {
	sums := make(map[uint64]uint32, len(items))
	groups := map[uint32]*groupCount{}
	// by sender and group: the position of the sender's last message in the group
	last := map[uint64]uint32{}
	for _, it := range items {
		if !it.m.Type.IsGroup() {
			sums[uint64(it.m.To)<<32|uint64(it.m.From)]++
			continue
		}
		g := groups[it.m.To]
		if g == nil {
			g = &groupCount{group: it.m.To}
			groups[it.m.To] = g
		}
		g.n++
		last[uint64(it.m.From)<<32|uint64(it.m.To)] = g.n
	}
	var d dues
	d.counts = make([]count, 0, len(sums))
	for k, n := range sums {
		d.counts = append(d.counts, count{uint32(k >> 32), uint32(k), n})
	}
	slices.SortFunc(d.counts, func(a, b count) int {
		return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.peer, b.peer))
	})
	for k, n := range last {
		g := groups[uint32(k)]
		g.senders = append(g.senders, sender{uint32(k >> 32), g.n - n})
	}
	for _, g := range groups {
		slices.SortFunc(g.senders, func(a, b sender) int { return cmp.Compare(a.user, b.user) })
		d.groups = append(d.groups, *g)
	}
	slices.SortFunc(d.groups, func(a, b groupCount) int { return cmp.Compare(a.group, b.group) })
	return d
}
