package bench

import (
	"context"
	"strings"
	"testing"
	"time"

	"teamtalk/bench/scenario"
)

// TestEndedInWarmup checks that a run that ends before counting begins has no result,
// also right after its start.
func TestEndedInWarmup(t *testing.T) {
	srv := newFaulty(t, faults{})
	s := srv.short(scenario.KindSingle)
	s.Warmup, s.Duration = scenario.Duration(time.Hour), scenario.Duration(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	res, err := Run(ctx, s, Options{Phase: func(text string) {
		if strings.HasPrefix(text, "warm-up") {
			cancel()
		}
	}})
	if res != nil || err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("%v, %v", res, err)
	}
}

// TestLateOverTheEnd stops a generator over the end of the run. The run must wait for the
// messages that were due before, and count them.
func TestLateOverTheEnd(t *testing.T) {
	srv := newFaulty(t, faults{})
	s := srv.short(scenario.KindSingle)
	s.Pairs, s.Rate, s.Duration, s.Loops = 4, 40, scenario.Duration(time.Second), 1
	r := &run{scenario: s, opt: &Options{}, result: &Result{}}
	defer r.close()
	for _, step := range []func(context.Context) error{r.gather, r.prepare} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	loop := r.parts[0].(*local).workers[0].loop
	r.opt.Phase = func(text string) {
		if !strings.HasPrefix(text, "counting") {
			return
		}
		end := time.Unix(0, r.plan.End)
		// Messages are due every 25 ms. The last one has been acked by then, and three
		// more are due.
		loop.Do(func() {
			loop.At(end.Add(-85*time.Millisecond).UnixNano(), func(int64) int64 {
				time.Sleep(time.Until(end.Add(100 * time.Millisecond))) // the fault under test
				return 0
			})
		})
	}
	if err := r.traffic(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := r.result.Checks; !c.Clean() || c.Behind == 0 {
		t.Errorf("%+v", c)
	}
	if n := r.result.Latencies["ack"].Count; n != 40 {
		t.Errorf("%d acked of 40", n)
	}
}
