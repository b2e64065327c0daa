package report

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"teamtalk/bench/report/axis"
)

// history is the largest number of intervals in a sparkline.
const history = 240

// screen is the view of a run in a terminal: its values, and the lines that show them.
type screen struct {
	now     func() time.Time
	color   bool
	width   int
	height  int
	title   string
	phase   string // what the run does now, in words
	counted time.Duration
	began   time.Time
	moments []moment
	totals  map[string]int64 // totals while counting
	stopped bool             // ctrl-c was pressed
}

// begin shows the start of a run.
func (s *screen) begin(title string, counted time.Duration) {
	s.title, s.counted, s.began, s.phase = title, counted, s.now(), ""
	s.moments, s.totals = nil, map[string]int64{}
}

// interrupt handles ctrl-c and reports whether it was pressed before.
func (s *screen) interrupt() (again bool) {
	again, s.stopped = s.stopped, true
	return again
}

func (s *screen) add(m moment) {
	if len(s.moments) == history {
		s.moments = slices.Delete(s.moments, 0, 1)
	}
	s.moments = append(s.moments, m)
	if m.at >= 0 {
		for name, n := range m.counts {
			s.totals[name] += n
		}
	}
}

// draw returns the lines of the screen. They fit the width of the terminal and leave a line
// of its height to the cursor. A width or a height of 0 is unknown.
func (s *screen) draw() []string {
	width := s.width
	if width <= 0 {
		width = 80
	}
	lines := []string{s.headline(width), s.bar(width), ""}
	if len(s.moments) == 0 {
		lines = append(lines, s.paint(faint, s.fit(s.phase, width)))
	} else {
		last := &s.moments[len(s.moments)-1]
		lines = append(lines, s.rateLines(last, width)...)
		lines = append(lines, "")
		lines = append(lines, s.latencyLines(last, width)...)
		lines = append(lines, "", s.verdict(last, width),
			s.fit(fmt.Sprintf("%s in flight · %s connections open", axis.Grouped(last.waiting),
				axis.Grouped(last.open)), width))
		if p := s.processLines(last, width); len(p) > 0 {
			lines = append(append(lines, ""), p...)
		}
	}
	if s.height > 0 && len(lines) > s.height-1 {
		lines = lines[:s.height-1]
	}
	return lines
}

func (s *screen) paint(t tone, text string) string { return paint(s.color, t, text) }

// fit cuts a text without colours to a width.
func (s *screen) fit(text string, width int) string {
	return runewidth.Truncate(oneLine(text), width, "…")
}

func (s *screen) headline(width int) string {
	hint := "ctrl-c ends the run and reports it"
	t := faint
	if s.stopped {
		hint, t = "ending; press ctrl-c again to quit without a report", warn
	}
	title := s.fit(s.title, max(10, width-runewidth.StringWidth(hint)-2))
	gap := width - runewidth.StringWidth(title) - runewidth.StringWidth(hint)
	if gap < 2 {
		return s.paint(head, s.fit(s.title, width))
	}
	return s.paint(head, title) + strings.Repeat(" ", gap) + s.paint(t, hint)
}

// bar shows how much of the run has passed.
func (s *screen) bar(width int) string {
	state, share := "starting", 0.0
	if len(s.moments) > 0 {
		last := &s.moments[len(s.moments)-1]
		at := last.at + last.seconds
		switch {
		case last.at < 0:
			state = fmt.Sprintf("warm-up, counting begins in %.0f s", max(0, -at))
		case s.counted > 0 && at >= s.counted.Seconds():
			state, share = cmp.Or(s.phase, "done"), 1
		case s.counted > 0:
			share = at / s.counted.Seconds()
			state = clock(at) + " of " + clock(s.counted.Seconds())
		default:
			state = clock(at)
		}
	} else if !s.began.IsZero() {
		state = "starting, " + clock(s.now().Sub(s.began).Seconds())
	}
	if s.counted <= 0 {
		return s.fit(state, width)
	}
	room := width - runewidth.StringWidth(state) - 2
	if room < 10 {
		return s.fit(state, width)
	}
	room = min(room, 60)
	full := int(share * float64(room))
	return s.paint(good, strings.Repeat("━", full)) +
		s.paint(faint, strings.Repeat("─", room-full)) + "  " + state
}

const nameWidth = 16

// rateLines shows each total: per second, in all, and the last minutes as a sparkline.
func (s *screen) rateLines(last *moment, width int) []string {
	out := []string{s.paint(faint, s.fit(fmt.Sprintf("%-*s%12s%16s", nameWidth, "", "per second",
		"counted"), width))}
	for _, name := range namesInOrder(last.counts) {
		text := fmt.Sprintf("%-*s%12s%16s", nameWidth, s.fit(name, nameWidth-1),
			number(rate(last.counts[name], last.seconds)), axis.Grouped(s.totals[name]))
		out = append(out, s.withSpark(text, width,
			func(m *moment) (float64, bool) { return rate(m.counts[name], m.seconds), true }))
	}
	return out
}

func (s *screen) latencyLines(last *moment, width int) []string {
	if len(last.latencies) == 0 {
		return nil
	}
	out := []string{s.paint(faint, s.fit(fmt.Sprintf("%-*s%9s%9s%10s", nameWidth, "ms", "p50",
		"p99", "max"), width))}
	for _, name := range namesInOrder(last.latencies) {
		l := last.latencies[name]
		text := fmt.Sprintf("%-*s%9s%9s%10s", nameWidth, s.fit(name, nameWidth-1), number(l.P50),
			number(l.P99), number(l.Max))
		if l.Count <= 0 {
			text = fmt.Sprintf("%-*s%9s%9s%10s", nameWidth, s.fit(name, nameWidth-1), "–", "–", "–")
		}
		out = append(out, s.withSpark(text, width,
			func(m *moment) (float64, bool) { l := m.latencies[name]; return l.P99, l.Count > 0 }))
	}
	return out
}

func (s *screen) processLines(last *moment, width int) []string {
	if len(last.processes) == 0 {
		return nil
	}
	out := []string{s.paint(faint, s.fit(fmt.Sprintf("%-*s%12s%16s", nameWidth, "", "cores",
		"memory"), width))}
	for _, name := range namesInOrder(last.processes) {
		u := last.processes[name]
		text := fmt.Sprintf("%-*s%12.2f%16s", nameWidth, s.fit(name, nameWidth-1), u.CPU,
			memory(u.RSS))
		out = append(out, s.withSpark(text, width,
			func(m *moment) (float64, bool) { u, ok := m.processes[name]; return u.CPU, ok }))
	}
	return out
}

// verdict is red, and says NOT CLEAN, as soon as a check fails.
func (s *screen) verdict(last *moment, width int) string {
	if last.checks.Clean() {
		return s.paint(good,
			s.fit("clean so far: no message lost, duplicated, reordered or corrupt, nothing "+
				"broken or refused", width))
	}
	text := verdict(&last.checks)
	if len(last.checks.Examples) > 0 {
		text += " – " + last.checks.Examples[0]
	}
	return s.paint(bad, s.fit(text, width))
}

// withSpark adds a sparkline of y over the last intervals if the line has room for it.
func (s *screen) withSpark(text string, width int, y func(*moment) (float64, bool)) string {
	text = s.fit(text, width)
	room := min(60, width-runewidth.StringWidth(text)-3)
	if room < 8 {
		return text
	}
	first := max(0, len(s.moments)-room)
	return text + "   " + spark(s.moments[first:], y)
}

// spark draws values from 0 to their maximum, with a gap for each missing value.
func spark(ms []moment, y func(*moment) (float64, bool)) string {
	const levels = "▁▂▃▄▅▆▇█"
	steps := []rune(levels)
	top := 0.0
	for i := range ms {
		if v, ok := y(&ms[i]); ok {
			top = max(top, v)
		}
	}
	var b bytes.Buffer
	for i := range ms {
		v, ok := y(&ms[i])
		switch {
		case !ok:
			b.WriteByte(' ')
		case top <= 0:
			b.WriteRune(steps[0])
		default:
			b.WriteRune(steps[min(len(steps)-1, max(0, int(v/top*float64(len(steps)))))])
		}
	}
	return b.String()
}
