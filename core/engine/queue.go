package engine

// kind is a kind of queue. A stranger is in at most one queue of each kind.
type kind uint8

const (
	ofPort kind = iota
	ofAddress
	ofHold
	kinds // the number of kinds
)

// queue is a list of strangers, the one that was pushed longest ago first. Its links are in the
// strangers themselves, so a stranger costs one allocation.
type queue struct {
	kind        kind
	first, last *stranger
	n           int
}

// place is the place of a stranger in the queue of one kind.
type place struct{ before, after *stranger }

// push appends x, which is in no queue of this kind.
func (q *queue) push(x *stranger) {
	x.places[q.kind] = place{before: q.last}
	if q.last == nil {
		q.first = x
	} else {
		q.last.places[q.kind].after = x
	}
	q.last = x
	q.n++
}

// remove takes x, which is in q, out of it.
func (q *queue) remove(x *stranger) {
	p := x.places[q.kind]
	if p.before == nil {
		q.first = p.after
	} else {
		p.before.places[q.kind].after = p.after
	}
	if p.after == nil {
		q.last = p.before
	} else {
		p.after.places[q.kind].before = p.before
	}
	x.places[q.kind] = place{}
	q.n--
}
