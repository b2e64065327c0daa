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
