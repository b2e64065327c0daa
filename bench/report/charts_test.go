package report

import (
	"testing"

	"teamtalk/bench"
)

// TestShortLastInterval joins a short last interval to the one before. Its counts are
// left out of the rate, and its latencies and faults are kept.
func TestShortLastInterval(t *testing.T) {
	usage := func(cpu float64) map[string]bench.Usage {
		return map[string]bench.Usage{"msg": {CPU: cpu}}
	}
	in := []bench.Interval{
		{At: 0, Seconds: 1, Counts: map[string]int64{"acked": 10},
			Latencies: map[string]bench.Latency{"ack": {Count: 10, P99: 1}}, Processes: usage(1)},
		{At: 1, Seconds: 0.02, Counts: map[string]int64{"acked": 5},
			Latencies: map[string]bench.Latency{"ack": {Count: 5, P99: 3}}, Processes: usage(30),
			Checks: bench.Checks{Lost: 2}},
	}
	got, each := spans(in)
	if len(got) != 1 || each != 1 {
		t.Fatalf("%+v", got)
	}
	if s := got[0]; s.seconds != 1 || s.rate("acked") != 10 || s.processes["msg"].CPU != 1 ||
		!s.faults || s.latencies["ack"].P99 != 3 {
		t.Errorf("%+v", s)
	}
	if in[0].Checks.Lost != 0 || in[0].Latencies["ack"].P99 != 1 {
		t.Errorf("the result was changed: %+v", in[0])
	}
	in[1].Seconds = 0.6
	if got, _ := spans(in); len(got) != 2 {
		t.Errorf("%+v", got)
	}
}
