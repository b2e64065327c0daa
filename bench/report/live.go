package report

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"

	"teamtalk/bench"
	"teamtalk/bench/report/axis"
)

// LiveOptions configure Watch.
type LiveOptions struct {
	// Out receives the view. On a terminal the view is a screen that is redrawn, unless
	// TERM is dumb. Elsewhere it is a line a second, or a line a minute in runs of half an
	// hour and more. Usually standard error, so that standard output holds the result
	// alone.
	Out io.Writer
	// In is read for ctrl-c when the view is a screen. Usually standard input.
	In io.Reader
	// Environ is the value of os.Environ.
	Environ []string
	// Stop is called at the first ctrl-c. It asks the run to end and to report what it
	// counted. It must not block and must not call Close. Required.
	Stop func()
	// Abort is called at the second ctrl-c, after the terminal is restored. It ends the
	// process. Required.
	Abort func()
}

// Live shows a run while it lasts. Any goroutine may call its methods.
type Live struct {
	terminal *terminalView // nil when the view consists of lines
	mu       sync.Mutex    // guards lines
	lines    *lineView
}

// Watch starts the view.
func Watch(o LiveOptions) *Live {
	l := &Live{lines: &lineView{out: o.Out}}
	if !isTerminal(o.Out) || !isTerminal(o.In) || variable(o.Environ, "TERM") == "dumb" {
		return l
	}
	s := &screen{now: time.Now, totals: map[string]int64{},
		color: variable(o.Environ, "TERM") != "" && variable(o.Environ, "NO_COLOR") == ""}
	v, err := openTerminal(o.In.(*os.File), o.Out.(*os.File), s, o.Stop, o.Abort)
	if err != nil {
		return l // ctrl-c still sends its signal to the process
	}
	l.terminal = v
	return l
}

// variable returns the value of a variable of an environment, "" when it is not set.
func variable(environ []string, name string) string {
	value := ""
	for _, e := range environ {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}

// Phase shows what the run does now, in a few words.
func (l *Live) Phase(text string) {
	if l.terminal != nil {
		l.terminal.change(func(s *screen) { s.phase = text })
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines.say(text)
}

// Begin shows which run starts, and how long it counts; 0 when that is unknown.
func (l *Live) Begin(title string, counted time.Duration) {
	if l.terminal != nil {
		l.terminal.change(func(s *screen) { s.begin(title, counted) })
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines.begin(title, counted)
}

// Progress shows an interval. The caller must not change it afterwards.
func (l *Live) Progress(i *bench.Interval) {
	if l.terminal != nil {
		m := reduce(i)
		l.terminal.change(func(s *screen) { s.add(m) })
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines.interval(i)
}

// Ending shows that the run was asked to end by other means than ctrl-c. The next ctrl-c then
// is the second.
func (l *Live) Ending() {
	if l.terminal != nil {
		l.terminal.change(func(s *screen) { s.interrupt() })
	}
}

// Write writes whole lines above the view, or between its lines. It serves a logger. It
// returns when the terminal has taken the lines.
func (l *Live) Write(text []byte) (int, error) {
	if l.terminal != nil {
		return l.terminal.Write(text)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.out.Write(text)
}

// Close ends the view, clears it and restores the terminal. Lines that are written
// afterwards are still shown.
func (l *Live) Close() {
	if l.terminal != nil {
		l.terminal.Close()
	}
}

// moment holds the values of an interval that are shown.
type moment struct {
	at, seconds   float64
	counts        map[string]int64
	latencies     map[string]bench.Latency
	processes     map[string]bench.Usage
	waiting, open int64
	checks        bench.Checks
}

func reduce(i *bench.Interval) moment {
	m := moment{
		at: i.At, seconds: i.Seconds, waiting: i.Waiting, open: i.Open, checks: i.Checks,
		counts: map[string]int64{}, latencies: map[string]bench.Latency{},
		processes: map[string]bench.Usage{},
	}
	for k, v := range i.Counts {
		m.counts[k] = v
	}
	for k, v := range i.Latencies {
		m.latencies[k] = v
	}
	for k, v := range i.Processes {
		m.processes[k] = v
	}
	m.checks.Examples = append([]string(nil), i.Checks.Examples...)
	return m
}

// lineView writes a line for each interval, or for each minute of a long run.
type lineView struct {
	out    io.Writer
	every  float64 // shortest time of a line, in seconds
	joined *bench.Interval
}

func (v *lineView) say(text string) { fmt.Fprintln(v.out, oneLine(text)) }

func (v *lineView) begin(title string, counted time.Duration) {
	v.every, v.joined = 0, nil
	if counted >= 30*time.Minute {
		v.every = 59.5 // the last interval of a minute may be short
	}
	v.say(title)
}

func (v *lineView) interval(i *bench.Interval) {
	if v.every == 0 {
		v.line(i)
		return
	}
	if v.joined == nil {
		first := *i
		v.joined = &first
	} else {
		sum := bench.JoinIntervals(*v.joined, *i)
		sum.Checks.Examples = nil
		v.joined = &sum
	}
	if v.joined.Seconds >= v.every {
		v.line(v.joined)
		v.joined = nil
	}
}

// lineWidth is the largest width of a line, unless many checks failed.
const lineWidth = 120

// line writes the time, the most important rates and latencies that have room, and the
// verdict.
func (v *lineView) line(i *bench.Interval) {
	text := fmt.Sprintf("%6.0f s", i.At+i.Seconds)
	if i.At < 0 {
		text = " warm-up"
	}
	tail := fmt.Sprintf("  %s waiting  %s", axis.Grouped(i.Waiting), shortVerdict(&i.Checks))
	var rates, latencies []string
	for _, name := range namesInOrder(i.Counts) {
		if name != bench.TotalGroupTexts && !isBytes(name) {
			rates = append(rates, fmt.Sprintf("  %s %s/s", name,
				number(rate(i.Counts[name], i.Seconds))))
		}
	}
	for _, name := range namesInOrder(i.Latencies) {
		if l := i.Latencies[name]; l.Count > 0 {
			latencies = append(latencies, fmt.Sprintf("  %s p99 %s ms", name, number(l.P99)))
		}
	}
	first, two := min(3, len(rates)), min(2, len(latencies))
	room := lineWidth - runewidth.StringWidth(text+tail)
	for _, piece := range slices.Concat(rates[:first], latencies[:two],
		[]string{fmt.Sprintf("  %s open", axis.Grouped(i.Open))}, rates[first:], latencies[two:]) {
		if room -= runewidth.StringWidth(piece); room < 0 {
			break
		}
		text += piece
	}
	fmt.Fprintln(v.out, oneLine(text+tail))
}
