package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var policy = Policy{
	First: 50 * time.Millisecond, Recent: 400 * time.Millisecond, Fresh: 30 * time.Second,
	Max: 64 * time.Second, Spread: 0.5,
}

func TestDelayGrowsWithTheOutage(t *testing.T) {
	for _, c := range []struct {
		failures int
		away     time.Duration
		want     time.Duration
	}{
		{0, 0, 50 * time.Millisecond},
		{1, 60 * time.Millisecond, 100 * time.Millisecond},
		{2, time.Second, 200 * time.Millisecond},
		{3, time.Second, 400 * time.Millisecond},
		{4, time.Second, 400 * time.Millisecond},
		{63, 30 * time.Second, 400 * time.Millisecond},
		{1 << 40, 30 * time.Second, 400 * time.Millisecond},
		{70, 34 * time.Second, 1400 * time.Millisecond},
		{0, 34 * time.Second, 1400 * time.Millisecond},
		{80, 5 * time.Minute, 64 * time.Second},
		{90, 300 * time.Hour, 64 * time.Second},
	} {
		if got := policy.Delay(c.failures, c.away, 0); got != c.want {
			t.Errorf("Delay(%d, %v) = %v, want %v", c.failures, c.away, got, c.want)
		}
		half := policy.Delay(c.failures, c.away, 0.999999)
		if half < c.want/2 || half > c.want/2+c.want/1000 {
			t.Errorf("Delay(%d, %v) with the most jitter = %v, want %v",
				c.failures, c.away, half, c.want/2)
		}
	}
}

// TestAttemptsDecrease counts the attempts against a server that stays away.
func TestAttemptsDecrease(t *testing.T) {
	attempts := func(during time.Duration) (n int) {
		for away := time.Duration(0); away < during; n++ {
			away += policy.Delay(n, away, 0.5)
		}
		return n
	}
	for _, c := range []struct {
		during time.Duration
		most   int
	}{{time.Second, 6}, {30 * time.Second, 110}, {5 * time.Minute, 140}, {time.Hour, 220}} {
		if n := attempts(c.during); n > c.most {
			t.Errorf("%d attempts in %v, want at most %d", n, c.during, c.most)
		}
	}
}

// TestCrowdReturnsEvenly spreads clients that lost a server at the same moment over the
// pause.
func TestCrowdReturnsEvenly(t *testing.T) {
	p := Policy{First: 800 * time.Millisecond, Recent: 800 * time.Millisecond,
		Fresh: time.Minute, Max: time.Minute, Spread: 1}
	var tenths [10]int
	for i := range 1000 {
		tenths[p.Delay(0, 0, float64(i)/1000)*10/(800*time.Millisecond+1)]++
	}
	for i, n := range tenths {
		if n < 90 || n > 110 {
			t.Errorf("tenth %d of the pause has %d of 1000 clients", i, n)
		}
	}
}

func TestDoublingStopsAtTheLongestPause(t *testing.T) {
	p := Doubling(time.Second, 5*time.Second)
	for failures, want := range []time.Duration{1, 2, 4, 5, 5} {
		want *= time.Second
		if got := p.Delay(failures, 0, 0); got != want {
			t.Errorf("pause after %d failures: %v, want %v", failures+1, got, want)
		}
		least := p.Delay(failures, 0, 0.999999)
		if least < want/2 || least > want/2+want/1000 {
			t.Errorf("shortest pause after %d failures: %v, want %v", failures+1, least, want/2)
		}
	}
}

// TestSleepEnds: after its time without an error, and at once with that of its context.
func TestSleepEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if err := Sleep(t.Context(), time.Hour); err != nil || time.Since(begin) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(begin) != time.Hour+time.Minute {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}
