package store

import (
	"cmp"
	"encoding/binary"
	"slices"

	"teamtalk/core/im"
)

// dues is what a transaction owes to Redis: an outbox row's payload.
type dues struct {
	counts  []count
	groups  []groupCount
	changes []memberChange
}

// count is n more unread messages of peer to user.
type count struct{ user, peer, n uint32 }

// groupCount is n more messages in a group.
type groupCount struct {
	group, n uint32
	senders  []sender
}

// sender has read the group's messages up to its own last, after which came others of the same batch.
type sender struct{ user, after uint32 }

// memberChange is a change of a group's members that the group's version names.
type memberChange struct {
	group, version uint32
	joined         bool // or left
	users          []uint32
}

// duesOf sums up what a list of messages owes.
func duesOf(items []*item) dues {
	sums := make(map[uint64]uint32, len(items))
	groups := map[uint32]*groupCount{}
	last := map[uint64]uint32{} // by sender and group: which of the group's messages is the sender's last
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
		last[senderKey(it.m.From, it.m.To)] = g.n
	}
	var d dues
	d.counts = make([]count, 0, len(sums))
	for k, n := range sums {
		d.counts = append(d.counts, count{uint32(k >> 32), uint32(k), n})
	}
	slices.SortFunc(d.counts, func(a, b count) int { return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.peer, b.peer)) })
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

// The payload of counts alone is three uvarints each. No user has id 0, so a payload that begins with 0 is of a later form: then comes the form's number,
// and of form 2, the only one yet, counts, groups and changes of members, each after how many there are.
const duesForm = 2

// appendDues encodes dues as the outbox holds them.
func appendDues(b []byte, d dues) []byte {
	put := func(list ...uint32) {
		for _, v := range list {
			b = binary.AppendUvarint(b, uint64(v))
		}
	}
	long := len(d.groups) > 0 || len(d.changes) > 0
	if long {
		put(0, duesForm, uint32(len(d.counts)))
	}
	for _, c := range d.counts {
		put(c.user, c.peer, c.n)
	}
	if !long {
		return b
	}
	put(uint32(len(d.groups)))
	for _, g := range d.groups {
		put(g.group, g.n, uint32(len(g.senders)))
		for _, by := range g.senders {
			put(by.user, by.after)
		}
	}
	put(uint32(len(d.changes)))
	for _, c := range d.changes {
		joined := uint32(0)
		if c.joined {
			joined = 1
		}
		put(c.group, c.version, joined, uint32(len(c.users)))
		put(c.users...)
	}
	return b
}

// duesReader decodes uvarints; after the first that is none it returns zeros, and err says so.
type duesReader struct {
	b   []byte
	err error
}

// next returns a number.
func (r *duesReader) next() uint32 {
	v, n := binary.Uvarint(r.b)
	if r.err != nil || n <= 0 || v > 1<<32-1 {
		r.err = im.Errorf(im.Malformed, "outbox row does not decode")
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

// len returns how many elements follow: of at least a byte each, so no row makes us hold more than it is long.
func (r *duesReader) len() int {
	n := int(r.next())
	if n > len(r.b) {
		r.err = im.Errorf(im.Malformed, "outbox row does not decode")
		return 0
	}
	return n
}

// count returns a user's count.
func (r *duesReader) count() count {
	c := count{r.next(), r.next(), r.next()}
	if c.user == 0 && r.err == nil {
		r.err = im.Errorf(im.Malformed, "outbox row of user 0")
	}
	return c
}

// parseDues decodes them.
func parseDues(b []byte) (dues, error) {
	r := &duesReader{b: b}
	var d dues
	if len(b) == 0 || b[0] != 0 {
		for len(r.b) > 0 && r.err == nil {
			d.counts = append(d.counts, r.count())
		}
		return d, r.err
	}
	r.next()
	if form := r.next(); r.err == nil && form != duesForm {
		return d, im.Errorf(im.Malformed, "outbox row of form %d", form)
	}
	d.counts = make([]count, r.len())
	for i := range d.counts {
		d.counts[i] = r.count()
	}
	d.groups = make([]groupCount, r.len())
	for i := range d.groups {
		g := groupCount{group: r.next(), n: r.next()}
		g.senders = make([]sender, r.len())
		for j := range g.senders {
			g.senders[j] = sender{r.next(), r.next()}
		}
		d.groups[i] = g
	}
	d.changes = make([]memberChange, r.len())
	for i := range d.changes {
		c := memberChange{group: r.next(), version: r.next(), joined: r.next() == 1}
		c.users = make([]uint32, r.len())
		for j := range c.users {
			c.users[j] = r.next()
		}
		d.changes[i] = c
	}
	return d, r.err
}
