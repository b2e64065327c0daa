package readmarks

import "testing"

// TestReadMarks: marks move forward only. Marks are dropped a generation at a time.
func TestReadMarks(t *testing.T) {
	var r Marks
	key := func(n uint32) Key { return Key{User: n % 3, Session: n, Type: 1} }
	for n := range uint32(3) {
		for _, step := range []struct {
			id    uint32
			moves bool
		}{{5, true}, {5, false}, {4, false}, {6, true}, {6, false}} {
			if got := r.Advance(key(n), step.id) == MovedOn; got != step.moves {
				t.Errorf("mark %d to %d: %v", n, step.id, got)
			}
		}
	}
	for n := uint32(3); n < 4*maxMarks; n++ {
		r.Advance(key(n), 1)
		r.Advance(key(0), 6) // used all the time: stays
	}
	if r.Advance(key(0), 6) == MovedOn || r.Advance(key(0), 5) == MovedOn {
		t.Error("a mark was forgotten that is used")
	}
	if r.Advance(key(1), 6) != MovedOn {
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
	var r Marks
	key := Key{1, 2, 1}
	wants := func(id uint32, want Result) {
		t.Helper()
		if got := r.Advance(key, id); got != want {
			t.Fatalf("advance to %d: %d, want %d", id, got, want)
		}
	}
	wants(5, MovedOn)
	wants(1000, MovedOn)
	wants(6, InQuestion)
	if !r.Settle(key, 7, 6) {
		t.Fatal("the mark stays beyond the newest message")
	}
	wants(6, NotMoved)
	wants(5, NotMoved)
	wants(7, MovedOn)
	wants(6, InQuestion)
	if r.Settle(key, 7, 6) {
		t.Fatal("a mark of a message moves back")
	}
	wants(6, NotMoved)
	wants(7, NotMoved)
}
