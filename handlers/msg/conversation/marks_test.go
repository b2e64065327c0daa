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
			if got := r.advance(key(n), step.id) == movedOn; got != step.moves {
				t.Errorf("mark %d to %d: %v", n, step.id, got)
			}
		}
	}
	for n := uint32(3); n < 4*maxMarks; n++ {
		r.advance(key(n), 1)
		r.advance(key(0), 6) // used all the time: stays
	}
	if r.advance(key(0), 6) == movedOn || r.advance(key(0), 5) == movedOn {
		t.Error("a mark was forgotten that is used")
	}
	if r.advance(key(1), 6) != movedOn {
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

// TestReadMarksInQuestion: a mark beyond the newest message moves back, and each mark is
// in question once.
func TestReadMarksInQuestion(t *testing.T) {
	var r readMarks
	key := readKey{1, 2, 1}
	wants := func(id uint32, want moved) {
		t.Helper()
		if got := r.advance(key, id); got != want {
			t.Fatalf("advance to %d: %d, want %d", id, got, want)
		}
	}
	wants(5, movedOn)
	wants(1000, movedOn)
	wants(6, inQuestion)
	if !r.settle(key, 7, 6) {
		t.Fatal("the mark stays beyond the newest message")
	}
	wants(6, notMoved)
	wants(5, notMoved)
	wants(7, movedOn)
	wants(6, inQuestion)
	if r.settle(key, 7, 6) {
		t.Fatal("a mark of a message moves back")
	}
	wants(6, notMoved)
	wants(7, notMoved)
}
