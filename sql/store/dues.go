package store

import (
	"encoding/binary"

	"teamtalk/core/im"
)

// dues are what a transaction owes to Redis: the payload of an outbox row.
type dues struct {
	counts  []count
	groups  []groupCount
	changes []memberChange
}

// count adds n unread messages of peer to user.
type count struct{ user, peer, n uint32 }

// groupCount adds n messages to the count of a group.
type groupCount struct {
	group, n uint32
	senders  []sender
}

// sender is a user that sent to a group and thereby has read it up to its own last
// message. after is the number of messages of the same batch that follow that message.
type sender struct{ user, after uint32 }

// memberChange is the change of a group's members that made version.
type memberChange struct {
	group, version uint32
	joined         bool // false: left
	users          []uint32
}

// duesForm is the form of a payload with groups or changes. A payload with counts alone
// is three uvarints per count. No user has id 0, so a payload that begins with 0 has
// another form, and its number follows. Form 2, the only one so far, holds counts, groups
// and changes of members, each list after its length.
const duesForm = 2

// appendDues appends the payload of d.
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

// duesReader decodes uvarints. After the first invalid one it returns zeros and sets err.
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

// len returns the length of a list. An element takes at least one byte, so a length above
// the rest of the payload is an error: no payload makes the reader allocate more than its
// size.
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

// parseDues decodes a payload.
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
