package rate

import (
	"testing"
	"time"
)

func TestBucketGivesBurstThenRate(t *testing.T) {
	var b Bucket
	now := time.UnixMilli(1_000_000)
	take := func(n int) (got int) {
		for range n {
			if b.Take(now, 2, 5) {
				got++
			}
		}
		return got
	}
	if n := take(10); n != 5 {
		t.Errorf("%d tokens at once, want 5", n)
	}
	now = now.Add(time.Second)
	if n := take(10); n != 2 {
		t.Errorf("%d tokens after a second, want 2", n)
	}
	now = now.Add(-time.Minute)
	if n := take(1); n != 0 {
		t.Errorf("%d tokens after the clock went back, want none", n)
	}
	now = now.Add(time.Hour)
	if n := take(10); n != 5 {
		t.Errorf("%d tokens after an hour, want 5", n)
	}
}

// TestSeveralTokens: tokens are taken all or none, and a debt is paid first.
func TestSeveralTokens(t *testing.T) {
	var b Bucket
	now := time.UnixMilli(1_000_000)
	if !b.TakeN(now, 3, 2, 5) || b.TakeN(now, 3, 2, 5) || !b.TakeN(now, 2, 2, 5) {
		t.Error("of 5 tokens, 3 and 2 can be taken, and not 3 twice")
	}
	b.Spend(4)
	if b.Take(now.Add(2*time.Second), 2, 5) {
		t.Error("a token before the debt of 4 is paid")
	}
	if !b.Take(now.Add(3*time.Second), 2, 5) {
		t.Error("no token once the debt is paid")
	}
}
