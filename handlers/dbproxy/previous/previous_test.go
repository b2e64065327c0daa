package previous

import (
	"testing"
	"time"
)

func TestPredecessorOnItsWay(t *testing.T) {
	const ms = time.Millisecond
	p := New()
	now := time.Now()
	for _, st := range []struct {
		what         string
		after        time.Duration
		conversation uint64
		id, want     uint32
	}{
		{"nothing is known", 0, 1, 7, 0},
		{"the one before was stored just now", 10 * ms, 1, 8, 7},
		{"another conversation", 0, 2, 9, 0},
		{"the one before has arrived", 1100 * ms, 1, 9, 0},
		{"another db_proxy stored two", 1100 * ms, 1, 12, 11},
		{"in order again", 0, 1, 13, 12},
		{"an earlier one, settled later", 0, 1, 11, 0},
		{"the earlier one changed nothing", 0, 1, 14, 13},
		{"a long pause, in which others may have stored", 5 * time.Second, 1, 40, 0},
	} {
		now = now.Add(st.after)
		if got := p.Stored(st.conversation, st.id, now); got != st.want {
			t.Fatalf("%s: %d is behind %d, want %d", st.what, st.id, got, st.want)
		}
	}
}
