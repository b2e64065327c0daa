package mono

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pulses runs a Pulse with f for a while under virtual time, and returns when it called f, in
// whole seconds of its start.
func pulses(t *testing.T, busy, idle, length time.Duration, during func(*Pulse)) (calls []int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		time.Sleep(300 * time.Millisecond)
		p, stop := NewPulse(), make(chan struct{})
		var running sync.WaitGroup
		running.Go(func() {
			p.Run(stop, busy, idle, func() {
				if d := time.Since(start); d%time.Second != 0 {
					t.Errorf("called after %v, which is no whole second", d)
				}
				calls = append(calls, int(time.Since(start)/time.Second))
			})
		})
		during(p)
		time.Sleep(length - time.Since(start))
		close(stop)
		running.Wait()
	})
	return calls
}

// TestPulseSlowsWithoutUse: there are 30 s without use, then use for three seconds, and then
// none.
func TestPulseSlowsWithoutUse(t *testing.T) {
	calls := pulses(t, time.Second, 10*time.Second, 55*time.Second, func(p *Pulse) {
		time.Sleep(30 * time.Second)
		for range 300 {
			p.Use()
			time.Sleep(10 * time.Millisecond)
		}
	})
	if want := []int{10, 20, 30, 31, 32, 33, 34, 40, 50}; !slices.Equal(calls, want) {
		t.Errorf("called after %v, want %v", calls, want)
	}
}

// TestPulseWithoutIdleWaitsForUse: the last use is followed by a call.
func TestPulseWithoutIdleWaitsForUse(t *testing.T) {
	calls := pulses(t, 2*time.Second, 0, 100*time.Second, func(p *Pulse) {
		time.Sleep(21 * time.Second)
		p.Use()
		p.Use()
		time.Sleep(10 * time.Second)
		p.Use()
	})
	if want := []int{22, 32}; !slices.Equal(calls, want) {
		t.Errorf("called after %v, want %v", calls, want)
	}
}

// TestPulseUsedWhileItWorks: use during the work is not lost.
func TestPulseUsedWhileItWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop, calls := NewPulse(), make(chan struct{}), 0
		var running sync.WaitGroup
		running.Go(func() {
			p.Run(stop, time.Second, 0, func() {
				if calls++; calls < 3 {
					p.Use()
				}
			})
		})
		p.Use()
		time.Sleep(time.Minute)
		close(stop)
		running.Wait()
		if calls != 3 {
			t.Errorf("%d calls, want 3", calls)
		}
	})
}
