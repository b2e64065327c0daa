package mono

import (
	"testing"
	"time"

	"teamtalk/core/mono/monotest"
)

func TestOfIgnoresSteps(t *testing.T) {
	now := time.Now()
	for _, d := range []time.Duration{200 * time.Second, 900 * time.Second, -2 * time.Hour} {
		later := monotest.Step(now.Add(3*time.Second), d)
		if got := Of(later) - Of(now); got != int64(3*time.Second) {
			t.Errorf("step of %v: 3 s count as %v", d, time.Duration(got))
		}
	}
	wall := time.Unix(1_700_000_000, 0)
	if Of(wall) != wall.UnixNano() {
		t.Errorf("%v without a monotonic reading is %d", wall, Of(wall))
	}
	if got := Of(wall.Add(time.Minute)) - Of(wall); got != int64(time.Minute) {
		t.Errorf("a minute of wall time counts as %v", time.Duration(got))
	}
}
