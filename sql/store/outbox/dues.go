package outbox

import (
	"encoding/binary"

	"teamtalk/core/im"
)

// Dues are what a transaction owes to Redis: the payload of an outbox row.
type Dues struct {
	Counts  []Count
	Groups  []GroupCount
	Changes []MemberChange
}

// Count adds N unread messages of peer to user.
type Count struct{ User, Peer, N uint32 }

// GroupCount adds N messages to the count of a group.
type GroupCount struct {
	Group, N uint32
	Senders  []Sender
}

// Sender is a user that sent to a group and thereby has read it up to its own last
// message. after is the number of messages of the same batch that follow that message.
type Sender struct{ User, After uint32 }

// MemberChange is the change of a group's members that made Version.
type MemberChange struct {
	Group, Version uint32
	Joined         bool // false: left
	Users          []uint32
}

// duesForm is the form of a payload with groups or changes. A payload with counts alone
// is three uvarints per count. No user has id 0, so a payload that begins with 0 has
// another form, and its number follows. Form 2, the only one so far, holds counts, groups
// and changes of members, each list after its length.
const duesForm = 2

// AppendDues appends the payload of d.
func AppendDues(b []byte, d Dues) []byte {
	put := func(list ...uint32) {
		for _, v := range list {
			b = binary.AppendUvarint(b, uint64(v))
		}
	}
	long := len(d.Groups) > 0 || len(d.Changes) > 0
	if long {
		put(0, duesForm, uint32(len(d.Counts)))
	}
	for _, c := range d.Counts {
		put(c.User, c.Peer, c.N)
	}
	if !long {
		return b
	}
	put(uint32(len(d.Groups)))
	for _, g := range d.Groups {
		put(g.Group, g.N, uint32(len(g.Senders)))
		for _, by := range g.Senders {
			put(by.User, by.After)
		}
	}
	put(uint32(len(d.Changes)))
	for _, c := range d.Changes {
		joined := uint32(0)
		if c.Joined {
			joined = 1
		}
		put(c.Group, c.Version, joined, uint32(len(c.Users)))
		put(c.Users...)
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
func (r *duesReader) count() Count {
	c := Count{r.next(), r.next(), r.next()}
	if c.User == 0 && r.err == nil {
		r.err = im.Errorf(im.Malformed, "outbox row of user 0")
	}
	return c
}

// parseDues decodes a payload.
func parseDues(b []byte) (Dues, error) {
	r := &duesReader{b: b}
	var d Dues
	if len(b) == 0 || b[0] != 0 {
		for len(r.b) > 0 && r.err == nil {
			d.Counts = append(d.Counts, r.count())
		}
		return d, r.err
	}
	r.next()
	if form := r.next(); r.err == nil && form != duesForm {
		return d, im.Errorf(im.Malformed, "outbox row of form %d", form)
	}
	d.Counts = make([]Count, r.len())
	for i := range d.Counts {
		d.Counts[i] = r.count()
	}
	d.Groups = make([]GroupCount, r.len())
	for i := range d.Groups {
		g := GroupCount{Group: r.next(), N: r.next()}
		g.Senders = make([]Sender, r.len())
		for j := range g.Senders {
			g.Senders[j] = Sender{r.next(), r.next()}
		}
		d.Groups[i] = g
	}
	d.Changes = make([]MemberChange, r.len())
	for i := range d.Changes {
		c := MemberChange{Group: r.next(), Version: r.next(), Joined: r.next() == 1}
		c.Users = make([]uint32, r.len())
		for j := range c.Users {
			c.Users[j] = r.next()
		}
		d.Changes[i] = c
	}
	return d, r.err
}
