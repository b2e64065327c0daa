package report

import (
	"bytes"
	"strings"
	"testing"

	"teamtalk/bench"
	"teamtalk/bench/scenario"
)

// faster returns the fixture with some values better and some worse.
func faster() *bench.Result {
	r := fixture()
	r.Build = "v1.0.0 (89abcdef)"
	r.Totals["acked"] = r.Totals["acked"] * 12 / 10
	ack, del := r.Latencies["ack"], r.Latencies["delivery"]
	ack.P50 *= 0.7  // better
	ack.P90 *= 1.04 // noise
	ack.P99 *= 1.09 // noise, for a p99
	ack.P999 *= 1.15
	del.P50 *= 1.3 // worse
	r.Latencies["ack"], r.Latencies["delivery"] = ack, del
	r.Values = append(r.Values, bench.Value{Name: "first syncs", Unit: "ms", Value: 12})
	return r
}

func compare(t *testing.T, files ...*File) *Comparison {
	t.Helper()
	c, err := Compare(files, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCompare(t *testing.T) {
	a, b, l := &File{Name: "x/before.json", Result: fixture()},
		&File{Name: "x/after.json", Result: faster()}, &File{Name: "x/lossy.json", Result: lossy()}
	l.Result.Scenario.Rate = 30000
	l.Result.Machine.Cores = 4
	for name, c := range map[string]*Comparison{"compare2": compare(t, a, b),
		"compare3": compare(t, a, b, l)} {
		var out bytes.Buffer
		if err := c.Text(&out, false); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt", out.Bytes())
		out.Reset()
		if err := c.Markdown(&out); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".md", out.Bytes())
	}
}

// TestCompareWarns checks that each warning appears for its cause, and only then.
func TestCompareWarns(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*bench.Result)
		want  string
	}{
		"nothing": {func(*bench.Result) {}, ""},
		"scenario": {func(r *bench.Result) { r.Scenario.Rate = 1 },
			"the scenario of b differs: rate 1 (was 20000)"},
		"machine": {func(r *bench.Result) { r.Machine.CPU = "abacus" },
			"the machine of b differs"},
		"not clean": {func(r *bench.Result) { r.Checks.Lost = 1 }, "b is NOT CLEAN: 1 lost"},
		"generator": {func(r *bench.Result) { r.GeneratorBound = true }, "b is GENERATOR-BOUND"},
	} {
		b := fixture()
		c.spoil(b)
		notes := compare(t, &File{Name: "a", Result: fixture()},
			&File{Name: "b", Result: b}).warnings()
		if c.want == "" && len(notes) != 0 || c.want != "" &&
			(len(notes) != 1 || !strings.Contains(notes[0].Text, c.want)) {
			t.Errorf("%s: %v", name, notes)
		}
	}
}

// TestCompareUnclean checks that a better value of a result that is not clean is not
// called better.
func TestCompareUnclean(t *testing.T) {
	b := faster()
	b.Checks.Lost = 1
	for _, r := range compare(t, &File{Name: "a", Result: fixture()},
		&File{Name: "b", Result: b}).latencies() {
		if text, tone := r.ratio(1); tone == good || strings.Contains(text, "better") {
			t.Errorf("%s: %s", r.name, text)
		}
	}
}

// TestCompareKinds checks that results of different kinds of scenarios are neither better
// nor worse.
func TestCompareKinds(t *testing.T) {
	b := faster()
	b.Scenario = scenario.New(scenario.KindGroup)
	for _, r := range compare(t, &File{Name: "a", Result: fixture()},
		&File{Name: "b", Result: b}).latencies() {
		if text, tone := r.ratio(1); tone == good || tone == bad ||
			strings.Contains(text, "better") || strings.Contains(text, "WORSE") {
			t.Errorf("%s: %s", r.name, text)
		}
	}
}

func TestCompareRefuses(t *testing.T) {
	f := &File{Result: fixture()}
	for name, files := range map[string][]*File{"one": {f},
		"a sweep": {f, {Sweep: &bench.Sweep{}}}} {
		if _, err := Compare(files, 0); err == nil {
			t.Errorf("%s is compared", name)
		}
	}
	for _, noise := range []float64{-1, 1} {
		if _, err := Compare([]*File{f, f}, noise); err == nil {
			t.Errorf("noise %v is accepted", noise)
		}
	}
}
