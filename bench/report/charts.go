package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"teamtalk/bench"
	"teamtalk/bench/report/axis"
)

// maxPoints is the largest number of points of a line over time. In longer runs each
// point shows several intervals.
const maxPoints = 600

// span joins a few intervals of a run, shown as one point.
// the middle, in seconds
type span struct {
	at        float64 // its middle
	seconds   float64
	counts    map[string]int64
	latencies map[string]bench.Latency // mean of the medians, maximum of the higher percentiles
	processes map[string]bench.Usage
	waiting   int64
	open      int64
	faults    bool // one of Checks that make a result not clean has grown
}

// rate returns a count a second; NaN where the span is too short to have one, as the last
// of a run is.
func (s *span) rate(name string) float64 {
	if s.seconds < 0.2 {
		return math.NaN()
	}
	return float64(s.counts[name]) / s.seconds
}

// shortest is the shortest last interval that is shown on its own, in seconds. A shorter
// one is too short to compute a rate or processor time.
const shortest = 0.5

// tailed joins the last interval of a run to the one before when it is short, so that
// late deliveries and faults in it are shown.
func tailed(in []bench.Interval) []bench.Interval {
	n := len(in) - 1
	if n < 1 || in[n].Seconds >= shortest {
		return in
	}
	last, out := in[n], slices.Clone(in[:n])
	before := &out[n-1]
	before.Checks, before.Latencies = last.Checks, maps.Clone(before.Latencies)
	for name, l := range last.Latencies {
		if before.Latencies == nil {
			before.Latencies = map[string]bench.Latency{}
		}
		before.Latencies[name] = merge(before.Latencies[name], l)
	}
	return out
}

// spans joins intervals so that at most maxPoints remain, and returns how many went into
// one.
func spans(in []bench.Interval) ([]span, int) {
	in = tailed(in)
	each := (len(in) + maxPoints - 1) / maxPoints
	var out []span
	var before bench.Checks
	for i := 0; i < len(in); i += each {
		group := in[i:min(len(in), i+each)]
		out = append(out, join(group, &before))
		before = group[len(group)-1].Checks
	}
	return out, each
}

func join(group []bench.Interval, before *bench.Checks) span {
	s := span{counts: map[string]int64{}, latencies: map[string]bench.Latency{},
		processes: map[string]bench.Usage{}}
	for _, i := range group {
		s.seconds += i.Seconds
		for name, n := range i.Counts {
			s.counts[name] += n
		}
		for name, l := range i.Latencies {
			s.latencies[name] = merge(s.latencies[name], l)
		}
		for name, u := range i.Processes {
			sum := s.processes[name]
			s.processes[name] = bench.Usage{CPU: sum.CPU + u.CPU/float64(len(group)),
				RSS: max(sum.RSS, u.RSS)}
		}
		s.waiting, s.open = max(s.waiting, i.Waiting), max(s.open, i.Open)
	}
	s.at = group[0].At + s.seconds/2
	last := group[len(group)-1].Checks
	was, is := faults(before), faults(&last)
	for k := range is {
		s.faults = s.faults || is[k].n > was[k].n
	}
	return s
}

func merge(a, b bench.Latency) bench.Latency {
	switch {
	case a.Count <= 0:
		return b
	case b.Count <= 0:
		return a
	}
	n := float64(a.Count) + float64(b.Count)
	return bench.Latency{
		Count: a.Count + b.Count, P50: (a.P50*float64(a.Count) + b.P50*float64(b.Count)) / n,
		P90: max(a.P90, b.P90), P99: max(a.P99, b.P99), P999: max(a.P999, b.P999),
		Max: max(a.Max, b.Max),
	}
}

// charts returns the charts of one result, in the order of the page.
func charts(r *bench.Result) []chart {
	in, each := spans(r.Intervals)
	t := timeline{in: in, each: each}
	var out []chart
	for _, name := range namesInOrder(r.Latencies) {
		out = append(out, t.latency(name))
	}
	curves := percentileChart("Percentiles")
	for i, name := range namesInOrder(r.Latencies) {
		l := r.Latencies[name]
		curves.addCurve(name, seriesClass(i), &l)
	}
	out = append(out, curves)
	rates, bytes := t.chart("Rates", "a second"), t.chart("Bytes", "a second")
	for i, name := range namesInOrder(r.Totals) {
		to := &rates
		if isBytes(name) {
			to = &bytes
		}
		to.Lines = append(to.Lines, t.line(name, seriesClass(i), func(s *span) float64 {
			if s.at > r.Seconds {
				return math.NaN() // deliveries of messages sent before the end
			}
			return s.rate(name)
		}))
	}
	out = append(out, t.withFaults(rates), bytes)
	open := t.chart("Open connections", "")
	open.Lines = []line{t.line("open", "c3", func(s *span) float64 { return float64(s.open) })}
	waiting := t.chart("Messages in flight", "")
	waiting.Lines = []line{t.line("in flight", "c4",
		func(s *span) float64 { return float64(s.waiting) })}
	cpu, rss := t.chart("Processor time", "cores"), t.chart("Memory", "MiB")
	for i, p := range r.Processes {
		use := func(f func(bench.Usage) float64) func(*span) float64 {
			return func(s *span) float64 {
				if u, ok := s.processes[p.Name]; ok {
					return f(u)
				}
				return math.NaN()
			}
		}
		cpu.Lines = append(cpu.Lines, t.line(p.Name, seriesClass(i),
			use(func(u bench.Usage) float64 { return u.CPU })))
		if p.PID != 0 { // drawn to the scale of the sums, the other lines would be flat
			rss.Lines = append(rss.Lines, t.line(p.Name, seriesClass(i),
				use(func(u bench.Usage) float64 { return float64(u.RSS) / (1 << 20) })))
		}
	}
	return append(out, cpu, rss, waiting, open)
}

// timeline makes charts over the time of one run.
type timeline struct {
	in   []span
	each int
}

// chart returns a chart with the time axis and the rule at the start of counting.
func (t *timeline) chart(title, unit string) chart {
	c := chart{Title: title, YName: unit}
	if len(t.in) > 0 {
		c.xticks, c.XName = axis.Time(t.in[0].at-t.in[0].seconds/2,
			t.in[len(t.in)-1].at+t.in[len(t.in)-1].seconds/2)
		if t.in[0].at < 0 {
			c.Rules = []rule{{Name: "counting begins", Class: "begin"}}
		}
	}
	if t.each > 1 {
		c.Note = fmt.Sprintf("Each point joins %d intervals. Latencies above the median are "+
			"their maximum.", t.each)
	}
	return c
}

func (t *timeline) line(name, class string, y func(*span) float64) line {
	l := line{Name: name, Class: class}
	for i := range t.in {
		l.xs, l.ys = append(l.xs, t.in[i].at), append(l.ys, y(&t.in[i]))
	}
	return l
}

func (t *timeline) latency(name string) chart {
	c := t.chart("Latency over time: "+name, "ms, logarithmic")
	c.log = true
	for i, p := range []struct {
		name string
		ms   func(bench.Latency) float64
	}{
		{"p50", func(l bench.Latency) float64 { return l.P50 }},
		{"p99", func(l bench.Latency) float64 { return l.P99 }},
		{"max", func(l bench.Latency) float64 { return l.Max }},
	} {
		c.Lines = append(c.Lines, t.line(p.name, seriesClass(i), func(s *span) float64 {
			if l := s.latencies[name]; l.Count > 0 {
				return p.ms(l)
			}
			return math.NaN()
		}))
	}
	return t.withFaults(c)
}

// withFaults adds a red mark for each span in which a check failed.
func (t *timeline) withFaults(c chart) chart {
	m := line{Name: "a check failed", Class: "mark", dots: true}
	for i := range t.in {
		if t.in[i].faults {
			m.xs, m.ys = append(m.xs, t.in[i].at), append(m.ys, 0)
		}
	}
	if len(m.xs) > 0 {
		c.Lines = append(c.Lines, m)
	}
	return c
}

// percentileChart returns an empty percentile chart: each step to the right is one more
// nine.
func percentileChart(title string) chart {
	return chart{Title: title, XName: "percentile", YName: "ms, logarithmic", log: true,
		xticks: nineTicks(2)}
}

// addCurve adds the percentile curve of l. An invalid one is named below the chart.
func (c *chart) addCurve(name, class string, l *bench.Latency) {
	xs, ys, err := curve(l)
	if err != nil {
		c.Note = strings.TrimSpace(c.Note + " " + name + ": " + err.Error() + ".")
		return
	}
	if len(xs) == 0 {
		return
	}
	c.Lines = append(c.Lines, line{Name: name, Class: class, xs: xs, ys: ys})
	if last := xs[len(xs)-1]; last > c.xticks[len(c.xticks)-1].Value {
		c.xticks = nineTicks(last)
	}
}
