package report

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"
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

// viewer is the user's side of a terminal with a view.
type viewer struct {
	t             *testing.T
	user, program *os.File
	before        *term.State // mode of the terminal before the view
	output        chan string // closed when the terminal is
	seen          string
	stop, abort   chan struct{}
	live          *Live
}

// watch starts a view in a terminal.
func watch(t *testing.T, environ ...string) *viewer {
	t.Helper()
	v := &viewer{t: t, output: make(chan string, 1000), stop: make(chan struct{}, 10),
		abort: make(chan struct{}, 10)}
	v.user, v.program = terminal(t)
	var err error
	if v.before, err = term.GetState(int(v.program.Fd())); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(v.output)
		buf := make([]byte, 4096)
		for {
			n, err := v.user.Read(buf)
			if err != nil {
				return
			}
			v.output <- string(buf[:n])
		}
	}()
	v.live = Watch(LiveOptions{Out: v.program, In: v.program, Environ: environ,
		Stop:  func() { v.stop <- struct{}{} },
		Abort: func() { v.abort <- struct{}{} },
	})
	t.Cleanup(v.live.Close)
	return v
}

// patience bounds every wait of a test.
const patience = 4 * time.Minute

// sees waits until the terminal has received text.
func (v *viewer) sees(text string) {
	v.t.Helper()
	deadline := time.After(patience)
	for !strings.Contains(v.seen, text) {
		select {
		case s, ok := <-v.output:
			if !ok {
				v.t.Fatalf("the terminal closed without %q in %q", text, v.seen)
			}
			v.seen += s
		case <-deadline:
			v.t.Fatalf("no %q in %q", text, v.seen)
		}
	}
}

// types sends keys to the program.
func (v *viewer) types(keys string) {
	v.t.Helper()
	if _, err := v.user.WriteString(keys); err != nil {
		v.t.Fatal(err)
	}
}

// called waits until the view has called Stop or Abort.
func (v *viewer) called(c chan struct{}, name string) {
	v.t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		v.t.Fatalf("ctrl-c does not call %s: %q", name, v.seen)
	}
}

// restored checks that the cursor is visible and the mode of the terminal is what it was.
func (v *viewer) restored() {
	v.t.Helper()
	v.sees(showCursor)
	after, err := term.GetState(int(v.program.Fd()))
	if err != nil {
		v.t.Fatal(err)
	}
	if *after != *v.before {
		v.t.Errorf("mode of the terminal: %+v, was %+v", after, v.before)
	}
}

// TestLiveTerminal shows a run in a terminal and presses ctrl-c twice: the first asks the
// run to end and keeps the view, the second restores the terminal and aborts.
func TestLiveTerminal(t *testing.T) {
	v := watch(t, "TERM=xterm-256color")
	v.live.Begin("single of a test", 30*time.Second)
	r := lossy()
	for i := range r.Intervals {
		v.live.Progress(&r.Intervals[i])
	}
	v.sees(hideCursor)
	v.sees("single of a test")
	v.sees("\x1b[1;31mNOT CLEAN")
	if n, err := v.live.Write([]byte("a line of the log\n")); n != 18 || err != nil {
		t.Fatal(n, err)
	}
	v.sees("a line of the log\r\n")
	v.types("qx\x1b[A") // no other key has an effect
	v.types("\x03")
	v.called(v.stop, "Stop")
	v.sees("ending")
	if strings.Contains(v.seen, showCursor) {
		t.Error("the first ctrl-c ends the view")
	}
	v.types("\x03")
	v.called(v.abort, "Abort")
	v.restored()
	v.live.Close()
	v.live.Progress(&r.Intervals[0]) // late intervals are ignored
	if len(v.stop) != 0 || len(v.abort) != 0 {
		t.Error("Stop or Abort was called twice")
	}
}

// TestLiveCloses closes a view in a terminal: the terminal is restored, the lines of the log
// are still written, and keys are left to the next reader.
func TestLiveCloses(t *testing.T) {
	v := watch(t, "TERM=xterm")
	v.live.Begin("x", 0)
	v.live.Close()
	v.live.Close()
	v.restored()
	if _, err := v.live.Write([]byte("a late line\n")); err != nil {
		t.Fatal(err)
	}
	v.sees("a late line\r\n")
	v.types("for the shell\n")
	keys := make([]byte, 64)
	if n, err := v.program.Read(keys); string(keys[:n]) != "for the shell\n" {
		t.Errorf("the shell reads %q, %v", keys[:n], err)
	}
	if len(v.stop) != 0 || len(v.abort) != 0 {
		t.Error("Stop or Abort was called")
	}
}

// TestLiveEnding checks that ctrl-c after a signal of another process is the second.
func TestLiveEnding(t *testing.T) {
	v := watch(t, "TERM=xterm")
	v.live.Begin("x", 0)
	v.live.Ending()
	v.sees("ending")
	v.types("\x03")
	v.called(v.abort, "Abort")
	v.restored()
	if len(v.stop) != 0 {
		t.Error("Stop was called")
	}
}

// TestLiveResizes checks that the view follows the size of the terminal.
func TestLiveResizes(t *testing.T) {
	v := watch(t, "TERM=xterm", "NO_COLOR=1")
	v.live.Begin("x", 30*time.Second)
	bar := func(n int) string { return strings.Repeat("─", n) + "  starting, " }
	v.sees(bar(60))
	if err := pty.Setsize(v.program, &pty.Winsize{Rows: 40, Cols: 50}); err != nil {
		t.Fatal(err)
	}
	v.sees(clearLine + bar(50-len("starting, 0:00")-2))
}

// TestLiveDumb checks that a terminal without control sequences receives lines.
func TestLiveDumb(t *testing.T) {
	v := watch(t, "TERM=dumb")
	v.live.Begin("a title", 0)
	v.live.Phase("a phase")
	v.live.Close()
	v.sees("a title\r\na phase\r\n")
	if strings.Contains(v.seen, "\x1b") {
		t.Errorf("control sequences: %q", v.seen)
	}
}

// emulator is a terminal that interprets the output of a block. It wraps no lines.
type emulator struct {
	height   int
	scrolled []string // rows that left at the top
	rows     []string // visible rows, from the top
	y        int      // row of the cursor
	start    bool     // the cursor is in the first column
}

// write interprets output and returns an error for output that a block must not produce.
func (e *emulator) write(output string) error {
	for output != "" {
		if e.y >= len(e.rows) {
			e.rows = append(e.rows, "")
		}
		switch rest, ok := strings.CutPrefix(output, "\x1b["); {
		case ok:
			end := strings.IndexAny(rest, "AJK")
			if end < 0 || !e.start {
				return fmt.Errorf("sequence at %q, first column: %v", output, e.start)
			}
			if err := e.control(rest[:end], rest[end]); err != nil {
				return err
			}
			output = rest[end+1:]
		case output[0] == '\r':
			e.start, output = true, output[1:]
		case output[0] == '\n':
			if !e.start {
				return fmt.Errorf("a line feed without a carriage return")
			}
			e.down()
			output = output[1:]
		default:
			end := strings.IndexAny(output, "\r\x1b")
			if end < 0 || e.rows[e.y] != "" {
				return fmt.Errorf("text %q over %q", output, e.rows[e.y])
			}
			e.rows[e.y], e.start, output = output[:end], false, output[end:]
		}
	}
	return nil
}

// down moves the cursor down a row and scrolls at the bottom.
func (e *emulator) down() {
	if e.y++; e.y == e.height {
		e.scrolled, e.rows, e.y = append(e.scrolled, e.rows[0]), e.rows[1:], e.y-1
	}
}

// control interprets a control sequence.
func (e *emulator) control(argument string, command byte) error {
	switch command {
	case 'A':
		n, err := strconv.Atoi(argument)
		if err != nil {
			return err
		}
		e.y = max(0, e.y-n)
	case 'J':
		e.rows = append(e.rows[:e.y], "")
	case 'K':
		e.rows[e.y] = ""
	}
	return nil
}

// shows returns the rows with text, those that left at the top included.
func (e *emulator) shows() []string {
	return slices.DeleteFunc(slices.Concat(e.scrolled, e.rows),
		func(r string) bool { return r == "" })
}

// TestBlockReplacesItself draws blocks and lines of the log: each line of the log remains
// above the block, in order, and of the blocks only the last remains.
func TestBlockReplacesItself(t *testing.T) {
	steps := []struct {
		text  string
		lines []string
		want  []string
	}{
		{"", []string{"a", "b", "c"}, []string{"a", "b", "c"}},
		{"", []string{"a", "B"}, []string{"a", "B"}},
		{"log 1", []string{"a", "B"}, []string{"log 1", "a", "B"}},
		{"log 2\nlog 3", []string{"d", "e", "f", "g"},
			[]string{"log 1", "log 2", "log 3", "d", "e", "f", "g"}},
		{"log 4\nlog 5\nlog 6", []string{"h"},
			[]string{"log 1", "log 2", "log 3", "log 4", "log 5", "log 6", "h"}},
		{"", nil, []string{"log 1", "log 2", "log 3", "log 4", "log 5", "log 6"}},
	}
	e, b := &emulator{height: 5}, &block{}
	for i, s := range steps {
		if err := e.write(b.draw(s.text, s.lines, 80)); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if got := e.shows(); !slices.Equal(got, s.want) {
			t.Fatalf("step %d: %q, want %q", i, got, s.want)
		}
	}
}

// TestBlockRows counts the rows of a block after the terminal has changed its width. Colours
// occupy no columns.
func TestBlockRows(t *testing.T) {
	b := block{width: 20, lines: []string{strings.Repeat("x", 20), "", paint(true, good, "─────"),
		strings.Repeat("界", 6)}}
	for width, want := range map[int]int{80: 4, 20: 4, 10: 6, 5: 4 + 3 + 2, 0: 4} {
		if got := b.rows(width); got != want {
			t.Errorf("%d columns: %d rows, want %d", width, got, want)
		}
	}
	if out := b.draw("", nil, 10); !strings.HasPrefix(out, "\r\x1b[6A") {
		t.Errorf("%q", out)
	}
}
