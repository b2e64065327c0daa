package mono

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatchLooksWhenItIsTime looks at times that are near, far, over, and not whole. Each look
// is at a whole second, not early, and at most a second late.
func TestWatchLooksWhenItIsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(300 * time.Millisecond)
		start := time.Now()
		waits := []time.Duration{0, 200 * time.Millisecond, 5 * time.Second, -time.Hour,
			1900 * time.Millisecond, time.Minute}
		var looks []time.Duration
		stop := make(chan struct{})
		var running sync.WaitGroup
		running.Go(func() {
			Watch(stop, time.Second, func(now time.Time) time.Time {
				looks = append(looks, now.Sub(start)+300*time.Millisecond)
				d := waits[0]
				waits = waits[1:]
				return now.Add(d)
			})
		})
		time.Sleep(30 * time.Second)
		close(stop)
		running.Wait()
		want := []time.Duration{300 * time.Millisecond, time.Second, 2 * time.Second,
			7 * time.Second, 8 * time.Second, 10 * time.Second}
		if !slices.Equal(looks, want) {
			t.Errorf("looked after %v, want %v", looks, want)
		}
	})
}

// TestEveryCallsAtMultiples: a slow call leaves out the calls that it covers.
func TestEveryCallsAtMultiples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(300 * time.Millisecond)
		start := time.Now()
		var calls []time.Duration
		stop := make(chan struct{})
		var running sync.WaitGroup
		running.Go(func() {
			Every(stop, 2*time.Second, func() {
				if calls = append(calls, time.Since(start)+300*time.Millisecond); len(calls) == 2 {
					time.Sleep(3 * time.Second)
				}
			})
		})
		time.Sleep(11 * time.Second)
		close(stop)
		running.Wait()
		want := []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second}
		if !slices.Equal(calls, want) {
			t.Errorf("called after %v, want %v", calls, want)
		}
	})
}

func TestUnitIsAFifthWithinBounds(t *testing.T) {
	for shortest, want := range map[time.Duration]time.Duration{
		time.Millisecond: 10 * time.Millisecond, time.Second: 200 * time.Millisecond,
		time.Minute: time.Second} {
		if got := Unit(shortest); got != want {
			t.Errorf("unit for %v: %v, want %v", shortest, got, want)
		}
	}
}
