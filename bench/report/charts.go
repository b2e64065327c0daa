package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	draw "github.com/go-analyze/charts/chartdraw"

	"teamtalk/bench"
)

// maxPoints is how many points a line over time has at most; longer runs are shown by several intervals a point.
const maxPoints = 600

// span is a few intervals of a run, shown as one point.
type span struct {
	at        float64 // its middle
	seconds   float64
	counts    map[string]int64
	latencies map[string]bench.Latency // medians are their mean, higher percentiles their highest
	processes map[string]bench.Usage
	waiting   int64
	open      int64
	faults    bool // something went wrong in it
}

// rate is a count a second; NaN where the span is too short to have one, as the last of a run is.
func (s *span) rate(name string) float64 {
	if s.seconds < 0.2 {
		return math.NaN()
	}
	return float64(s.counts[name]) / s.seconds
}

// shortest is the shortest last interval that is shown by itself, in seconds. What is shorter has no rate and no processor time to speak of.
const shortest = 0.5

// tailed has the last moment of a run, when it is short, join the interval before: what came late, and what went wrong.
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

// spans joins intervals so that no more than maxPoints remain, and says how many went into one.
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
	s := span{counts: map[string]int64{}, latencies: map[string]bench.Latency{}, processes: map[string]bench.Usage{}}
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
			s.processes[name] = bench.Usage{CPU: sum.CPU + u.CPU/float64(len(group)), RSS: max(sum.RSS, u.RSS)}
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
		P90: max(a.P90, b.P90), P99: max(a.P99, b.P99), P999: max(a.P999, b.P999), Max: max(a.Max, b.Max),
	}
}

// charts are those of one result, in the order of the page.
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
				return math.NaN() // what was still on its way
			}
			return s.rate(name)
		}))
	}
	out = append(out, t.withFaults(rates), bytes)
	open := t.chart("Open connections", "")
	open.Lines = []line{t.line("open", "c3", func(s *span) float64 { return float64(s.open) })}
	waiting := t.chart("Messages on their way", "")
	waiting.Lines = []line{t.line("on their way", "c4", func(s *span) float64 { return float64(s.waiting) })}
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
		cpu.Lines = append(cpu.Lines, t.line(p.Name, seriesClass(i), use(func(u bench.Usage) float64 { return u.CPU })))
		if p.PID != 0 { // beside the sums nothing could be seen of the others
			rss.Lines = append(rss.Lines, t.line(p.Name, seriesClass(i), use(func(u bench.Usage) float64 { return float64(u.RSS) / (1 << 20) })))
		}
	}
	return append(out, cpu, rss, waiting, open)
}

// timeline makes charts over the time of one run.
type timeline struct {
	in   []span
	each int
}

// chart has the time axis and the line where counting begins.
func (t *timeline) chart(title, unit string) chart {
	c := chart{Title: title, YName: unit}
	if len(t.in) > 0 {
		c.xticks, c.XName = timeTicks(t.in[0].at-t.in[0].seconds/2, t.in[len(t.in)-1].at+t.in[len(t.in)-1].seconds/2)
		if t.in[0].at < 0 {
			c.Rules = []rule{{Name: "counting begins", Class: "begin"}}
		}
	}
	if t.each > 1 {
		c.Note = fmt.Sprintf("Each point is %d intervals; of latencies above the median, the highest.", t.each)
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

// withFaults adds a red mark for every span in which something went wrong.
func (t *timeline) withFaults(c chart) chart {
	m := line{Name: "something went wrong", Class: "mark", dots: true}
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

// percentileChart is an empty one: a step to the right is one more nine.
func percentileChart(title string) chart {
	return chart{Title: title, XName: "percentile", YName: "ms, logarithmic", log: true, xticks: nineTicks(2)}
}

func nineTicks(upTo float64) []draw.Tick {
	ticks := []draw.Tick{{Value: 0, Label: "0"}, {Value: nines(50), Label: "50"}, {Value: 1, Label: "90"}, {Value: 2, Label: "99"}}
	for n := 3; n < 12 && float64(n-1) < upTo; n++ {
		ticks = append(ticks, draw.Tick{Value: float64(n), Label: "99." + strings.Repeat("9", n-2)})
	}
	return ticks
}

// addCurve adds the curve of l; one that cannot be read is named below the chart.
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

// timeTicks are ticks that a clock would have, and what the axis is called.
func timeTicks(lo, hi float64) ([]draw.Tick, string) {
	if !(hi > lo) || math.Abs(lo) > 1e8 || hi > 1e8 {
		return nil, ""
	}
	every := 86400.0
	for _, e := range []float64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200} {
		if (hi-lo)/e <= 12 {
			every = e
			break
		}
	}
	name := "seconds since counting began"
	if every >= 60 {
		name = "minutes since counting began"
	}
	if every >= 3600 {
		name = "hours since counting began"
	}
	var ticks []draw.Tick
	for i := math.Floor(lo / every); i <= math.Ceil(hi/every-1e-9); i++ {
		v := i * every
		label := number0(v)
		if every >= 3600 {
			label = number0(v / 3600)
		} else if every >= 60 {
			label = number0(v / 60)
		}
		ticks = append(ticks, draw.Tick{Value: v, Label: label})
	}
	for len(ticks) < 2 {
		v := ticks[len(ticks)-1].Value + every
		ticks = append(ticks, draw.Tick{Value: v, Label: number0(v)})
	}
	return ticks, name
}

func number0(v float64) string { return grouped(int64(math.Round(v))) }
