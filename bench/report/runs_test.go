package report

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// runs returns results of the fixture whose acks took scale[i] of the time, and whose rate
// changed as much.
func runs(scale ...float64) []*File {
	var out []*File
	for i, s := range scale {
		r := fixture()
		ack := r.Latencies["ack"]
		ack.P50 *= s
		r.Latencies["ack"] = ack
		out = append(out, &File{Name: fmt.Sprintf("run%d.json", i), Result: r})
	}
	return out
}

// TestCompareRuns: the verdict names what differs by more than chance and noise, and nothing else.
func TestCompareRuns(t *testing.T) {
	steady := []float64{1, 1.2, 0.9, 1.1}
	for name, c := range map[string]struct {
		before, after []float64
		want          string
	}{
		"better": {steady, []float64{0.7, 0.8, 0.6, 0.7},
			"after is better: latency ack p50 0.67×"},
		"worse": {steady, []float64{1.3, 1.4, 1.5, 1.6},
			"after is WORSE: latency ack p50 1.38×"},
		"the same": {steady, []float64{1.05, 1.15, 0.95, 1.25},
			"after: no difference from before"},
		"one outlier": {[]float64{1, 1.01, 1.02, 1.03, 9}, []float64{1.01, 1.02, 1, 1.03, 1},
			"no difference"},
		"small": {[]float64{1, 1.001, 1.002, 1.003}, []float64{1.01, 1.011, 1.012, 1.013},
			"no difference"},
		"too few runs": {steady[:3], []float64{0.5, 0.6, 0.5},
			"may differ, and has too few runs"},
	} {
		cmp, err := CompareRuns([][]*File{runs(c.before...), runs(c.after...)},
			[]string{"x/before", "x/after/"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := cmp.Text(&out, false); err != nil {
			t.Fatal(err)
		}
		if text := out.String(); !strings.Contains(text, c.want) ||
			strings.Count(text, "Verdict") != 1 {
			t.Errorf("%s: no %q in:\n%s", name, c.want, text)
		}
	}
}

// TestCompareRunsUnclean: a run that is not clean is named, and makes nothing better.
func TestCompareRunsUnclean(t *testing.T) {
	before, after := runs(1, 1, 1, 1), runs(0.5, 0.5, 0.5, 0.5)
	after[2].Result.Checks.Lost = 1
	after[1].Result.GeneratorBound = true
	after[3].Result.Scenario.First = 201 // other users, no difference
	c, err := CompareRuns([][]*File{before, after}, []string{"before", "after"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := c.HTML(&out); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "after, run 3 is NOT CLEAN: 1 lost") ||
		!strings.Contains(text, "after is GENERATOR-BOUND in 1 of 4 runs") ||
		strings.Contains(text, "is better") || strings.Contains(text, "differs") {
		t.Errorf("page: %s", text)
	}
}
