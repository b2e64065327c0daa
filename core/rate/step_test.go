package rate

import (
	"testing"
	"time"

	"teamtalk/core/mono"
)

func TestSteppedClockGivesNoTokens(t *testing.T) {
	for _, d := range []time.Duration{200 * time.Second, 900 * time.Second, -2 * time.Hour} {
		var b Bucket
		now := time.Now()
		for b.Take(now, 2, 5) {
		}
		if b.Take(mono.Step(now, d), 2, 5) {
			t.Errorf("step of %v: a token without time", d)
		}
		got := 0
		for b.Take(mono.Step(now.Add(time.Second), d), 2, 5) {
			got++
		}
		if got != 2 {
			t.Errorf("step of %v: %d tokens after a second, want 2", d, got)
		}
	}
}
