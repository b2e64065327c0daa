package turns

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"teamtalk/core/session"
	"teamtalk/handlers/msg/missing"
	"teamtalk/proto/pb"
)

// world is Turns with a clock and connections.
type world struct {
	*Turns
	now   time.Time
	marks missing.Marks
	got   []uint32 // the ids that were delivered
}

func newWorld() *world {
	w := &world{now: time.Now()}
	opt := testOptions(func(t Turn) { w.got = append(w.got, t.M.MsgID) })
	opt.Now = func() time.Time { return w.now }
	opt.Since = func(age time.Duration) uint64 { return w.marks.Since(w.now, age) }
	w.Turns = New(opt)
	return w
}

// pass lets d pass, with a mark in each second.
func (w *world) pass(d time.Duration) {
	for range int(d / time.Second) {
		w.marks.Note(w.now)
		w.now = w.now.Add(time.Second)
	}
}

func TestRepeat(t *testing.T) {
	w := newWorld()
	wants := func(what string, id uint32, age time.Duration, deliver bool) (before uint64) {
		t.Helper()
		before, known := w.Repeat(1, id, uint32(w.now.Add(-age).Unix()))
		if known == deliver {
			t.Fatalf("%s: known is %v", what, known)
		}
		return before
	}
	w.pass(20 * time.Second)
	first := session.NextID()
	w.pass(20 * time.Second)
	if before := wants("nothing is known", 7, 18*time.Second, true); before < first-2 ||
		before > first+1 {
		t.Errorf("delivered to connections before %d, want about %d", before, first)
	}
	wants("it was delivered as a repeat", 7, 18*time.Second, false)
	if w.First(1, 7) {
		t.Error("the first one is delivered after its repeat")
	}
	if !w.First(1, 9) || !w.First(2, 7) {
		t.Error("another one is not delivered")
	}
	wants("delivered", 9, 0, false)
	wants("not delivered, between others", 8, time.Second, true)
	if before := wants("before all connections", 6, time.Minute, true); before != 1 {
		t.Errorf("delivered to connections before %d", before)
	}
	w.pass(keep - time.Minute)
	wants("delivered minutes ago", 9, keep-time.Minute, false)
	wants("too old", 3, keep+time.Second, false)
	wants("of a clock that is ahead", 10, -time.Hour, true)
}

// TestOldAfterNewer: a message that its sender repeats late, or that is found in the history
// then, is not delivered after a newer one.
func TestOldAfterNewer(t *testing.T) {
	w := newWorld()
	message := func(id uint32, stored time.Time, repeat bool) Turn {
		return Turn{M: &pb.MsgData{FromUserID: 1, ToSessionID: 2, MsgID: id, Duplicate: repeat,
			CreateTime: uint32(stored.Unix()), HasPrevID: !repeat,
			Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT}}
	}
	w.pass(20 * time.Second)
	session.NextID()
	stored := w.now
	w.pass(10 * time.Second)
	w.Take(message(5, w.now, false))
	w.pass(turnAge + 30*time.Second)
	if !w.TakeRepeat(message(3, stored, true)) {
		t.Error("a repeat counts as delivered, and the other message servers do not get it")
	}
	w.Take(message(4, stored, false))
	w.Take(message(6, w.now, false))
	if !slices.Equal(w.got, []uint32{5, 6}) {
		t.Errorf("delivered %v", w.got)
	}
	w.pass(keep + time.Second)
	w.Take(message(1, w.now, false)) // ids began again, as after a database was restored
	if !slices.Equal(w.got, []uint32{5, 6, 1}) {
		t.Errorf("delivered %v", w.got)
	}
}

// TestForgotten: what the record has no room for counts as delivered.
func TestForgotten(t *testing.T) {
	w := newWorld()
	for i := range w.shards {
		w.shards[i].known.Max = 8
	}
	w.pass(10 * time.Second)
	w.First(1, 1)
	for i := range uint64(4 * 8 * shards) {
		w.First(i+2, 1)
	}
	if _, known := w.Repeat(1, 1, uint32(w.now.Unix())-3); !known {
		t.Error("a message that was delivered and forgotten is delivered again")
	}
	w.pass(10 * time.Second)
	if _, known := w.Repeat(1, 2, uint32(w.now.Unix())); known {
		t.Error("a message of now counts as delivered")
	}
}

func TestIDs(t *testing.T) {
	for range 200 {
		var s ids
		want := map[uint32]bool{}
		for range rand.IntN(100) {
			id := 1 + rand.Uint32N(30) // at most 15 spans
			s.add(id)
			want[id] = true
		}
		for id := range uint32(32) {
			if s.has(id) != want[id] {
				t.Fatalf("%d in %v is %v", id, s.spans, s.has(id))
			}
		}
		for i := range s.spans {
			if i > 0 && s.spans[i-1].high+1 >= s.spans[i].low {
				t.Fatalf("spans that touch: %v", s.spans)
			}
		}
	}
	var s ids
	for id := uint32(2); id < 1000; id += 2 {
		s.add(id)
	}
	if len(s.spans) != maxSpans || !s.has(3) || s.has(999) || s.has(997) || !s.has(998) {
		t.Errorf("%d spans: %v", len(s.spans), s.spans)
	}
}
