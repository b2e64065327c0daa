package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"teamtalk/bench"
	"teamtalk/bench/report/axis"
	"teamtalk/bench/scenario"
)

//go:embed page.html
var pageText string

// page is the data of page.html.
type page struct {
	Title    string
	Head     []note
	Verdict  []note
	Sections []section
}

// section is a section of a page.
type section struct {
	part
	Charts []figure
	Pre    string
	Folded *part
}

// figure is a chart with its drawing.
type figure struct {
	*chart
	Drawing template.HTML
}

// Keys returns the legend: each line and rule that has a name.
func (f figure) Keys() []rule {
	var keys []rule
	for _, l := range f.Lines {
		keys = append(keys, rule{Name: l.Name, Class: l.Class})
	}
	for _, r := range f.Rules {
		if r.Name != "" {
			keys = append(keys, r)
		}
	}
	return keys
}

func (p *page) write(w io.Writer) error {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return err
	}
	return t.Execute(w, p)
}

// figures draws charts, and leaves out those without values.
func figures(cs []chart) ([]figure, error) {
	var out []figure
	for i := range cs {
		svg, err := cs[i].SVG()
		if err != nil {
			return nil, err
		}
		if svg != "" {
			out = append(out, figure{&cs[i], svg})
		}
	}
	return out, nil
}

// HTML writes a result as a self-contained page: tables, charts, and the command that
// repeats the run. The page loads nothing and runs no script.
func HTML(w io.Writer, r *bench.Result) error {
	figs, err := figures(charts(r))
	if err != nil {
		return err
	}
	p := page{Title: Title(&r.Scenario), Head: headPart(r).Notes, Verdict: verdictPart(r).Notes}
	parts := resultParts(r)[2:] // without head and verdict
	for _, x := range parts {
		p.Sections = append(p.Sections, section{part: x})
	}
	if len(figs) > 0 {
		p.Sections = append(p.Sections, section{part: part{Title: "Charts"}, Charts: figs})
	}
	if t := intervalsTable(r); t != nil {
		p.Sections = append(p.Sections,
			section{Folded: &part{Title: "The values of the charts over time", Table: t}})
	}
	p.Sections = append(p.Sections, section{part: part{Title: "Scenario",
		Table: scenarioTable(&r.Scenario)}},
		section{part: part{Title: "Command to repeat the run"}, Pre: repeat(&r.Scenario)})
	if commands := commandsTable(r); commands != nil {
		p.Sections = append(p.Sections, section{part: part{Title: "Commands of the processes",
			Table: commands}})
	}
	return p.write(w)
}

func scenarioTable(s *scenario.Scenario) *table {
	t := &table{Head: []string{"setting", "value"}, Words: true}
	for _, set := range settings(s) {
		if set.value != "" {
			t.Rows = append(t.Rows, cells(set.name, set.value))
		}
	}
	return t
}

func commandsTable(r *bench.Result) *table {
	if len(r.Processes) == 0 {
		return nil
	}
	t := &table{Head: []string{"process", "command"}, Words: true}
	for _, p := range r.Processes {
		t.Rows = append(t.Rows, cells(p.Name, p.Command))
	}
	return t
}

// intervalsTable returns the values of the charts as a table, for readers that cannot see
// the charts.
func intervalsTable(r *bench.Result) *table {
	in, _ := spans(r.Intervals)
	if len(in) == 0 {
		return nil
	}
	t := &table{Head: []string{"seconds"}, Words: true}
	totals, latencies := namesInOrder(r.Totals), namesInOrder(r.Latencies)
	for _, n := range totals {
		t.Head = append(t.Head, n+"/s")
	}
	for _, n := range latencies {
		t.Head = append(t.Head, n+" p50 ms", n+" p99 ms", n+" max ms")
	}
	t.Head = append(t.Head, "in flight", "open", "")
	for i := range in {
		s := &in[i]
		row := cells(fmt.Sprintf("%.1f", s.at-s.seconds/2))
		for _, n := range totals {
			row = append(row, cells(number(rate(s.counts[n], s.seconds)))...)
		}
		for _, n := range latencies {
			if l := s.latencies[n]; l.Count > 0 {
				row = append(row, cells(number(l.P50), number(l.P99), number(l.Max))...)
			} else {
				row = append(row, cells("–", "–", "–")...)
			}
		}
		row = append(row, cells(axis.Grouped(s.waiting), axis.Grouped(s.open))...)
		last := cell{}
		if s.faults {
			last = cell{"a check failed", bad}
		}
		t.Rows = append(t.Rows, append(row, last))
	}
	return t
}
