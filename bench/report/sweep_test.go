package report

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"teamtalk/bench"
)

// sweep returns the sweep of a server that serves 10,000 a second, with the latency of a
// queue.
func sweep(t testing.TB) *bench.Sweep {
	t.Helper()
	o := bench.SweepOptions{Under: 20 * time.Millisecond, From: 2000, To: 50000, Factor: 1.5}
	s, err := bench.RunSweep(t.Context(), o, func(_ context.Context, rate float64) (*bench.Result,
		error) {
		r := fixture()
		r.Scenario.Rate, r.Intervals = rate, nil
		did := min(rate, 9900)
		wait := 1 / (1 - did/10000)
		r.Latencies = map[string]bench.Latency{"ack": {Count: int64(did * 30), P50: wait,
			P90: 1.5 * wait, P99: 2 * wait, P999: 3 * wait, Max: 5 * wait}}
		r.Totals = map[string]int64{"sent": int64(rate * 30), "acked": int64(did * 30)}
		if rate > did {
			r.Checks.Broken = 2
		}
		for i := range r.Processes {
			r.Processes[i].CPU *= did / 20000
		}
		return r, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSweepText(t *testing.T) {
	var b bytes.Buffer
	if err := SweepText(&b, sweep(t), false); err != nil {
		t.Fatal(err)
	}
	golden(t, "sweep.txt", b.Bytes())
	b.Reset()
	if err := SweepMarkdown(&b, sweep(t)); err != nil {
		t.Fatal(err)
	}
	golden(t, "sweep.md", b.Bytes())
}

// TestSweepHead checks what is said of the knee.
func TestSweepHead(t *testing.T) {
	for _, c := range []struct {
		s    bench.Sweep
		want string
		tone tone
	}{
		{bench.Sweep{Knee: 100}, "Knee: 100 a second", good},
		{bench.Sweep{Knee: 100, Open: true}, "Knee: at least 100 a second", warn},
		{bench.Sweep{}, "Knee: none", bad},
		{bench.Sweep{Open: true}, "Knee: not found", warn},
	} {
		c.s.Ended = "because"
		notes := sweepHead(&c.s).Notes
		last := notes[len(notes)-1]
		if !strings.HasPrefix(last.Text, c.want) || !strings.HasSuffix(last.Text, "because") ||
			last.Tone != c.tone {
			t.Errorf("%+v: %+v", c.s, last)
		}
	}
}

func TestAroundKnee(t *testing.T) {
	steps := func(n int) (out []bench.SweepStep) {
		for i := range n {
			out = append(out, bench.SweepStep{Rate: float64(i + 1)})
		}
		return out
	}
	for _, c := range []struct {
		n           int
		knee        float64
		first, last float64
	}{{3, 2, 1, 3}, {20, 10, 6, 13}, {20, 1, 1, 8}, {20, 20, 13, 20}, {20, 0, 1, 8}} {
		got := aroundKnee(steps(c.n), c.knee)
		if got[0].Rate != c.first || got[len(got)-1].Rate != c.last {
			t.Errorf("%d steps, knee %v: %v to %v", c.n, c.knee, got[0].Rate, got[len(got)-1].Rate)
		}
	}
}
