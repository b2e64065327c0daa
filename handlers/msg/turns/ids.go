package turns

import "slices"

// maxSpans bounds the spans of a conversation. Beyond, the ids between the two lowest
// spans count as delivered.
const maxSpans = 16

// ids is a set of ids of a conversation. Most follow each other, so it holds spans.
type ids struct{ spans []span }

// span is the ids from low to high.
type span struct{ low, high uint32 }

// find returns the place of the span that contains id, or where such a one would be.
func (s *ids) find(id uint32) (i int, ok bool) {
	return slices.BinarySearchFunc(s.spans, id, func(p span, id uint32) int {
		switch {
		case p.high < id:
			return -1
		case p.low > id:
			return 1
		}
		return 0
	})
}

// has reports whether id is in the set.
func (s *ids) has(id uint32) bool {
	_, ok := s.find(id)
	return ok
}

// add adds id.
func (s *ids) add(id uint32) {
	if n := len(s.spans); n > 0 && s.spans[n-1].high+1 == id { // as nearly always
		s.spans[n-1].high = id
		return
	}
	i, ok := s.find(id)
	if ok {
		return
	}
	s.spans = slices.Insert(s.spans, i, span{id, id})
	s.join(i)
	if i > 0 {
		s.join(i - 1)
	}
	if len(s.spans) > maxSpans {
		s.spans[1].low = s.spans[0].low
		s.spans = slices.Delete(s.spans, 0, 1)
	}
}

// join makes span i and the next one into one, if no id is between them.
func (s *ids) join(i int) {
	if i+1 < len(s.spans) && s.spans[i].high+1 == s.spans[i+1].low {
		s.spans[i].high = s.spans[i+1].high
		s.spans = slices.Delete(s.spans, i+1, i+2)
	}
}
