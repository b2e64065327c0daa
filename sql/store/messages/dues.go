package messages

import (
	"cmp"
	"slices"

	"teamtalk/sql/store/outbox"
)

// duesOf returns what the transaction of items owes.
func duesOf(items []*item) outbox.Dues {
	sums := make(map[uint64]uint32, len(items))
	groups := map[uint32]*outbox.GroupCount{}
	// by sender and group: the position of the sender's last message in the group
	last := map[uint64]uint32{}
	for _, it := range items {
		if !it.m.Type.IsGroup() {
			sums[uint64(it.m.To)<<32|uint64(it.m.From)]++
			continue
		}
		g := groups[it.m.To]
		if g == nil {
			g = &outbox.GroupCount{Group: it.m.To}
			groups[it.m.To] = g
		}
		g.N++
		last[uint64(it.m.From)<<32|uint64(it.m.To)] = g.N
	}
	var d outbox.Dues
	d.Counts = make([]outbox.Count, 0, len(sums))
	for k, n := range sums {
		d.Counts = append(d.Counts, outbox.Count{User: uint32(k >> 32), Peer: uint32(k), N: n})
	}
	slices.SortFunc(d.Counts, func(a, b outbox.Count) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Peer, b.Peer))
	})
	for k, n := range last {
		g := groups[uint32(k)]
		g.Senders = append(g.Senders, outbox.Sender{User: uint32(k >> 32), After: g.N - n})
	}
	for _, g := range groups {
		slices.SortFunc(g.Senders, func(a, b outbox.Sender) int {
			return cmp.Compare(a.User, b.User)
		})
		d.Groups = append(d.Groups, *g)
	}
	slices.SortFunc(d.Groups, func(a, b outbox.GroupCount) int {
		return cmp.Compare(a.Group, b.Group)
	})
	return d
}
