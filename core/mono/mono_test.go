package mono

import (
	"testing"
	"time"
)

func TestOfIgnoresSteps(t *testing.T) {
	now := time.Now()
	for _, d := range []time.Duration{200 * time.Second, 900 * time.Second, -2 * time.Hour} {
		later := Step(now.Add(3*time.Second), d)
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

// TestStepWall steps the clock that servers read. Its wall time moves, its durations do
// not.
func TestStepWall(t *testing.T) {
	defer StepWall(0)
	before := Now()
	for _, d := range []time.Duration{200 * time.Second, -2 * time.Hour, 0} {
		StepWall(d)
		now, real := Now(), time.Now()
		if got := now.Round(0).Sub(real.Round(0)); got < d-time.Minute || got > d+time.Minute {
			t.Errorf("the clock is off by %v, want %v", got, d)
		}
		if passed := now.Sub(before); passed < 0 || passed > time.Minute {
			t.Errorf("step of %v: %v have passed", d, passed)
		}
	}
}
