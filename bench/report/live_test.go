package report

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/creack/pty"
	"github.com/mattn/go-runewidth"

	"teamtalk/bench"
)

// terminal returns both sides of a terminal: the user's and the program's.
func terminal(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, program, err := pty.Open()
	if err != nil {
		t.Skip("no pseudo-terminals here:", err)
	}
	t.Cleanup(func() { user.Close(); program.Close() })
	if err := pty.Setsize(program, &pty.Winsize{Rows: 40, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	return user, program
}

// feed passes a run up to a second to a screen.
func feed(s *screen, until float64) {
	s.Update(beginMsg{"single, 20,000/s", 30 * time.Second})
	s.Update(phaseMsg("connecting to 2 message servers"))
	r := lossy()
	for i := range r.Intervals {
		if r.Intervals[i].At < until {
			s.Update(intervalMsg(reduce(&r.Intervals[i])))
		}
	}
}

func newScreen(width, height int) *screen {
	s := &screen{stop: func() {}, now: func() time.Time { return time.Unix(0, 0) },
		totals: map[string]int64{}}
	s.Update(tea.WindowSizeMsg{Width: width, Height: height})
	return s
}

func TestScreen(t *testing.T) {
	var b bytes.Buffer
	for _, until := range []float64{-5, -2, 12, 22, 30} {
		s := newScreen(100, 40)
		feed(s, until)
		b.WriteString(s.draw() + "\n")
	}
	golden(t, "screen.txt", b.Bytes())
}

// TestScreenFits checks that the screen is never wider or higher than the terminal, and
// red after a failed check.
func TestScreenFits(t *testing.T) {
	escapes := regexp.MustCompile("\x1b\\[[0-9;]*m")
	for _, size := range [][2]int{{200, 60}, {100, 40}, {80, 24}, {60, 12}, {30, 10}, {10, 3}} {
		s := newScreen(size[0], size[1])
		s.color = true
		feed(s, 30)
		text := s.draw()
		if n := strings.Count(text, "\n"); n >= size[1] {
			t.Errorf("%v: %d lines", size, n)
		}
		for l := range strings.Lines(text) {
			if w := runewidth.StringWidth(escapes.ReplaceAllString(strings.TrimSuffix(l, "\n"),
				"")); w > size[0] {
				t.Errorf("%v: %d columns: %q", size, w, l)
			}
		}
		if size[1] >= 24 && !strings.Contains(text, "\x1b[1;31mNOT CLEAN: 3 lost") {
			t.Errorf("%v: not red: %s", size, text)
		}
	}
}

// TestScreenInterrupt checks that the first ctrl-c asks the run to end and keeps the
// view, and that the second aborts.
func TestScreenInterrupt(t *testing.T) {
	s := newScreen(100, 40)
	stopped := 0
	s.stop = func() { stopped++ }
	feed(s, 10)
	ctrlC := tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}
	_, cmd := s.Update(ctrlC)
	if cmd == nil || cmd() != nil || stopped != 1 || s.ended ||
		!strings.Contains(s.draw(), "ending") {
		t.Fatalf("stopped %d times, ended %v: %s", stopped, s.ended, s.draw())
	}
	_, cmd = s.Update(ctrlC)
	if cmd == nil || cmd() != (tea.QuitMsg{}) || stopped != 1 || !s.aborted {
		t.Errorf("stopped %d times, aborted %v", stopped, s.aborted)
	}
}

// TestLiveTerminal uses the view through a terminal.
func TestLiveTerminal(t *testing.T) {
	user, program := terminal(t)
	seen := make(chan string, 1000)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := user.Read(buf)
			if err != nil {
				close(seen)
				return
			}
			seen <- string(buf[:n])
		}
	}()
	var all strings.Builder
	wait := func(text string) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for !strings.Contains(all.String(), text) {
			select {
			case s := <-seen:
				all.WriteString(s)
			case <-deadline:
				t.Fatalf("no %q in %q", text, all.String())
			}
		}
	}
	stop, abort := make(chan struct{}), make(chan struct{})
	l := Watch(LiveOptions{
		Out: program, In: program, Environ: []string{"TERM=xterm-256color"},
		Stop: func() { close(stop) }, Abort: func() { close(abort) },
	})
	l.Begin("single of a test", 30*time.Second)
	r := lossy()
	for i := range r.Intervals {
		l.Progress(&r.Intervals[i])
	}
	wait("single of a test")
	wait("NOT CLEAN")
	if _, err := l.Write([]byte("a line of the log\n")); err != nil {
		t.Fatal(err)
	}
	wait("a line of the log")
	receive := func(c chan struct{}, what string) {
		t.Helper()
		if _, err := user.Write([]byte{3}); err != nil { // ctrl-c
			t.Fatal(err)
		}
		select {
		case <-c:
		case <-time.After(20 * time.Second):
			t.Fatal("ctrl-c does not " + what)
		}
	}
	receive(stop, "stop")
	wait("ending")
	receive(abort, "abort")
	l.Close()
	l.Progress(&r.Intervals[0]) // late intervals are ignored
	wait("\x1b[?25h")           // the cursor is visible again
}

func TestLiveCloses(t *testing.T) {
	user, program := terminal(t)
	go func() { _, _ = io.Copy(io.Discard, user) }()
	l := Watch(LiveOptions{Out: program, In: program, Environ: []string{"TERM=xterm"},
		Stop: func() { t.Error("stopped") }, Abort: func() { t.Error("aborted") }})
	l.Begin("x", 0)
	l.Close()
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
