package chat

import (
	"testing"
	"time"
)

// TestPace: the rate of a transfer counts from its first bytes, not from the offer.
func TestPace(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	p := pace{since: at}
	for _, c := range []struct {
		after   time.Duration
		carried int64
		want    float64
	}{{time.Second, 0, 0}, {time.Minute, 0, 0}, {time.Minute, 0, 0},
		{500 * time.Millisecond, 1000, 2000}, {500 * time.Millisecond, 3000, 3000},
		{2 * time.Second, 3000, 1000}} {
		at = at.Add(c.after)
		if got := p.rate(at, c.carried); got != c.want {
			t.Errorf("%d bytes %s later: %v bytes a second, want %v", c.carried, c.after, got,
				c.want)
		}
	}
	if got := (&pace{since: at}).rate(at, 5); got != 0 {
		t.Errorf("bytes in no time: %v bytes a second", got)
	}
}
