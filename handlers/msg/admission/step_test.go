package admission

import (
	"net/netip"
	"testing"
	"time"

	"teamtalk/core/mono"
)

// TestSteppedClockKeepsTurns steps the wall clock between a kick and the next login.
func TestSteppedClockKeepsTurns(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	for _, d := range []time.Duration{200 * time.Second, 900 * time.Second, -2 * time.Hour} {
		f, now := newFights(), time.Now()
		f.kicked(1, 0, addr, now)
		if got := f.wait(1, 0, addr, mono.Step(now.Add(time.Second), d)); got != fightGap-
			time.Second {
			t.Errorf("step of %v: waits %v after a second, want %v", d, got, fightGap-time.Second)
		}
		if got := f.wait(1, 0, addr, mono.Step(now.Add(fightGap), d)); got != 0 {
			t.Errorf("step of %v: waits %v after %v", d, got, fightGap)
		}
	}
}
