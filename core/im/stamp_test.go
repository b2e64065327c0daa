package im

import "testing"

// TestStampsNeverGoBack: the time of a change is never before the newest time in the
// list. After the clock is set back it is later than every time that was reported before.
func TestStampsNeverGoBack(t *testing.T) {
	var s Stamps
	for _, c := range []struct {
		what              string
		newest, now, want int64
	}{
		{"the clock", 1000, 2000, 2000},
		{"the same second", 2000, 2000, 2000},
		{"another clock is ahead", 2005, 2000, 2006},
		{"it is still ahead", 2006, 2003, 2006},
		{"it was not", 2006, 2010, 2010},
		{"set back", 2010, 1000, 2011},
		{"not committed", 2010, 1000, 2011},
		{"the second change shares the time", 2011, 1001, 2011},
		{"another server's change", 2012, 1002, 2012},
		{"set back further", 2012, 500, 2012},
		{"caught up", 2012, 2012, 2012},
		{"set back again", 2012, 1000, 2013},
	} {
		if got := s.Next(c.newest, c.now); got != c.want {
			t.Errorf("%s: newest %d at %d: %d, want %d", c.what, c.newest, c.now, got, c.want)
		}
	}
}
