package bench

import (
	"fmt"
	"testing"
	"time"
)

// TestPlan checks that intervals follow each other without a gap from the start, and that
// one ends when counting begins and one when it ends.
func TestPlan(t *testing.T) {
	for _, c := range [][2]time.Duration{{0, time.Second}, {2 * time.Second, 10 * time.Second},
		{200 * time.Millisecond, 1500 * time.Millisecond}, {0, 10 * time.Millisecond},
		{2500 * time.Millisecond, 500 * time.Millisecond}} {
		p := plan{Start: 1000}
		p.Begin = p.Start + int64(c[0])
		p.End = p.Begin + int64(c[1])
		at := p.Start
		begin, end := c[0] == 0, false
		for i := range 30 {
			next := p.boundary(i)
			if next <= at || next-at > second {
				t.Errorf("%v: interval %d from %d to %d", c, i, at, next)
			}
			at = next
			begin = begin || at == p.Begin
			end = end || at == p.End
		}
		if !begin || !end {
			t.Errorf("%v: want an interval that ends when counting begins (%v) and one when it "+
				"ends (%v)", c, begin, end)
		}
	}
}

// TestPace checks that parts of a rate alternate, and that random arrivals have the same
// mean rate.
func TestPace(t *testing.T) {
	a, b := newPace(100, 0, false), newPace(100, 0.5, false)
	for i := range int64(5) {
		if at := a.step(nil); at != i*10e6 {
			t.Errorf("the first is due at %d", at)
		}
		if at := b.step(nil); at != i*10e6+5e6 {
			t.Errorf("the second is due at %d", at)
		}
	}
	p := newPace(1000, 0, true)
	draws := 0
	for p.step(func() float64 { draws++; return float64(draws%2) * 2 }) < second {
	}
	if draws < 990 || draws > 1010 {
		t.Errorf("%d in a second", draws)
	}
}

// TestKeep checks that a long run keeps a bounded number of intervals with the sums of
// all seconds.
func TestKeep(t *testing.T) {
	r := &run{result: &Result{}, plan: plan{End: never}}
	const n = 10 * 3600
	for i := range n {
		r.keep(&Interval{At: float64(i - 5), Seconds: 1, Counts: map[string]int64{"acked": 2},
			Latencies: map[string]Latency{"ack": {Count: 2, Mean: float64(i),
				P99: float64(i % 100)}}})
	}
	list := r.result.Intervals
	if len(list) > keepIntervals+1 {
		t.Errorf("%d intervals", len(list))
	}
	count, seconds, at := int64(0), 0.0, -5.0
	for _, in := range list {
		if in.At != at {
			t.Fatalf("an interval begins at %v, the one before ended at %v", in.At, at)
		}
		at += in.Seconds
		count += in.Counts["acked"]
		seconds += in.Seconds
		if in.Latencies["ack"].Count != in.Counts["acked"] {
			t.Errorf("latency of %d", in.Latencies["ack"].Count)
		}
	}
	if count != 2*n || seconds != n {
		t.Errorf("%d in %v s", count, seconds)
	}
	if fmt.Sprint(list[0].At) != "-5" {
		t.Errorf("begins at %v", list[0].At)
	}
}
