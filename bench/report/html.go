package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"teamtalk/bench"
)

//go:embed page.html
var pageText string

// page is what page.html shows.
type page struct {
	Title    string
	Head     []note
	Verdict  []note
	Sections []section
}

// section is a piece of a page.
type section struct {
	part
	Charts []figure
	Pre    string
	Folded *part
}

// figure is a chart that is drawn.
type figure struct {
	*chart
	Drawing template.HTML
}

// Keys are the legend: every line and rule that has a name.
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

// figures draws charts; those with nothing in them are left out.
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

// HTML writes a result as a page of its own: tables, charts, and how to measure it again. Nothing is loaded from elsewhere, and nothing runs in it.
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
		p.Sections = append(p.Sections, section{Folded: &part{Title: "The charts over time as figures", Table: t}})
	}
	p.Sections = append(p.Sections, section{part: part{Title: "Scenario", Table: scenarioTable(&r.Scenario)}},
		section{part: part{Title: "To measure again"}, Pre: repeat(&r.Scenario)})
	if commands := commandsTable(r); commands != nil {
		p.Sections = append(p.Sections, section{part: part{Title: "What ran", Table: commands}})
	}
	return p.write(w)
}

func scenarioTable(s *bench.Scenario) *table {
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

// intervalsTable has the figures of the charts, for those who do not see them.
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
	t.Head = append(t.Head, "on their way", "open", "")
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
		row = append(row, cells(grouped(s.waiting), grouped(s.open))...)
		last := cell{}
		if s.faults {
			last = cell{"something went wrong", bad}
		}
		t.Rows = append(t.Rows, append(row, last))
	}
	return t
}
