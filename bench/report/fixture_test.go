package report

import (
	"bytes"
	"flag"
	"maps"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"teamtalk/bench"
	"teamtalk/bench/scenario"
)

// wobble returns a number between 0 and 1 that looks random and depends on n only.
func wobble(n int) float64 {
	_, f := math.Modf(math.Abs(math.Sin(float64(n)*12.9898) * 43758.5453))
	return f
}

// fixture returns a clean run of 30 seconds after 5 of warm-up, with a stall of the
// servers in the middle.
func fixture() *bench.Result {
	r := &bench.Result{
		Version: bench.ResultVersion, Started: time.Date(2026, 11, 26, 20, 30, 0, 0, time.UTC),
		Seconds: 30,
		Machine: bench.Machine{Host: "box", OS: "Linux 6.1.0", CPU: "AMD EPYC", Cores: 8,
			Memory: 24 << 30},
		Build:  "v0.9.0 (0123abcd)",
		Totals: map[string]int64{}, Latencies: map[string]bench.Latency{},
		Values: []bench.Value{{Name: "a connection takes", Unit: "kB", Value: 1.48,
			Better: "lower"}},
		Processes: []bench.Process{
			{Name: "msg", PID: 4711, Command: "teamtalk serve --roles msg", CPU: 1.31,
				RSSBefore: 21 << 20, RSSAfter: 42 << 20, RSSMax: 43 << 20},
			{Name: "dbproxy", PID: 4712, Command: "teamtalk serve --roles dbproxy", CPU: 0.92,
				RSSBefore: 30 << 20, RSSAfter: 66 << 20, RSSMax: 70 << 20},
			{Name: "mariadbd", PID: 900, Command: "mariadbd", CPU: 1.75, RSSBefore: 300 << 20,
				RSSAfter: 410 << 20, RSSMax: 410 << 20},
			{Name: "generator", PID: 5000, Command: "teamtalk bench single", Generator: true,
				CPU: 0.61, RSSBefore: 18 << 20, RSSAfter: 25 << 20, RSSMax: 25 << 20},
		},
		Ceilings: []bench.Ceiling{
			{Name: "echo of the same frames", Of: "acked", Rate: 310000, Percent: 6.45},
			{Name: "the same rows stored", Of: "acked", Rate: 61000, Percent: 32.8},
		},
	}
	r.Scenario = scenario.New(scenario.KindSingle)
	r.Scenario.Rate = 20000
	r.Scenario.Duration = scenario.Duration(30 * time.Second)
	r.Scenario.Warmup = scenario.Duration(5 * time.Second)
	r.Scenario.Password = "" // results do not keep it
	for i := -5; i < 30; i++ {
		r.Intervals = append(r.Intervals, fixtureInterval(r, i))
	}
	maps.Copy(r.Latencies, fixtureLatencies())
	return r
}

// measures are the latencies of the fixture.
var measures = []string{"ack", "delivery"}

// slowness is the factor by which the servers are slower in second i.
func slowness(i int) float64 {
	if i == 17 {
		return 40
	}
	return 1
}

// typical returns the median of measure k in second i, in milliseconds.
func typical(i, k int) float64 {
	return (2.2 + 1.1*float64(k)) * (1 + 0.15*wobble(7*i+k+100)) * math.Sqrt(slowness(i))
}

// fixtureInterval returns second i of the fixture. From second 0 it adds to the totals of r.
func fixtureInterval(r *bench.Result, i int) bench.Interval {
	in := bench.Interval{At: float64(i), Seconds: 1, Counts: map[string]int64{},
		Latencies: map[string]bench.Latency{}, Processes: map[string]bench.Usage{}, Open: 400}
	stall := slowness(i)
	for k, name := range []string{"sent", "acked", "delivered"} {
		n := int64(20000 - 400*wobble(3*i+k+100)*stall)
		if name == "sent" {
			n = 20000
		}
		in.Counts[name] = n
		if i >= 0 {
			r.Totals[name] += n
		}
	}
	for k, name := range measures {
		base := typical(i, k)
		in.Latencies[name] = bench.Latency{Count: 20000, Mean: base, P50: base, P90: base * 1.9,
			P99: base * 4, P999: base * 7, Max: base * (9 + 3*wobble(i+200))}
	}
	in.Waiting = int64(60 * (0.5 + wobble(i+300)) * stall)
	for k, p := range r.Processes {
		in.Processes[p.Name] = bench.Usage{CPU: p.CPU * (0.9 + 0.2*wobble(5*i+k+100)),
			RSS: p.RSSBefore + (p.RSSAfter-p.RSSBefore)*int64(i+5)/35}
	}
	return in
}

// fixtureLatencies returns the latencies of the whole run. The tests use the fixture often, and
// with the race detector its 120,000 values take most of their time. So they are recorded once.
var fixtureLatencies = sync.OnceValue(func() map[string]bench.Latency {
	all := map[string]bench.Latency{}
	for k, name := range measures {
		h := hdrhistogram.New(1, 60_000_000, 3)
		for i := range 30 {
			for j := range 2000 {
				q := (float64(j) + 0.5) / 2000
				v := 1000 * typical(i, k) * (0.6 + 0.5*math.Pow(-math.Log(1-q), 1.4))
				_ = h.RecordValues(int64(v), 10)
			}
		}
		all[name] = summary(h)
	}
	return all
})

// summary returns the latency of a histogram of microseconds.
func summary(h *hdrhistogram.Histogram) bench.Latency {
	text, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		panic(err)
	}
	ms := func(p float64) float64 { return float64(h.ValueAtPercentile(p)) / 1000 }
	return bench.Latency{
		Count: h.TotalCount(), Mean: math.Round(h.Mean()) / 1000, P50: ms(50), P90: ms(90),
		P99: ms(99), P999: ms(99.9), Max: float64(h.Max()) / 1000, Histogram: string(text),
	}
}

// lossy returns the same run with failed checks.
func lossy() *bench.Result {
	r := fixture()
	for i := range r.Intervals {
		if at := r.Intervals[i].At; at >= 17 {
			r.Intervals[i].Checks.Lost = 3
			if at >= 21 {
				r.Intervals[i].Checks.Duplicates = 1
			}
		}
	}
	r.Checks = bench.Checks{Lost: 3, Duplicates: 1, Behind: 12,
		Examples: []string{"user u00017: message 512 acked, not delivered to u00018"}}
	r.GeneratorBound = true
	return r
}

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (run the test with -update to write it):\n%s", path, got)
	}
}
