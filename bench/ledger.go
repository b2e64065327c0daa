package bench

import (
	"math/bits"
	"slices"
)

// stream is what one receiver got of one sender's messages in one conversation: which numbers, in which order. It holds a window and not every number, so that
// it stays small for hours.
type stream struct {
	next   uint32 // all numbers before it came, or are holes
	count  uint32 // different numbers that came
	lastID uint32 // msg_id of the last one that came in order
	window uint64 // bit i: next+i came
	holes  *holes // numbers before next that did not come; nil: none
}

// holes are numbers that did not come when much later ones did. They are bounded; beyond it a hole is known by number only.
type holes struct{ numbers []uint32 }

// maxHoles bounds the holes that a stream remembers.
const maxHoles = 4096

// verdict is what a stream says about a delivery.
type verdict uint8

const (
	good verdict = iota
	duplicate
	reordered // came after a later one
)

// came notes the delivery of number n with msg_id id.
func (s *stream) came(n, id uint32) verdict {
	if s.next == 0 {
		s.next = 1
	}
	if n < s.next {
		return s.late(n)
	}
	for n-s.next >= 64 {
		s.slide()
	}
	bit := uint64(1) << (n - s.next)
	if s.window&bit != 0 {
		return duplicate
	}
	v := good
	if s.window > bit || id <= s.lastID {
		v = reordered
	} else {
		s.lastID = id
	}
	s.window |= bit
	s.count++
	n = uint32(bits.TrailingZeros64(^s.window))
	s.next += n
	s.window >>= n // n = 64 leaves 0
	return v
}

// late notes a number before the window: one of the holes, or one that came before.
func (s *stream) late(n uint32) verdict {
	if s.holes != nil {
		if i, ok := slices.BinarySearch(s.holes.numbers, n); ok {
			s.holes.numbers = slices.Delete(s.holes.numbers, i, i+1)
			s.count++
			return reordered
		}
	}
	return duplicate
}

// slide moves the window past its first number, which did not come, and past those that came after it.
func (s *stream) slide() {
	if s.holes == nil {
		s.holes = &holes{}
	}
	if len(s.holes.numbers) < maxHoles {
		s.holes.numbers = append(s.holes.numbers, s.next)
	}
	s.next++
	s.window >>= 1
	n := uint32(bits.TrailingZeros64(^s.window))
	s.next += n
	s.window >>= n
}

// has reports whether number n came.
func (s *stream) has(n uint32) bool {
	if n < max(1, s.next) {
		if s.holes == nil {
			return true
		}
		_, hole := slices.BinarySearch(s.holes.numbers, n)
		return !hole
	}
	return n-s.next < 64 && s.window&(1<<(n-s.next)) != 0
}

// missing returns up to most of the numbers 1 … sent that did not come.
func (s *stream) missing(sent uint32, most int) []uint32 {
	var list []uint32
	if s.holes != nil {
		list = append(list, s.holes.numbers[:min(most, len(s.holes.numbers))]...)
	}
	for n := max(1, s.next); n <= sent && len(list) < most; n++ {
		if !s.has(n) {
			list = append(list, n)
		}
	}
	return list
}

// request is something sent that wants an answer.
type request struct {
	due    int64  // when it was to be sent
	conv   uint32 // of a message: conversation
	number uint32 // of a message: number in it
	op     op     // what it is; 0: answered
	sender uint16 // of a message: place among the senders
}

// requests are a connection's that wait for their answers, by seq, in the order in which they were sent. A seq is used again after 65,535 requests; what waits longer
// than maxWaiting requests is given up.
type requests struct {
	ring  []request // its length is a power of two
	first uint64    // number of the first that is not answered
	next  uint64    // number of the next to be sent
	open  int       // not answered
}

// maxWaiting is how many requests later one is given up.
const maxWaiting = 1 << 15

// seqs is how many seqs there are: 0 is what servers send of their own accord.
const seqs = 0xffff

func seqOf(n uint64) uint16 { return uint16(n%seqs) + 1 }

// add notes a request that is about to be sent and returns its seq. When it had to give one up, it returns that too.
func (q *requests) add(r request) (seq uint16, lost request) {
	if q.next-q.first == uint64(len(q.ring)) {
		if len(q.ring) < maxWaiting {
			q.grow()
		} else {
			lost = q.ring[q.first&uint64(len(q.ring)-1)]
			q.drop(q.first)
		}
	}
	q.ring[q.next&uint64(len(q.ring)-1)] = r
	q.open++
	seq = seqOf(q.next)
	q.next++
	return seq, lost
}

func (q *requests) grow() {
	ring := make([]request, max(4, 2*len(q.ring)))
	for n := q.first; n < q.next; n++ {
		ring[n&uint64(len(ring)-1)] = q.ring[n&uint64(len(q.ring)-1)]
	}
	q.ring = ring
}

// answered returns the request with a seq and notes that it was answered. The op is 0 when there is none that waits.
func (q *requests) answered(seq uint16) request {
	if seq == 0 || len(q.ring) == 0 {
		return request{}
	}
	ahead := (uint64(seq) - 1 + seqs - q.first%seqs) % seqs
	n := q.first + ahead
	if n >= q.next {
		return request{}
	}
	r := q.ring[n&uint64(len(q.ring)-1)]
	if r.op != opNone {
		q.drop(n)
	}
	return r
}

func (q *requests) drop(n uint64) {
	mask := uint64(len(q.ring) - 1)
	q.ring[n&mask].op = opNone
	q.open--
	for q.first < q.next && q.ring[q.first&mask].op == opNone {
		q.first++
	}
}

// waiting calls f with each request that waits.
func (q *requests) waiting(f func(request)) {
	for n := q.first; n < q.next; n++ {
		if r := q.ring[n&uint64(len(q.ring)-1)]; r.op != opNone {
			f(r)
		}
	}
}
