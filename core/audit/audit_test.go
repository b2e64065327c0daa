package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func open(t *testing.T, o Options) *Log {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	o.Now = func() time.Time { return time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC) }
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	return l
}

// end closes l, so that all lines are written.
func end(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

func TestEventsAreLinesOfJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Options{File: path})
	l.Record(Event{Kind: Login, User: 7, Name: "alice", From: "10.0.0.7", Result: OK})
	l.Record(Event{Kind: LoginRefused, Name: "x\n{\"event\":\"login\"}", Result: "wrong"})
	end(t, l)
	want := []string{
		`{"time":"2026-11-29T08:00:00Z","event":"login","user":7,"name":"alice",` +
			`"from":"10.0.0.7","result":"ok"}`,
		// A name cannot forge a line.
		`{"time":"2026-11-29T08:00:00Z","event":"login_refused",` +
			`"name":"x\n{\"event\":\"login\"}","result":"wrong"}`,
	}
	if d := cmp.Diff(want, lines(t, path)); d != "" {
		t.Error(d)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want that of a file for its owner alone (%v)", info.Mode(), err)
	}
}

// TestNoLineMovesTheTerminal records a name with control characters beyond ASCII and with a mark of
// direction, which a terminal that shows the file would obey.
func TestNoLineMovesTheTerminal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Options{File: path})
	name := "a\u009b2J\x7f\u202eb\x1b]0;界"
	l.Record(Event{Kind: LoginRefused, Name: name, Result: "wrong"})
	end(t, l)
	line := lines(t, path)[0]
	if want := `"name":"a\u009b2J\u007f\u202eb\u001b]0;界"`; !strings.Contains(line, want) {
		t.Errorf("line %q, want %s", line, want)
	}
	var got Event
	if err := json.Unmarshal([]byte(line), &got); err != nil || got.Name != name {
		t.Errorf("read back %q (%v), want %q", got.Name, err, name)
	}
}

func TestLongTextsAreCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Options{File: path})
	l.Record(Event{Kind: Login, Name: "a" + strings.Repeat("界", 1000), Version: "\xff\x00",
		Result: OK})
	end(t, l)
	var got Event
	if err := json.Unmarshal([]byte(lines(t, path)[0]), &got); err != nil {
		t.Fatal(err)
	}
	if want := "a" + strings.Repeat("界", 85) + "…"; got.Name != want {
		t.Errorf("name of %d bytes, want %d", len(got.Name), len(want))
	}
	if got.Version != "\ufffd\x00" {
		t.Errorf("version %q", got.Version)
	}
}

// TestReopen moves the file away, as a program that rotates logs does.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Options{File: path})
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	l.Record(Event{Kind: Login, User: 8, Result: OK})
	end(t, l)
	if got := lines(t, path); len(got) != 1 || !strings.Contains(got[0], `"user":8`) {
		t.Errorf("lines in the new file: %q", got)
	}
}

func TestSyslog(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	l := open(t, Options{Syslog: "udp://" + socket.LocalAddr().String()})
	l.Record(Event{Kind: Kick, User: 9, Result: "disabled"})
	end(t, l)
	b := make([]byte, 4096)
	n, _, err := socket.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	// Facility authpriv (10), severity info (6).
	if got := string(b[:n]); !strings.HasPrefix(got, "<86>") ||
		!strings.Contains(got, `{"time":"2026-11-29T08:00:00Z","event":"kick","user":9,`) {
		t.Errorf("message %q", got)
	}
}

// TestDeadSyslogHoldsUpNothing: what a place cannot take is lost there, counted, and
// written elsewhere.
func TestDeadSyslogHoldsUpNothing(t *testing.T) {
	path, reg := filepath.Join(t.TempDir(), "audit.log"), prometheus.NewRegistry()
	l := open(t, Options{File: path, Registerer: reg})
	stuck, reader := newStuck()
	lost := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lost"},
		[]string{"place", "reason"})
	short := l.opt
	short.Queue = 4
	p := newPlace("stuck", stuck, &short, lost)
	l.places = append(l.places, p)
	go p.run()
	l.Record(Event{Kind: Login, User: 1, Result: OK})
	if _, err := reader.ReadByte(); err != nil { // the place writes the first line now
		t.Fatal(err)
	}
	for user := range uint32(6) {
		l.Record(Event{Kind: Login, User: 2 + user, Result: OK})
	}
	if n := testutil.ToFloat64(lost.WithLabelValues("stuck", "queue")); n != 2 {
		t.Errorf("%v lines lost, want 2 of 6 beyond a queue of 4", n)
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	end(t, l)
	l.Record(Event{Kind: Login, User: 99, Result: OK})
	if n := testutil.ToFloat64(lost.WithLabelValues("stuck", "closed")); n != 1 {
		t.Errorf("%v lines lost after the end, want 1", n)
	}
	if got := lines(t, path); len(got) != 7 {
		t.Errorf("%d lines in the file, want 7", len(got))
	}
}

// guided is a place whose writes end when the test says how.
type guided struct {
	began chan struct{}
	end   chan error
}

// Write reports that it began, and returns what the test sends.
func (g guided) Write(line []byte) (int, error) {
	g.began <- struct{}{}
	return len(line), <-g.end
}

// Close does nothing.
func (g guided) Close() error { return nil }

// TestFailing: a log fails from the first line that is lost on, until lines are written again.
func TestFailing(t *testing.T) {
	l := open(t, Options{File: filepath.Join(t.TempDir(), "audit.log")})
	g := guided{make(chan struct{}), make(chan error)}
	short := l.opt
	short.Queue = 2
	var log bytes.Buffer
	short.Log = slog.New(slog.NewTextHandler(&log, nil))
	p := newPlace("guided", g, &short, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lost"}, []string{"place", "reason"}))
	l.places = append(l.places, p)
	go p.run()
	fails := func(want string) {
		t.Helper()
		if err := l.Failing(); (err == nil) != (want == "") ||
			err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("failing: %v, want %q", err, want)
		}
	}
	record := func() { l.Record(Event{Kind: Login}) }
	// next ends the write of a line and returns in that of the next one. The place has stored the
	// result by then.
	next := func(err error) { g.end <- err; <-g.began }
	record()
	<-g.began
	fails("")
	record()
	next(errors.New("disk full"))
	fails("guided: disk full")
	record()
	next(nil)
	fails("")
	for range 3 { // one more than the queue holds
		record()
	}
	fails("guided: 2 lines wait")
	next(nil) // leaves the queue full
	fails("guided: 2 lines wait")
	next(nil)
	fails("")
	g.end <- nil
	end(t, l)
	var back []string
	for line := range strings.Lines(log.String()) {
		if _, text, ok := strings.Cut(line, "written again"); ok {
			back = append(back, strings.Join(strings.Fields(text), " "))
		}
	}
	want := []string{`" place=guided lost=1`, `" place=guided lost=1`}
	if d := cmp.Diff(want, back); d != "" {
		t.Errorf("the log of lines written again: %s\n%s", d, &log)
	}
}

// newStuck returns a place whose writes wait for the reader.
func newStuck() (io.WriteCloser, *bufio.Reader) {
	r, w := io.Pipe()
	return w, bufio.NewReaderSize(r, 16)
}

func TestMistakes(t *testing.T) {
	folder := t.TempDir()
	for _, test := range []struct {
		opt  Options
		want string
	}{
		{Options{File: folder}, "is a directory (setting audit.file)"},
		{Options{Syslog: "10.0.0.9:514"}, "want local, or a URL"},
		{Options{Syslog: "http://10.0.0.9:514"}, "want local, or a URL"},
		{Options{Syslog: "udp://10.0.0.9"}, "want local, or a URL"},
		{Options{File: filepath.Join(folder, "a"), Syslog: "tcp://127.0.0.1:1"}, "refused"},
	} {
		test.opt.Log = slog.New(slog.DiscardHandler)
		if _, err := Open(test.opt); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: error %v, want %q", test.opt, err, test.want)
		}
	}
}

func TestNilLog(t *testing.T) {
	l, err := Open(Options{})
	if l != nil || err != nil {
		t.Fatalf("log %v, error %v", l, err)
	}
	l.Record(Event{Kind: Login})
	if err := l.Reopen(); err != nil {
		t.Error(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestTornLine continues a file whose last line is a part of one, as a full disk leaves it.
func TestTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	for _, x := range []struct{ before, want string }{
		{"", "{\"b\":2}\n"},
		{"{\"a\":1}\n", "{\"a\":1}\n{\"b\":2}\n"},
		{"{\"a\":1}\n{\"a", "{\"a\":1}\n{\"a\n{\"b\":2}\n"},
	} {
		if err := os.WriteFile(path, []byte(x.before), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := openFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("{\"b\":2}\n")); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != x.want {
			t.Errorf("after %q the file is %q (%v), want %q", x.before, got, err, x.want)
		}
	}
}

// TestEventsPage: the page for operators lists each kind of event and each result.
func TestEventsPage(t *testing.T) {
	page, err := os.ReadFile("EVENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range append([]string{Login, LoginRefused, Logout, Kick, Register, Call,
		Command}, results...) {
		if !strings.Contains(string(page), "`"+code+"`") {
			t.Errorf("EVENTS.md lacks %s", code)
		}
	}
}

// TestRecent keeps the last events in memory without a place: the logins of users do not displace
// others, and the newest comes first.
func TestRecent(t *testing.T) {
	l := open(t, Options{Keep: 3})
	l.Record(Event{Kind: AdminCall, What: "first", Result: OK})
	for i := range 5 {
		l.Record(Event{Kind: Login, User: uint32(i), Result: OK})
	}
	l.Record(Event{Kind: Command, What: strings.Repeat("x", 2*maxText), Result: OK})
	got := l.Recent()
	if len(got) != 5 || got[0].Kind != Command || len(got[0].What) > maxText+3 ||
		got[1].User != 4 || got[3].User != 2 || got[4].What != "first" || got[0].Time == "" {
		t.Errorf("%+v", got)
	}
	for range 5 {
		l.Record(Event{Kind: AdminCall, From: "192.0.2.1", Result: WrongKey})
	}
	if got := l.Recent(); len(got) != 8 || got[7].What != "first" {
		t.Errorf("strangers displaced what an administrator did: %+v", got)
	}
	if err := l.Failing(); err != nil {
		t.Error(err)
	}
	end(t, l)
	if got := (*Log)(nil).Recent(); got != nil {
		t.Errorf("of no log: %v", got)
	}
	l = open(t, Options{File: filepath.Join(t.TempDir(), "log")})
	l.Record(Event{Kind: Login, Result: OK})
	if got := l.Recent(); len(got) != 0 {
		t.Errorf("kept without Keep: %v", got)
	}
}
