package report

import (
	"bytes"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"teamtalk/bench"
)

func pageOf(t *testing.T, write func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestHTML: the parts of a page that can be read, and what it must and must not have.
// TestHTML checks the text of each page against a golden file, and that a page has its
// charts and loads nothing from outside.
func TestHTML(t *testing.T) {
	c := compare(t, &File{Name: "a.json", Result: fixture()},
		&File{Name: "b.json", Result: lossy()})
	outside := regexp.MustCompile(`(?i)<script|<link|<img|<iframe|@import|url\(|(src|href)=`)
	for name, p := range map[string]struct {
		write  func(io.Writer) error
		charts []string
		red    bool
	}{
		"clean": {func(w io.Writer) error { return HTML(w, fixture()) },
			[]string{"Latency over time: ack", "Latency over time: delivery", "Percentiles",
				"Rates", "Processor time", "Memory", "Messages in flight", "Open connections"},
			false},
		"lossy": {func(w io.Writer) error { return HTML(w, lossy()) },
			[]string{"Latency over time: ack", "Rates"}, true},
		"compare": {c.HTML, []string{"Percentiles: ack", "p99 over time: delivery", "Rate: acked"},
			true},
		"sweep": {func(w io.Writer) error { return SweepHTML(w, sweep(t)) },
			[]string{"Latency against rate: ack", "Done against rate", "Percentiles: ack",
				"Processor time against rate"}, true},
	} {
		text := pageOf(t, p.write)
		if m := outside.FindString(text); m != "" {
			t.Errorf("%s: the page refers to another file: %s", name, m)
		}
		for _, title := range p.charts {
			if !strings.Contains(text, "<figcaption><b>"+title+"</b>") {
				t.Errorf("%s: no chart %q", name, title)
			}
		}
		if n := strings.Count(text, "<svg"); n < len(p.charts) ||
			n != strings.Count(text, "<figure>") {
			t.Errorf("%s: %d drawings", name, n)
		}
		if !strings.Contains(text, "prefers-color-scheme: dark") {
			t.Errorf("%s: no dark colours", name)
		}
		if p.red != regexp.MustCompile(`class="[^"]*\bbad"`).MatchString(text) {
			t.Errorf("%s: red text: want %v", name, p.red)
		}
		golden(t, name+".html", []byte(withoutDrawings(text)))
	}
}

// withoutDrawings leaves the page's text: the style sheet and the drawings are judged by eye.
// withoutDrawings removes the style sheet and the drawings. chart_test.go checks the
// drawings.
func withoutDrawings(text string) string {
	text = regexp.MustCompile(`(?s)<style>.*</style>`).ReplaceAllString(text, "<style/>")
	return regexp.MustCompile(`(?s)<svg.*?</svg>`).ReplaceAllString(text, "<svg/>")
}

// Seconds in which something went wrong are marked, and no others.
// TestMarks checks that each span with a failed check is marked, and no other.
func TestMarks(t *testing.T) {
	in, _ := spans(lossy().Intervals)
	var at []float64
	for _, s := range in {
		if s.faults {
			at = append(at, s.at)
		}
	}
	if !slices.Equal(at, []float64{17.5, 21.5}) {
		t.Errorf("marks at %v", at)
	}
	for name, n := range map[string]int{"clean": 0, "lossy": 2} {
		r := fixture()
		if name == "lossy" {
			r = lossy()
		}
		cs := charts(r)
		svg, err := cs[0].SVG()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(svg), `<circle`); got != n {
			t.Errorf("%s: %d marks", name, got)
		}
	}
}

// Long runs are drawn with no more points than can be seen, and what went wrong in them
// is not lost between these.
func TestSpans(t *testing.T) {
	var in []bench.Interval
	for i := range 6 * 3600 {
		next := bench.Interval{
			At: float64(i), Seconds: 1, Counts: map[string]int64{"acked": 10},
			Latencies: map[string]bench.Latency{"ack": {Count: 10, P50: 1, P99: 2, Max: 3}},
		}
		if i == 7777 {
			next.Latencies["ack"] = bench.Latency{Count: 10, P50: 1, P99: 500, Max: 900}
		}
		if i >= 7777 {
			next.Checks.Lost = 1
		}
		in = append(in, next)
	}
	out, each := spans(in)
	if len(out) > maxPoints || each != 36 {
		t.Errorf("%d points of %d", len(out), each)
	}
	var acked int64
	faults := 0
	highest := 0.0
	for _, s := range out {
		acked += s.counts["acked"]
		highest = max(highest, s.latencies["ack"].P99)
		if s.faults {
			faults++
		}
	}
	if acked != 10*6*3600 || highest != 500 || faults != 1 {
		t.Errorf("acked %d, highest p99 %v, %d faults", acked, highest, faults)
	}
}

// The percentile curve is the histogram's.
func TestCurve(t *testing.T) {
	l := fixture().Latencies["ack"]
	xs, ys, err := curve(&l)
	if err != nil || len(xs) < 200 || !slices.IsSorted(ys) || ys[len(ys)-1] > l.Max {
		t.Fatalf("%v: %d points to %v", err, len(xs), ys[len(ys)-1])
	}
	for i, x := range xs {
		if x >= 1 { // p90
			if math.Abs(ys[i]-l.P90) > 0.02*l.P90 {
				t.Errorf("p90 is %v on the curve, and %v", ys[i], l.P90)
			}
			break
		}
	}
	l.Histogram = l.Histogram[:len(l.Histogram)/2]
	if _, _, err := curve(&l); err == nil {
		t.Error("half a histogram is read")
	}
	l.Histogram = ""
	if xs, _, err := curve(&l); err != nil || len(xs) != 5 {
		t.Errorf("without histogram: %v, %d points", err, len(xs))
	}
}
