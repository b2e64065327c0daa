package bench

import (
	"math/bits"
	"slices"
)

// stream records which of one sender's messages in one conversation a receiver got, and
// in which order. It keeps a window, not each number, so that it stays small for hours.
type stream struct {
	next   uint32 // all numbers below have arrived or are holes
	count  uint32 // distinct numbers that arrived
	lastID uint32 // msg_id of the last message that arrived in order
	window uint64 // bit i: next+i has arrived
	holes  *holes // missing numbers below next; nil: none
}

// holes are numbers that are still missing when much higher ones have arrived. Their
// number is bounded; a hole beyond the bound is counted but not listed.
type holes struct{ numbers []uint32 }

// maxHoles bounds the holes that a stream lists.
const maxHoles = 4096

// verdict is the judgement of a stream on a delivery.
type verdict uint8

const (
	good verdict = iota
	duplicate
	reordered // arrived after a later one
)

// came records the delivery of number n with msg_id id.
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

// late records a number below the window: a hole, or a duplicate.
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

// slide moves the window past its first number, which is missing, and past the numbers
// that follow it and have arrived.
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

// has reports whether number n has arrived.
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

// missing returns up to most of the numbers 1 … sent that have not arrived.
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

// request is a frame sent that needs an answer.
type request struct {
	due    int64  // when it was due to be sent
	conv   uint32 // conversation of a message
	number uint32 // number of a message in its conversation
	op     op     // kind of request; 0: answered
	sender uint16 // position of a message's sender among the senders
}

// requests holds the pending requests of a connection by seq, in the order in which they
// were sent. A seq is used again after 65,535 requests. A request that is pending for
// more than maxWaiting further requests is abandoned.
type requests struct {
	ring  []request // length is a power of two
	first uint64    // number of the first pending request
	next  uint64    // number of the next request
	open  int       // pending requests
}

// maxWaiting is the number of further requests after which a pending one is abandoned.
const maxWaiting = 1 << 15

// seqs is the number of seqs. 0 is left out, because servers use it for frames that
// answer no request.
const seqs = 0xffff

func seqOf(n uint64) uint16 { return uint16(n%seqs) + 1 }

// add records a request that is about to be sent and returns its seq. lost is the request
// that it abandoned, if any.
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

// answered removes and returns the request with a seq. Its op is 0 when none is pending.
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

// waiting calls f with each pending request.
func (q *requests) waiting(f func(request)) {
	for n := q.first; n < q.next; n++ {
		if r := q.ring[n&uint64(len(q.ring)-1)]; r.op != opNone {
			f(r)
		}
	}
}
