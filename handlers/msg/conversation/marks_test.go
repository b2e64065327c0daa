package conversation

import "testing"

// TestReadMarks: marks move forward only. Marks are dropped a generation at a time.
func TestReadMarks(t *testing.T) {
	var r readMarks
	key := func(n uint32) readKey { return readKey{user: n % 3, session: n, kind: 1} }
	for n := range uint32(3) {
		for _, step := range []struct {
			id    uint32
			moves bool
		}{{5, true}, {5, false}, {4, false}, {6, true}, {6, false}} {
			if got := r.advance(key(n), step.id); got != step.moves {
				t.Errorf("mark %d to %d: %v", n, step.id, got)
			}
		}
	}
	for n := uint32(3); n < 4*maxMarks; n++ {
		r.advance(key(n), 1)
		r.advance(key(0), 6) // used all the time: stays
	}
	if r.advance(key(0), 6) || r.advance(key(0), 5) {
		t.Error("a mark was forgotten that is used")
	}
	if !r.advance(key(1), 6) {
		t.Error("the marks are not bounded")
	}
	known := 0
	for i := range r.shards {
		known += len(r.shards[i].young) + len(r.shards[i].old)
	}
	if known > maxMarks {
		t.Errorf("%d marks known", known)
	}
}
