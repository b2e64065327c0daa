package report

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"teamtalk/bench"
	"teamtalk/bench/report/axis"
	"teamtalk/bench/scenario"
)

// Colors reports whether w is a terminal that may show colours: NO_COLOR is unset and
// TERM is not dumb. getenv is os.Getenv.
func Colors(w io.Writer, getenv func(string) string) bool {
	return isTerminal(w) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// isTerminal reports whether x is a file that is a terminal.
func isTerminal(x any) bool {
	f, ok := x.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Text writes a result as tables for a terminal.
func Text(w io.Writer, r *bench.Result, color bool) error {
	return writeParts(w, resultParts(r), color)
}

// Markdown writes a result as tables in Markdown.
func Markdown(w io.Writer, r *bench.Result) error { return writeMarkdown(w, resultParts(r)) }

// resultParts returns all parts of a result except charts.
func resultParts(r *bench.Result) []part {
	parts := []part{headPart(r), verdictPart(r), totalsPart(r)}
	for _, p := range []part{latenciesPart(r), valuesPart(r), processesPart(r), costsPart(r),
		ceilingsPart(r)} {
		if p.Table != nil {
			parts = append(parts, p)
		}
	}
	return parts
}

func headPart(r *bench.Result) part {
	p := part{Title: Title(&r.Scenario)}
	add := func(format string, args ...any) {
		p.Notes = append(p.Notes,
			note{faint, fmt.Sprintf(format, args...)})
	}
	if !r.Started.IsZero() {
		add("%s s counted from %s", number(r.Seconds), r.Started.Format(time.RFC3339))
	} else {
		add("%s s counted", number(r.Seconds))
	}
	if stopped(r) {
		add("stopped early, of %v", r.Scenario.Duration)
	}
	if m := machine(&r.Machine); m != "" {
		add("on %s", m)
	}
	if r.Build != "" {
		add("generator %s", r.Build)
	}
	return p
}

// stopped reports whether a run ended before its planned time. A scenario that ends by
// itself has none.
func stopped(r *bench.Result) bool {
	s := &r.Scenario
	timed := s.Kind != scenario.KindIdle && !(s.Kind == scenario.KindConnect && s.After == "stay")
	return timed && r.Seconds < time.Duration(s.Duration).Seconds()-0.001
}

// verdictPart returns what a reader must know before reading any value.
func verdictPart(r *bench.Result) part {
	var p part
	if r.Checks.Clean() {
		p.Notes = append(p.Notes, note{good, verdict(&r.Checks)})
	} else {
		p.Notes = append(p.Notes, note{bad, verdict(&r.Checks)})
		for _, e := range r.Checks.Examples {
			p.Notes = append(p.Notes, note{plain, e})
		}
	}
	if r.GeneratorBound {
		p.Notes = append(p.Notes, note{warn, generatorBound})
	}
	for _, n := range r.Notes {
		p.Notes = append(p.Notes, note{warn, n})
	}
	if r.Checks.Behind > 0 {
		p.Notes = append(p.Notes, note{warn, "the generator started " +
			count(r.Checks.Behind, "thing", "things") +
			" more than 10 ms late; the latencies include that delay"})
	}
	return p
}

const generatorBound = "GENERATOR-BOUND: the generator used all of its processor time, so this " +
	"result measures it, not the servers"

func totalsPart(r *bench.Result) part {
	t := &table{Head: []string{"", "per second", "total", "checked"}, Words: true}
	for _, name := range namesInOrder(r.Totals) {
		checks, ok := checksOf(name, &r.Checks)
		row := cells(name, number(rate(r.Totals[name], r.Seconds)), axis.Grouped(r.Totals[name]),
			checks)
		if isBytes(name) {
			row[1].Text, row[2].Text = memory(int64(rate(r.Totals[name], r.Seconds))),
				memory(r.Totals[name])
		}
		if !ok {
			row[1].Tone, row[2].Tone, row[3].Tone = bad, bad, bad
			row[3].Text = "NOT CLEAN: " + checks
		}
		t.Rows = append(t.Rows, row)
	}
	return part{Title: "Rates", Table: t}
}

func latenciesPart(r *bench.Result) part {
	if len(r.Latencies) == 0 {
		return part{}
	}
	t := &table{Head: []string{"ms", "p50", "p90", "p99", "p99.9", "max", "mean", "count"}}
	for _, name := range namesInOrder(r.Latencies) {
		l := r.Latencies[name]
		t.Rows = append(t.Rows, cells(name, number(l.P50), number(l.P90), number(l.P99),
			number(l.P999), number(l.Max), number(l.Mean), axis.Grouped(l.Count)))
	}
	p := part{Title: "Latency", Table: t}
	if !r.Checks.Clean() {
		p.Notes = []note{{bad, "NOT CLEAN: messages that never arrived have no latency here"}}
	}
	return p
}

func valuesPart(r *bench.Result) part {
	if len(r.Values) == 0 {
		return part{}
	}
	t := &table{Head: []string{"", "value", "unit"}, Words: true}
	for _, v := range r.Values {
		t.Rows = append(t.Rows, cells(v.Name, number(v.Value), v.Unit))
	}
	return part{Title: "Values", Table: t}
}

func processesPart(r *bench.Result) part {
	if len(r.Processes) == 0 {
		return part{}
	}
	t := &table{Head: []string{"", "pid", "cores", "of all", "µs each", "memory before", "after",
		"most"}}
	for _, p := range r.Processes {
		share, pid := "–", fmt.Sprint(p.PID)
		// a sum
		if p.PID == 0 {
			pid = "–" // a sum
		}
		if r.Machine.Cores > 0 {
			share = number(100*p.CPU/float64(r.Machine.Cores)) + " %"
		}
		t.Rows = append(t.Rows, cells(p.Name, pid, number(p.CPU), share,
			number(cpuPerMessage(r, &p)),
			memory(p.RSSBefore), memory(p.RSSAfter), memory(p.RSSMax)))
	}
	return part{Title: "Processes", Notes: []note{{faint, "µs each: processor time / " +
		mainTotal(r.Totals)}}, Table: t}
}

// kinds are the things that a run does, by their totals, in the order in which their cost is shown.
var kinds = []struct{ total, name string }{{bench.TotalAcked, "message"},
	{bench.TotalDelivered, "delivery"}, {bench.TotalLogins, "login"}, {"heartbeats", "heartbeat"},
	{bench.TotalFiles, "file"}}

// costsPart returns the processor time of each process divided by each kind of thing that the run
// did, if there are several kinds: the Processes have it for the main one.
func costsPart(r *bench.Result) part {
	t := &table{Head: []string{"µs"}}
	var totals []int64
	for _, u := range kinds {
		if n := r.Totals[u.total]; n > 0 {
			t.Head, totals = append(t.Head, "a "+u.name), append(totals, n)
		}
	}
	if len(r.Processes) == 0 || len(totals) < 2 {
		return part{}
	}
	for _, p := range r.Processes {
		row := cells(p.Name)
		for _, n := range totals {
			row = append(row, cell{Text: number(p.CPU * r.Seconds * 1e6 / float64(n))})
		}
		t.Rows = append(t.Rows, row)
	}
	return part{Title: "Processor time for each", Notes: []note{{faint, "all of the time of a " +
		"process, divided by each of the counts: a run of one kind of thing gives its cost"}},
		Table: t}
}

// cpuPerMessage returns the processor time of a process divided by the main total, in
// microseconds.
func cpuPerMessage(r *bench.Result, p *bench.Process) float64 {
	n := r.Totals[mainTotal(r.Totals)]
	if n == 0 {
		return 0
	}
	return p.CPU * r.Seconds * 1e6 / float64(n)
}

func ceilingsPart(r *bench.Result) part {
	if len(r.Ceilings) == 0 {
		return part{}
	}
	t := &table{Head: []string{"", "per second", "reached"}, Words: true}
	var notes []note
	for _, c := range r.Ceilings {
		if c.How != "" {
			notes = append(notes, note{faint, c.Name + ": " + c.How})
		}
		if c.Error != "" {
			t.Rows = append(t.Rows, []cell{{Text: c.Name}, {Text: "–"},
				{Text: "not measured: " + c.Error, Tone: warn}})
			continue
		}
		t.Rows = append(t.Rows, cells(c.Name, number(c.Rate),
			c.Of+": "+number(c.Percent)+" % of what this machine can reach"))
	}
	return part{Title: "Ceilings", Notes: notes, Table: t}
}
