package report

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"

	"teamtalk/bench"
)

// feed passes a run up to a second to a screen.
func feed(s *screen, until float64) {
	s.begin("single, 20,000/s", 30*time.Second)
	s.phase = "connecting to 2 message servers"
	r := lossy()
	for i := range r.Intervals {
		if r.Intervals[i].At < until {
			s.add(reduce(&r.Intervals[i]))
		}
	}
}

func newScreen(width, height int) *screen {
	return &screen{now: func() time.Time { return time.Unix(0, 0) },
		totals: map[string]int64{}, width: width, height: height}
}

// text joins the lines of a screen.
func text(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	return b.String()
}

func TestScreen(t *testing.T) {
	var b bytes.Buffer
	for _, until := range []float64{-5, -2, 12, 22, 30} {
		s := newScreen(100, 40)
		feed(s, until)
		b.WriteString(text(s.draw()) + "\n")
	}
	golden(t, "screen.txt", b.Bytes())
}

// TestScreenFits checks that the screen is never wider or higher than the terminal, and
// red after a failed check.
func TestScreenFits(t *testing.T) {
	for _, size := range [][2]int{{200, 60}, {100, 40}, {80, 24}, {60, 12}, {30, 10}, {10, 3},
		{10, 1}} {
		s := newScreen(size[0], size[1])
		s.color = true
		feed(s, 30)
		text := text(s.draw())
		if n := strings.Count(text, "\n"); n >= size[1] {
			t.Errorf("%v: %d lines", size, n)
		}
		for l := range strings.Lines(text) {
			if w := runewidth.StringWidth(colors.ReplaceAllString(strings.TrimSuffix(l, "\n"),
				"")); w > size[0] {
				t.Errorf("%v: %d columns: %q", size, w, l)
			}
		}
		if size[1] >= 24 && !strings.Contains(text, "\x1b[1;31mNOT CLEAN: 3 lost") {
			t.Errorf("%v: not red: %s", size, text)
		}
	}
}

// TestScreenInterrupt checks that the first ctrl-c keeps the view and says that the run
// ends, and that the second is told apart.
func TestScreenInterrupt(t *testing.T) {
	s := newScreen(100, 40)
	feed(s, 10)
	if s.interrupt() || !strings.Contains(s.draw()[0], "ending") {
		t.Fatalf("after the first ctrl-c: %s", text(s.draw()))
	}
	if !s.interrupt() {
		t.Error("the second ctrl-c counts as the first")
	}
}

// TestLiveLines checks the view without a terminal: a line a second, text only.
func TestLiveLines(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l := Watch(LiveOptions{Out: w, In: r})
	l.Begin("single, 20,000/s", 30*time.Second)
	run := lossy()
	for i := range run.Intervals {
		l.Progress(&run.Intervals[i])
	}
	l.Close()
	w.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "lines.txt", text)
}

// TestLiveLineFits checks that a line is no wider than lineWidth, whatever is measured,
// and ends with the verdict.
func TestLiveLineFits(t *testing.T) {
	in := bench.Interval{At: 8, Seconds: 1, Counts: map[string]int64{},
		Latencies: map[string]bench.Latency{}, Waiting: 12345, Open: 20000}
	for i, name := range []string{"sent", "acked", "delivered", "group texts", "logins", "logouts",
		"answered", "reads", "typing", "heartbeats", "files", "file bytes"} {
		in.Counts[name] = int64(123456 * (i + 1))
	}
	for _, name := range []string{"ack", "delivery", "login", "departments", "first sync",
		"heartbeat"} {
		in.Latencies[name] = bench.Latency{Count: 1, P99: 1234.5}
	}
	for _, checks := range []bench.Checks{{}, {Lost: 3}} {
		in.Checks = checks
		var b strings.Builder
		(&lineView{out: &b}).interval(&in)
		line := strings.TrimSuffix(b.String(), "\n")
		if runewidth.StringWidth(line) > lineWidth ||
			!strings.HasPrefix(line, "     9 s  sent 123,456/s  acked 246,912/s") ||
			!strings.HasSuffix(line, shortVerdict(&checks)) {
			t.Errorf("%d columns: %s", runewidth.StringWidth(line), line)
		}
	}
}

// TestLiveMinutes checks that a long run has a line a minute.
func TestLiveMinutes(t *testing.T) {
	var b strings.Builder
	v := lineView{out: &b}
	v.begin("soak", 8*time.Hour)
	for i := range 125 {
		v.interval(&bench.Interval{At: float64(i), Seconds: 1,
			Counts: map[string]int64{"acked": 10}})
	}
	want := "soak\n    60 s  acked 10.0/s  0 open  0 waiting  clean\n   120 s  acked 10.0/s  0 " +
		"open  0 waiting  clean\n"
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
}
