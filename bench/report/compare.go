package report

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"teamtalk/bench"
	"teamtalk/bench/ranks"
	"teamtalk/bench/report/axis"
	"teamtalk/bench/scenario"
)

// DefaultNoise is the share by which two runs of the same scenario differ without a
// cause.
const DefaultNoise = 0.05

// Comparison shows results side by side. The others are compared with the first.
type Comparison struct {
	files []*File   // the first run of each build
	runs  [][]*File // all runs of each
	names []string
	noise float64
}

// Compare prepares a comparison of at least two results. noise is the share within which
// rates, values, processor time and latencies up to the 90th percentile count as equal.
// For p99 it is twice that, and for p99.9 and max four times, because a few events decide
// them. 0 means DefaultNoise.
func Compare(files []*File, noise float64) (*Comparison, error) {
	if len(files) < 2 {
		return nil, fmt.Errorf("compare: want at least two results, got %d", len(files))
	}
	if noise == 0 {
		noise = DefaultNoise
	}
	if !(noise > 0 && noise < 1) {
		return nil, fmt.Errorf("compare: noise is %g, want a share between 0 and 1", noise)
	}
	for _, f := range files {
		if f.Result == nil {
			return nil, fmt.Errorf("compare: %s is a sweep, want a result", f.Name)
		}
	}
	c := &Comparison{files: files, noise: noise}
	var paths []string
	for _, f := range files {
		c.runs, paths = append(c.runs, []*File{f}), append(paths, f.Name)
	}
	c.names = shortNames(paths)
	return c, nil
}

// shortNames returns the paths without folder and .json, or whole where those are equal.
func shortNames(paths []string) []string {
	var short []string
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		if slices.Contains(short, name) {
			name = path
		}
		short = append(short, name)
	}
	return short
}

// Text writes the comparison for a terminal.
func (c *Comparison) Text(w io.Writer, color bool) error { return writeParts(w, c.parts(), color) }

// Markdown writes the comparison as Markdown.
func (c *Comparison) Markdown(w io.Writer) error { return writeMarkdown(w, c.parts()) }

// better is the direction in which a value should change.
type better int

const (
	neither better = iota
	lower
	higher
)

// row has one value for each build, NaN where its results have none.
type row struct {
	group, name string
	better      better
	noise       float64     // the share within which single runs are equal
	least       float64     // the share within which medians of runs are equal
	values      []float64   // medians
	samples     [][]float64 // of the runs
	bad         []bool      // a result is not clean
	other       []bool      // its scenario is of another kind: neither better nor worse
	whole       bool        // the values are counts
}

func (c *Comparison) parts() []part {
	parts := []part{c.headPart()}
	var all []row
	for _, p := range []struct {
		title string
		rows  []row
	}{
		{"Rates, a second", c.rates()}, {"Latency, ms", c.latencies()}, {"Values", c.values()},
		{"Processor time, µs each", c.cpu()}, {"Highest memory, MiB", c.memory()},
		{"Failed checks", c.checks()},
	} {
		if len(p.rows) > 0 {
			parts = append(parts, part{Title: p.title, Table: c.table(p.rows)})
		}
		for _, r := range p.rows {
			r.group, _, _ = strings.Cut(strings.ToLower(p.title), ",")
			all = append(all, r)
		}
	}
	if c.several() {
		parts = slices.Insert(parts, 1, c.verdictPart(all))
	}
	return append(parts, part{Notes: []note{{faint, c.legend()}}})
}

func (c *Comparison) headPart() part {
	p := part{Title: strings.Join(c.names[1:], ", ") + " against " + c.names[0]}
	for i, f := range c.files {
		r := f.Result
		text := c.names[i] + ": " + Title(&r.Scenario)
		if n := len(c.runs[i]); n > 1 {
			text += fmt.Sprintf(" · %d runs", n)
		}
		if r.Build != "" {
			text += " · generator " + r.Build
		}
		if !r.Started.IsZero() {
			text += " · " + r.Started.Format("2006-01-02 15:04")
		}
		p.Notes = append(p.Notes, note{faint, text})
	}
	p.Notes = append(p.Notes, c.warnings()...)
	return p
}

// warnings returns the reasons why the results may not be comparable.
func (c *Comparison) warnings() []note {
	var out []note
	base := c.files[0].Result
	c.results(func(_ int, name string, r *bench.Result) {
		if !r.Checks.Clean() {
			out = append(out, note{bad, name + " is " + verdict(&r.Checks)})
		}
		if r == base {
			return
		}
		if d := differences(&base.Scenario, &r.Scenario); d != "" {
			out = append(out, note{warn, "the scenario of " + name + " differs: " + d})
		}
		if a, b := machine(&base.Machine), machine(&r.Machine); a != b {
			out = append(out, note{warn, "the machine of " + name + " differs: " + b +
				" (was " + a + ")"})
		}
	})
	return append(out, c.generatorBound()...)
}

// differences lists the settings that differ.
func differences(was, is *scenario.Scenario) string {
	a, b := settings(was), settings(is)
	find := func(in []setting, name string) string {
		for _, s := range in {
			if s.name == name {
				return s.value
			}
		}
		return "–"
	}
	var out []string
	for _, s := range a {
		if s.name == "addr" || s.name == "name" || s.name == "first" {
			continue // the address of the servers and the choice of users do not matter
		}
		if v := find(b, s.name); v != s.value {
			out = append(out, s.name+" "+v+" (was "+s.value+")")
		}
	}
	for _, s := range b {
		if s.value != "" && !slices.ContainsFunc(a,
			func(o setting) bool { return o.name == s.name }) {
			out = append(out, s.name+" "+s.value+" (was –)")
		}
	}
	return strings.Join(out, ", ")
}

// all returns the names that of has for any result, in order.
func all[V any](c *Comparison, of func(*bench.Result) map[string]V) []string {
	union := map[string]V{}
	c.results(func(_ int, _ string, r *bench.Result) {
		for name, v := range of(r) {
			union[name] = v
		}
	})
	return namesInOrder(union)
}

// row returns a row with the value that of returns for each result.
func (c *Comparison) row(name string, b better, noise float64,
	of func(*bench.Result) (float64, bool)) row {
	out := row{name: name, better: b, noise: noise, least: c.noise}
	for _, g := range c.runs {
		var samples []float64
		var bad, other bool
		for _, f := range g {
			if v, ok := of(f.Result); ok {
				samples = append(samples, v)
			}
			bad = bad || !f.Result.Checks.Clean()
			other = other || f.Result.Scenario.Kind != c.files[0].Result.Scenario.Kind
		}
		v := math.NaN()
		if len(samples) > 0 {
			v = ranks.SpreadOf(samples).Median
		}
		out.values, out.samples = append(out.values, v), append(out.samples, samples)
		out.bad, out.other = append(out.bad, bad), append(out.other, other)
	}
	return out
}

func (c *Comparison) rates() []row {
	var out []row
	for _, name := range all(c, func(r *bench.Result) map[string]int64 { return r.Totals }) {
		b := higher
		if isSent(name) || name == "heartbeats" {
			b = neither // the load that was offered, not the work that was done
		}
		out = append(out, c.row(name, b, c.noise, func(r *bench.Result) (float64, bool) {
			n, ok := r.Totals[name]
			return rate(n, r.Seconds), ok
		}))
	}
	return out
}

func (c *Comparison) latencies() []row {
	var out []row
	for _, name := range all(c,
		func(r *bench.Result) map[string]bench.Latency { return r.Latencies }) {
		for _, p := range []struct {
			name  string
			noise float64
			of    func(bench.Latency) float64
		}{
			{"p50", 1, func(l bench.Latency) float64 { return l.P50 }},
			{"p90", 1, func(l bench.Latency) float64 { return l.P90 }},
			{"p99", 2, func(l bench.Latency) float64 { return l.P99 }},
			{"p99.9", 4, func(l bench.Latency) float64 { return l.P999 }},
			{"max", 4, func(l bench.Latency) float64 { return l.Max }},
		} {
			out = append(out, c.row(name+" "+p.name, lower, p.noise*c.noise,
				func(r *bench.Result) (float64, bool) {
					l := r.Latencies[name]
					return p.of(l), l.Count > 0
				}))
		}
	}
	return out
}

func (c *Comparison) values() []row {
	var out []row
	c.results(func(_ int, _ string, r *bench.Result) {
		for _, v := range r.Values {
			name := v.Name
			if v.Unit != "" {
				name += ", " + v.Unit
			}
			if slices.ContainsFunc(out, func(r row) bool { return r.name == name }) {
				continue
			}
			b := map[string]better{"lower": lower, "higher": higher}[v.Better]
			out = append(out, c.row(name, b, c.noise, func(r *bench.Result) (float64, bool) {
				i := slices.IndexFunc(r.Values,
					func(o bench.Value) bool { return o.Name == v.Name && o.Unit == v.Unit })
				if i < 0 {
					return 0, false
				}
				return r.Values[i].Value, true
			}))
		}
	})
	return out
}

// processes returns a row for each process of any result.
func (c *Comparison) processes(of func(*bench.Result, *bench.Process) float64) []row {
	var out []row
	c.results(func(_ int, _ string, r *bench.Result) {
		for _, p := range r.Processes {
			if slices.ContainsFunc(out, func(r row) bool { return r.name == p.Name }) {
				continue
			}
			out = append(out, c.row(p.Name, lower, c.noise, func(r *bench.Result) (float64, bool) {
				i := slices.IndexFunc(r.Processes,
					func(o bench.Process) bool { return o.Name == p.Name })
				if i < 0 {
					return 0, false
				}
				return of(r, &r.Processes[i]), true
			}))
		}
	})
	return out
}

func (c *Comparison) cpu() []row { return c.processes(cpuPerMessage) }

func (c *Comparison) memory() []row {
	return c.processes(func(_ *bench.Result,
		p *bench.Process) float64 {
		return float64(p.RSSMax) / (1 << 20)
	})
}

// checks returns the failed checks of all results. Rows of zeros are left out.
func (c *Comparison) checks() []row {
	var out []row
	for k, f := range faults(&bench.Checks{}) {
		r := c.row(f.plural, lower, 0, func(r *bench.Result) (float64,
			bool) {
			return float64(faults(&r.Checks)[k].n), true
		})
		r.whole = true
		if slices.ContainsFunc(r.values, func(v float64) bool { return v != 0 }) {
			out = append(out, r)
		}
	}
	return out
}

// table returns a table with a column for each result and, for all but the first, a
// column with the ratio to the first.
func (c *Comparison) table(rows []row) *table {
	t := &table{Head: []string{"", c.names[0]}}
	for _, n := range c.names[1:] {
		t.Head = append(t.Head, n, "")
	}
	for _, r := range rows {
		out := cells(r.name, r.figure(0))
		for i := 1; i < len(r.values); i++ {
			text, tone := r.ratio(i)
			out = append(out, cell{Text: r.figure(i)}, cell{text, tone})
		}
		t.Rows = append(t.Rows, out)
	}
	return t
}

func (r *row) figure(i int) string {
	text := number(r.values[i])
	if r.whole {
		text = axis.Grouped(int64(r.values[i]))
	}
	if len(r.samples[i]) > 1 {
		s := ranks.SpreadOf(r.samples[i])
		text += " (" + number(s.Low) + "–" + number(s.High) + ")"
	}
	if r.bad[i] && text != "–" {
		text += " !"
	}
	return text
}

// ratio returns the ratio of value i to the first, and whether that is better.
func (r *row) ratio(i int) (string, tone) {
	a, b := r.values[0], r.values[i]
	switch {
	case math.IsNaN(a) || math.IsNaN(b):
		return "–", plain
	case a == b:
		return "1.00× ≈", faint
	case a == 0:
		// A ratio to zero does not exist, but a failed check is still worse than none.
		return r.mark(i, "", b > a)
	}
	q := b / a
	text := fmt.Sprintf("%.2f×", q)
	if q >= 100 || q < 0.01 {
		text = number(q) + "×"
	}
	switch r.differs(i, q) {
	case equal:
		return text + " ≈", faint
	case unsure:
		return text + " " + unsureText, warn
	}
	return r.mark(i, text, b > a)
}

// mark adds the direction of a change. A better value of a result that is not clean is
// not called better, because messages that it dropped may be the cause.
func (r *row) mark(i int, text string, more bool) (string, tone) {
	switch {
	case r.better == neither || r.other[i]:
		return text, plain
	case more == (r.better == higher) && r.bad[i]:
		return strings.TrimSpace(text + " not clean"), warn
	case more == (r.better == higher):
		return strings.TrimSpace(text + " better"), good
	}
	return strings.TrimSpace(text + " WORSE"), bad
}

// HTML writes the comparison as a page with the curves of all results in the same charts.
func (c *Comparison) HTML(w io.Writer) error {
	parts := c.parts()
	p := page{Title: parts[0].Title}
	for _, n := range parts[0].Notes {
		if n.Tone == faint {
			p.Head = append(p.Head, n)
		} else {
			p.Verdict = append(p.Verdict, n)
		}
	}
	figs, err := figures(c.charts())
	if err != nil {
		return err
	}
	for _, x := range parts[1:] {
		p.Sections = append(p.Sections, section{part: x})
	}
	p.Sections = append(p.Sections, section{part: part{Title: "Charts"}, Charts: figs})
	return p.write(w)
}

// charts shows the results in shared charts: the percentile curve and the p99 over time
// of each latency, and each rate.
func (c *Comparison) charts() []chart {
	lines := make([]timeline, len(c.files))
	longest := 0
	for i, f := range c.files {
		lines[i].in, lines[i].each = spans(f.Result.Intervals)
		if lines[i].until() > lines[longest].until() {
			longest = i
		}
	}
	over := func(title, unit string, log bool, y func(*span) float64) chart {
		ch := lines[longest].chart(title, unit)
		ch.log, ch.xticks, ch.XName = log, nil, ""
		from, until := 0.0, 0.0
		for i := range lines {
			if in := lines[i].in; len(in) > 0 {
				from, until = min(from, in[0].at-in[0].seconds/2), max(until, lines[i].until())
			}
			ch.Lines = append(ch.Lines, lines[i].line(c.names[i], seriesClass(i), y))
		}
		ch.xticks, ch.XName = axis.Time(from, until)
		return ch
	}
	var out []chart
	for _, name := range all(c,
		func(r *bench.Result) map[string]bench.Latency { return r.Latencies }) {
		curves := percentileChart("Percentiles: " + name)
		for i, f := range c.files {
			if l, ok := f.Result.Latencies[name]; ok {
				curves.addCurve(c.names[i], seriesClass(i), &l)
			}
		}
		out = append(out, curves, over("p99 over time: "+name, "ms, logarithmic", true,
			func(s *span) float64 {
				if l := s.latencies[name]; l.Count > 0 {
					return l.P99
				}
				return math.NaN()
			}))
	}
	for _, name := range all(c, func(r *bench.Result) map[string]int64 { return r.Totals }) {
		out = append(out, over("Rate: "+name, "a second", false,
			func(s *span) float64 { return s.rate(name) }))
	}
	return out
}

// until returns the end of the last interval.
func (t *timeline) until() float64 {
	if len(t.in) == 0 {
		return 0
	}
	last := t.in[len(t.in)-1]
	return last.at + last.seconds/2
}
