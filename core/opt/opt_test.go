package opt

import (
	"testing"
	"time"
)

func TestDefaultReplacesWhatIsNotPositive(t *testing.T) {
	for in, want := range map[time.Duration]time.Duration{-1: 7, 0: 7, 1: 1, 9: 9} {
		got := in
		Default(&got, 7)
		if got != want {
			t.Errorf("Default of %d: %d, want %d", in, got, want)
		}
	}
}

func TestRequirePanicsForAMissingOption(t *testing.T) {
	Require("x.Limit", 1)
	defer func() {
		const want = "option x.Wait is required and must be positive, got 0s"
		if got := recover(); got != want {
			t.Errorf("panic %v, want %q", got, want)
		}
	}()
	Require("x.Wait", time.Duration(0))
}
