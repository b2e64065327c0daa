package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"teamtalk/bench"
)

// SweepText writes a sweep as tables for a terminal.
func SweepText(w io.Writer, s *bench.Sweep, color bool) error {
	return writeParts(w, sweepParts(s), color)
}

// SweepMarkdown writes a sweep as tables in Markdown.
func SweepMarkdown(w io.Writer, s *bench.Sweep) error { return writeMarkdown(w, sweepParts(s)) }

// byRate returns the steps in the order of their rates.
func byRate(s *bench.Sweep) []bench.SweepStep {
	steps := slices.Clone(s.Steps)
	slices.SortStableFunc(steps, func(a, b bench.SweepStep) int {
		return cmp.Compare(a.Rate,
			b.Rate)
	})
	return steps
}

func sweepParts(s *bench.Sweep) []part {
	parts := []part{sweepHead(s)}
	if len(s.Steps) == 0 {
		return parts
	}
	parts = append(parts, part{Title: "Steps", Table: stepsTable(s)})
	if t := sweepProcesses(s); len(t.Head) > 1 {
		parts = append(parts, part{Title: "Processes, cores", Table: t})
	}
	return parts
}

// sweepHead gives the knee, or the reason why it is unknown.
func sweepHead(s *bench.Sweep) part {
	p := part{Title: fmt.Sprintf("Sweep: highest rate with p99 of %s under %s ms", s.Of,
		number(s.UnderMS))}
	if len(s.Steps) > 0 {
		r := s.Steps[0].Result
		p.Notes = append(p.Notes, note{faint, Title(&r.Scenario)})
		if m := machine(&r.Machine); m != "" {
			p.Notes = append(p.Notes, note{faint, "on " + m})
		}
		if r.Build != "" {
			p.Notes = append(p.Notes, note{faint, "generator " + r.Build})
		}
	}
	knee := note{good, "Knee: " + number(s.Knee) + " a second"}
	switch {
	case s.Knee == 0 && s.Open:
		knee = note{warn, "Knee: not found"}
	case s.Knee == 0:
		knee = note{bad, "Knee: none"}
	case s.Open:
		knee = note{warn, "Knee: at least " + number(s.Knee) + " a second"}
	}
	knee.Text += " – " + s.Ended
	p.Notes = append(p.Notes, knee)
	return p
}

func stepsTable(s *bench.Sweep) *table {
	t := &table{Head: []string{"offered/s", s.Total + "/s", s.Of + " p50 ms", "p99 ms", "p99.9 ms",
		"max ms", "checked", "holds"}, Words: true}
	for _, step := range byRate(s) {
		l := step.Result.Latencies[s.Of]
		row := cells(number(step.Rate), number(step.Done), number(l.P50), number(l.P99),
			number(l.P999), number(l.Max), shortVerdict(&step.Result.Checks), "yes")
		if !step.Result.Checks.Clean() {
			row[1].Tone, row[6].Tone = bad, bad
		}
		if !step.Holds {
			row[7] = cell{"NO: " + step.Why, bad}
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func sweepProcesses(s *bench.Sweep) *table {
	t := &table{Head: []string{"offered/s"}}
	for _, step := range s.Steps {
		for _, p := range step.Result.Processes {
			if !slices.Contains(t.Head[1:], p.Name) {
				t.Head = append(t.Head, p.Name)
			}
		}
	}
	for _, step := range byRate(s) {
		row := cells(number(step.Rate))
		for _, name := range t.Head[1:] {
			text := "–"
			for _, p := range step.Result.Processes {
				if p.Name == name {
					text = number(p.CPU)
				}
			}
			row = append(row, cell{Text: text})
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// SweepHTML writes a sweep as a self-contained page: latency and completed work against
// the rate, and the percentile curve of each step.
func SweepHTML(w io.Writer, s *bench.Sweep) error {
	figs, err := figures(sweepCharts(s))
	if err != nil {
		return err
	}
	parts := sweepParts(s)
	notes := parts[0].Notes
	p := page{Title: parts[0].Title, Head: notes[:len(notes)-1], Verdict: notes[len(notes)-1:]}
	if len(figs) > 0 {
		p.Sections = append(p.Sections, section{part: part{Title: "Charts"}, Charts: figs})
	}
	for _, x := range parts[1:] {
		p.Sections = append(p.Sections, section{part: x})
	}
	if len(s.Steps) > 0 {
		p.Sections = append(p.Sections, section{part: part{Title: "Scenario",
			Notes: []note{{faint, "of the first step; the others differ in their rate"}},
			Table: scenarioTable(&s.Steps[0].Result.Scenario)}})
	}
	return p.write(w)
}

func sweepCharts(s *bench.Sweep) []chart {
	steps := byRate(s)
	latency := chart{Title: "Latency against rate: " + s.Of, XName: "offered a second",
		YName: "ms, logarithmic", log: true}
	done := chart{Title: "Done against rate", XName: "offered a second", YName: s.Total +
		" a second"}
	latency.Rules = []rule{{Name: "bound of p99", Class: "bound", at: s.UnderMS, level: true}}
	if s.Knee > 0 {
		latency.Rules = append(latency.Rules, rule{Name: "knee", Class: "knee", at: s.Knee})
		done.Rules = append(done.Rules, rule{Name: "knee", Class: "knee", at: s.Knee})
	}
	var lines [3]line
	for i, name := range []string{"p50", "p99", "max"} {
		lines[i] = line{Name: name, Class: seriesClass(i)}
	}
	offered, did := line{Name: "offered", Class: "begin"}, line{Name: s.Total, Class: "c1"}
	fell := line{Name: "does not hold", Class: "mark", dots: true}
	for _, step := range steps {
		l := step.Result.Latencies[s.Of]
		for i, v := range []float64{l.P50, l.P99, l.Max} {
			lines[i].xs, lines[i].ys = append(lines[i].xs, step.Rate), append(lines[i].ys, v)
		}
		offered.xs, offered.ys = append(offered.xs, step.Rate), append(offered.ys, step.Rate)
		did.xs, did.ys = append(did.xs, step.Rate), append(did.ys, step.Done)
		if !step.Holds {
			fell.xs, fell.ys = append(fell.xs, step.Rate), append(fell.ys, step.P99)
		}
	}
	latency.Lines, done.Lines = lines[:], []line{offered, did}
	if len(fell.xs) > 0 {
		latency.Lines = append(latency.Lines, fell)
	}
	curves := percentileChart("Percentiles: " + s.Of)
	for i, step := range aroundKnee(steps, s.Knee) {
		if l, ok := step.Result.Latencies[s.Of]; ok {
			curves.addCurve(number(step.Rate)+"/s", seriesClass(i), &l)
		}
	}
	cpu := chart{Title: "Processor time against rate", XName: "offered a second", YName: "cores"}
	for i, name := range sweepProcesses(s).Head[1:] {
		l := line{Name: name, Class: seriesClass(i)}
		for _, step := range steps {
			for _, p := range step.Result.Processes {
				if p.Name == name {
					l.xs, l.ys = append(l.xs, step.Rate), append(l.ys, p.CPU)
				}
			}
		}
		cpu.Lines = append(cpu.Lines, l)
	}
	return []chart{latency, done, curves, cpu}
}

// aroundKnee are as many steps as there are colours: the knee, some below and some above.
func aroundKnee(steps []bench.SweepStep, knee float64) []bench.SweepStep {
	const colors = 8
	at := max(0, slices.IndexFunc(steps, func(s bench.SweepStep) bool { return s.Rate >= knee }))
	first := max(0, min(at-colors/2, len(steps)-colors))
	return steps[first:min(len(steps), first+colors)]
}
