package bench

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// server returns results of a server with the latency of a queue and a limited capacity.
func server(capacity float64) func(context.Context, float64) (*Result, error) {
	return func(_ context.Context, rate float64) (*Result, error) {
		done, p99 := rate, 2/(1-rate/capacity) // milliseconds
		if rate >= capacity {
			done, p99 = capacity, 5000
		}
		return &Result{
			Version: ResultVersion, Seconds: 10,
			Totals:    map[string]int64{"acked": int64(done * 10)},
			Latencies: map[string]Latency{"ack": {Count: 1, P99: p99}},
		}, nil
	}
}

func TestSweep(t *testing.T) {
	// 2/(1-r/10000) < 20 as long as r < 9000.
	for _, o := range []SweepOptions{
		{From: 100, To: 50000},
		{From: 100, To: 50000, Factor: 2},
		{From: 1000, To: 50000, Step: 1500},
		{From: 1000, To: 50000, Step: 1500, Within: 0.001},
	} {
		o.Under = 20 * time.Millisecond
		var told, done int
		o.Before = func(n int, _ float64) { told = n }
		o.Done = func(*SweepStep) { done++ }
		s, err := RunSweep(t.Context(), o, server(10000))
		if err != nil {
			t.Fatal(err)
		}
		within := o.Within
		if within == 0 {
			within = 0.05
		}
		if s.Knee >= 9000 || s.Knee < 9000/(1+within) {
			t.Errorf("%+v: knee %v, want just below 9000", o, s.Knee)
		}
		if s.Open || !strings.Contains(s.Ended, "p99") {
			t.Errorf("%+v: open %v, ended %q", o, s.Open, s.Ended)
		}
		if told != len(s.Steps) || done != len(s.Steps) {
			t.Errorf("%+v: told of %d and %d steps of %d", o, told, done, len(s.Steps))
		}
		for _, step := range s.Steps {
			if step.Holds != (step.Rate < 9000) || step.Holds != (step.Why == "") {
				t.Errorf("%+v: at %v: %v %q", o, step.Rate, step.Holds, step.Why)
			}
		}
	}
}

// TestSweepEnds checks the reasons why a rate does not hold, and the ends of a sweep.
func TestSweepEnds(t *testing.T) {
	base := SweepOptions{Under: 20 * time.Millisecond, From: 1000, To: 4000, Step: 1000}
	spoilt := func(at float64, spoil func(*Result)) func(context.Context, float64) (*Result,
		error) {
		return func(ctx context.Context, rate float64) (*Result, error) {
			r, err := server(100000)(ctx, rate)
			if rate >= at {
				spoil(r)
			}
			return r, err
		}
	}
	for _, c := range []struct {
		name  string
		run   func(context.Context, float64) (*Result, error)
		knee  float64 // within 5 %
		open  bool
		ended string
	}{
		{"holds everywhere", server(100000), 4000, true, "highest"},
		{"loss", spoilt(2500, func(r *Result) { r.Checks.Lost = 1 }), 2500, false, "not clean"},
		{"generator-bound", spoilt(2500, func(r *Result) { r.GeneratorBound = true }), 2000, true,
			"generator"},
		{"does not keep up",
			spoilt(2500, func(r *Result) { r.Totals["acked"] = r.Totals["acked"] * 94 / 100 }),
			2500, false, "acked fell to 94 %"},
		{"keeps up just so",
			spoilt(2500, func(r *Result) { r.Totals["acked"] = r.Totals["acked"] * 96 / 100 }),
			4000, true, "highest"},
		{"nothing measured", spoilt(2500, func(r *Result) { r.Latencies = nil }), 2500, false,
			"no latency"},
		{"first does not hold", spoilt(0, func(r *Result) { r.Checks.Broken = 1 }), 0, false,
			"lowest"},
	} {
		s, err := RunSweep(t.Context(), base, c.run)
		if err != nil {
			t.Fatal(err)
		}
		if s.Knee > c.knee || s.Knee < c.knee*0.95 || s.Open != c.open ||
			!strings.Contains(s.Ended, c.ended) {
			t.Errorf("%s: knee %v, open %v, ended %q", c.name, s.Knee, s.Open, s.Ended)
		}
	}
}

// TestSweepAsked checks that the total is compared with another total when the rate
// counts other events too.
func TestSweepAsked(t *testing.T) {
	o := SweepOptions{Under: 20 * time.Millisecond, From: 1000, To: 4000, Step: 1000, Asked: "sent"}
	s, err := RunSweep(t.Context(), o, func(ctx context.Context, rate float64) (*Result, error) {
		r, err := server(100000)(ctx, rate/2)
		r.Totals["sent"] = r.Totals["acked"]
		if rate > 2500 {
			r.Totals["acked"] = r.Totals["acked"] * 9 / 10
		}
		return r, err
	})
	if err != nil || s.Knee > 2500 || s.Knee < 2375 ||
		!strings.Contains(s.Ended, "acked fell to 90 % of sent") {
		t.Errorf("%v: knee %v, %s", err, s.Knee, s.Ended)
	}
}

// TestSweepCutShort checks that a sweep that ends early returns the steps so far.
func TestSweepCutShort(t *testing.T) {
	o := SweepOptions{Under: time.Second, From: 1, To: 100, Step: 1}
	broken := errors.New("the servers are gone")
	s, err := RunSweep(t.Context(), o, func(ctx context.Context, rate float64) (*Result, error) {
		if rate == 4 {
			return nil, broken
		}
		return server(1000)(ctx, rate)
	})
	if !errors.Is(err, broken) || s == nil || s.Knee != 3 || !s.Open || len(s.Steps) != 3 {
		t.Errorf("%v, %+v", err, s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, err = RunSweep(ctx, o, func(ctx context.Context, rate float64) (*Result, error) {
		if rate == 3 {
			cancel() // this run is cut short
		}
		return server(1000)(ctx, rate)
	})
	if !errors.Is(err, context.Canceled) || s.Knee != 2 || !s.Open || len(s.Steps) != 2 {
		t.Errorf("%v, %+v", err, s)
	}
}

func TestSweepOptions(t *testing.T) {
	good := SweepOptions{Under: time.Second, From: 1, To: 2}
	for name, spoil := range map[string]func(*SweepOptions){
		"no bound":        func(o *SweepOptions) { o.Under = 0 },
		"no rate":         func(o *SweepOptions) { o.From = 0 },
		"downwards":       func(o *SweepOptions) { o.To = 0.5 },
		"without end":     func(o *SweepOptions) { o.To = math.Inf(1) },
		"both":            func(o *SweepOptions) { o.Step, o.Factor = 1, 2 },
		"standing still":  func(o *SweepOptions) { o.Factor = 1 },
		"step down":       func(o *SweepOptions) { o.Step = -1 },
		"factor no value": func(o *SweepOptions) { o.Factor = math.NaN() },
		"precision":       func(o *SweepOptions) { o.Within = 1 },
	} {
		o := good
		spoil(&o)
		if s, err := RunSweep(t.Context(), o, server(1000)); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
	// With so small a step the sweep cannot reach the end, and still stops.
	good.Step = 1e-9
	s, err := RunSweep(t.Context(), good, server(1000))
	if err != nil || len(s.Steps) != sweepSteps || !s.Open {
		t.Errorf("%v, %d steps", err, len(s.Steps))
	}
}
