package process

import (
	"context"
	"testing"
	"time"
)

// asks returns how many of n turns, one in each interval from a time on, ask for a release when
// each is done before the next turn.
func (r *Releaser) asks(from time.Time, interval time.Duration, n int) (asked int) {
	for i := range n {
		r.Ended(from.Add(time.Duration(i) * interval))
		select {
		case <-r.wake:
			asked++
		default:
		}
	}
	return asked
}

// TestFewTurnsRelease: each of few turns releases the processors, of many turns none but those
// at the begin, and few turns after them do again.
func TestFewTurnsRelease(t *testing.T) {
	r, now := NewReleaser(), time.Now()
	if n := r.asks(now, 15*time.Millisecond, 1000); n != 1000 {
		t.Errorf("67 turns a second: %d of 1000 released", n)
	}
	now = now.Add(time.Minute)
	if n := r.asks(now, 100*time.Microsecond, 10_000); n > quietTurns {
		t.Errorf("10,000 turns in a second: %d released", n)
	}
	now = now.Add(time.Minute)
	if n := r.asks(now, time.Second, 100); n != 100 {
		t.Errorf("one turn a second: %d of 100 released", n)
	}
}

// TestReleaserFollowsTurns: a turn that ends meanwhile gets one release more, and loops that never
// rest do not keep the Releaser busy.
func TestReleaserFollowsTurns(t *testing.T) {
	for more, want := range map[int]int{0: 1, 1: 2, 100: releases} {
		r, released := NewReleaser(), 0
		r.release = func() {
			if released++; released <= more {
				r.Ended(time.Now())
			}
		}
		r.releaseAll()
		if released != want {
			t.Errorf("%d turns meanwhile: released %d times, want %d", more, released, want)
		}
	}
}

// TestReleaserRuns: the real release happens, and Run ends with its context.
func TestReleaserRuns(t *testing.T) {
	r := NewReleaser()
	done := make(chan struct{}, 10)
	stop := r.release
	r.release = func() { stop(); done <- struct{}{} }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { r.Run(ctx); close(ended) }()
	for range 3 {
		r.Ended(time.Now())
		<-done
	}
	cancel()
	<-ended
}
