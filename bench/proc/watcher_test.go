//go:build linux

package proc

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"teamtalk/bench"
	"teamtalk/core/porttest"
)

func watch(t *testing.T, opt Options) *Watcher {
	t.Helper()
	w, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// byPID returns the names of the watched processes by process id.
func (w *Watcher) byPID() map[int]string {
	m := map[int]string{}
	for _, p := range w.Processes() {
		if p.PID != 0 {
			m[p.PID] = p.Name
		}
	}
	return m
}

func hasNote(w *Watcher, part string) bool {
	return slices.ContainsFunc(w.Notes(), func(n string) bool { return strings.Contains(n, part) })
}

// TestFindsTheSystem passes only an address under test. The watcher must find each
// process that works for it, over TCP and unix sockets, and no other.
func TestFindsTheSystem(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "sock")
	database, cache := spawn(t, "mariadbd"), spawn(t, "redis-server")
	dbproxy, route := spawn(t, "serve", "--roles", "dbproxy"),
		spawn(t, "serve", "--roles=route,push")
	msg1, msg2 := spawn(t, "serve", "--roles", "msg"), spawn(t, "serve", "--roles", "msg")
	stranger, phone := spawn(t, "cron"), spawn(t, "phone")
	database.do("listen %s", sock)
	cacheAddr := cache.do("listen 127.0.0.1:0")
	dbproxyAddr := dbproxy.do("listen 127.0.0.1:0")
	routeAddr := route.do("listen [::]:0")
	_, routePort, err := net.SplitHostPort(routeAddr)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []struct {
		from *process
		to   string
	}{{dbproxy, sock}, {dbproxy, cacheAddr}, {msg1, dbproxyAddr}, {msg1, "127.0.0.1:" + routePort},
		{msg2, dbproxyAddr}, {stranger, sock}, {stranger, cacheAddr}} {
		d.from.do("dial %s", d.to)
	}
	addr1, addr2 := msg1.do("listen 127.0.0.1:0"), msg2.do("listen 127.0.0.1:0")
	phone.do("dial %s", addr1)

	w := watch(t, Options{Addrs: []string{addr1}})
	_, port1, _ := net.SplitHostPort(addr1)
	_, port2, _ := net.SplitHostPort(addr2)
	// The second message server runs the program of the first and is connected to its
	// dbproxy: it is part of the system.
	want := map[int]string{
		msg1.pid(): "msg :" + port1, msg2.pid(): "msg :" + port2, dbproxy.pid(): "dbproxy",
		route.pid():    "route+push",
		database.pid(): filepath.Base(os.Args[0]), cache.pid(): filepath.Base(os.Args[0]),
		os.Getpid(): "generator",
	}
	got := w.byPID()
	wantNames(t, got, want, database.pid(), cache.pid())
	if got[stranger.pid()] != "" || got[phone.pid()] != "" || len(got) != len(want) {
		t.Errorf("strangers are taken for the system: %v", got)
	}
	if notes := w.Notes(); len(notes) > 0 {
		t.Errorf("notes: %q", notes)
	}

	// A process is watched once when several options name it, and the explicit name is
	// used.
	w = watch(t, Options{Addrs: []string{addr1, addr2},
		Watch: []string{fmt.Sprintf("front=%d", msg1.pid())}})
	if got := w.byPID(); got[msg1.pid()] != "front" || len(got) != len(want) {
		t.Errorf("with a name given: %v", got)
	}
}

// wantNames checks the names of processes. Only the presence of the databases is checked:
// their names are those of the test.
func wantNames(t *testing.T, got, want map[int]string, databases ...int) {
	t.Helper()
	for pid, name := range want {
		switch {
		case slices.Contains(databases, pid) && got[pid] == "":
			t.Errorf("process %d, a database, is not found: %v", pid, got)
		case !slices.Contains(databases, pid) && got[pid] != name:
			t.Errorf("process %d is called %q, want %q: %v", pid, got[pid], name, got)
		}
	}
}

// TestFindsLate connects two servers between New and Begin, and Begin must find the
// second one.
func TestFindsLate(t *testing.T) {
	msg, dbproxy := spawn(t, "serve", "--roles", "msg"), spawn(t, "serve", "--roles", "dbproxy")
	addr, inner := msg.do("listen 127.0.0.1:0"), dbproxy.do("listen 127.0.0.1:0")
	w := watch(t, Options{Addrs: []string{addr}})
	if got := w.byPID(); len(got) != 2 {
		t.Fatalf("%v", got)
	}
	msg.do("dial %s", inner)
	w.Begin()
	if got := w.byPID(); got[dbproxy.pid()] != "dbproxy" {
		t.Errorf("%v", got)
	}
}

func TestNothingToFind(t *testing.T) {
	free := porttest.Reserve(t)
	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	w := watch(t, Options{Addrs: []string{free, "192.0.2.1:8000", "nonsense", own.Addr().String()}})
	for _, part := range []string{"no process listens on " + free,
		"192.0.2.1:8000 is another machine", `address "nonsense"`, "or is this process"} {
		if !hasNote(w, part) {
			t.Errorf("no note says %q: %q", part, w.Notes())
		}
	}
	if got := w.byPID(); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// clock is a clock that the test sets. Processor time is real in these tests, and only the
// length of an interval is set: how long the machine takes for a step has no influence.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{time.Now()} }

func (c *clock) now() time.Time { return c.at }

// pass moves the clock on by ten seconds.
func (c *clock) pass() { c.at = c.at.Add(10 * time.Second) }

// used returns the milliseconds of processor time that process p measures of itself.
func (p *process) used() int64 {
	p.t.Helper()
	n, err := strconv.ParseInt(p.do("burn 0"), 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// tickError is the error of a difference of two readings, in milliseconds. The kernel cuts
// user and system time to ticks of 10 ms each, and Processes rounds to 1/1000 core.
const tickError = 45

// TestUsage compares the processor time that a process measures of itself with the time
// that the watcher reports for it. The process reads its time before and after each reading
// of the watcher, so the bounds are exact however long the steps take.
func TestUsage(t *testing.T) {
	p := spawn(t, "burner")
	p.do("burn 100")
	c, beforeNew := newClock(), p.used()
	w := watch(t, Options{Watch: []string{fmt.Sprintf("burner=%d", p.pid())}, now: c.now})
	w.read()
	most := p.used() - beforeNew + tickError
	if used := w.list[len(w.list)-1].used * 1000 / int64(w.hertz); used > most {
		t.Errorf("%d ms counted from before the watch, want at most %d", used, most)
	}

	p.do("burn 100") // before Begin, so it must not be counted either
	beforeBegin := p.used()
	w.Begin()
	afterBegin := p.used()
	p.do("burn 400")
	p.do("grow 40")
	beforeEnd := p.used()
	c.pass()
	usage := sampleTwice(t, w)
	w.End()
	least, most := beforeEnd-afterBegin-tickError, p.used()-beforeBegin+tickError

	by := map[string]bench.Process{}
	for _, b := range w.Processes() {
		by[b.Name] = b
	}
	checkBurner(t, by["burner"], float64(least)/1000/10, float64(most)/1000/10)
	if b := by["generator"]; !b.Generator || b.PID != os.Getpid() {
		t.Errorf("the generator: %+v", b)
	}
	if b := by[Watched]; b.PID != 0 || b.CPU < by["burner"].CPU {
		t.Errorf("the sum of the watched processes: %+v", b)
	}
	// The kernel may count the time of the whole machine by samples, so the bound is half.
	if b := by[Machine]; b.PID != 0 || b.CPU < by["burner"].CPU/2 || b.RSSAfter == 0 {
		t.Errorf("the machine: %+v", b)
	}
	if u := usage["burner"]; u.CPU <= 0 || u.RSS < 40<<20 || usage[Watched].CPU < u.CPU ||
		usage[Machine].RSS == 0 {
		t.Errorf("the sample: %+v", usage)
	}
	if l := w.Load(); l.Cores == 0 || len(l.Generators) != 1 || l.Servers <= 0 || l.Machine <= 0 {
		t.Errorf("the load: %+v", l)
	}
}

// sampleTwice takes two samples at the same moment. The second must repeat the first,
// because no rate can be computed for an interval without a length.
func sampleTwice(t *testing.T, w *Watcher) map[string]bench.Usage {
	t.Helper()
	usage, err := w.Sample()
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.Sample()
	if err != nil || again["burner"].CPU != usage["burner"].CPU {
		t.Errorf("the second sample is %+v, the first %+v (%v)", again, usage, err)
	}
	return usage
}

// checkBurner compares what is reported of the process that used time and 40 MiB of memory.
func checkBurner(t *testing.T, b bench.Process, least, most float64) {
	t.Helper()
	if b.CPU < least || b.CPU > most {
		t.Errorf("used %.3f cores, want %.3f to %.3f", b.CPU, least, most)
	}
	if b.RSSAfter-b.RSSBefore < 35<<20 || b.RSSMax < b.RSSAfter || b.RSSPeak < b.RSSMax {
		t.Errorf("memory: %+v", b)
	}
	if b.Files < 3 || b.Generator || !strings.Contains(b.Command, "burner") {
		t.Errorf("the process: %+v", b)
	}
}

// TestRestart ends a process and starts another of its kind. The watcher must record
// both, and count the second under the name of the first.
func TestRestart(t *testing.T) {
	c, first := newClock(), spawn(t, "serve", "--roles", "msg")
	addr := first.do("listen 127.0.0.1:0")
	other := spawn(t, "serve", "--roles", "msg") // runs all the time, and so replaces no other
	other.do("burn 1")
	w := watch(t, Options{Addrs: []string{addr}, now: c.now})
	w.Begin()
	first.do("burn 100")
	c.pass()
	if _, err := w.Sample(); err != nil {
		t.Fatal(err)
	}
	first.kill()
	c.pass()
	usage, err := w.Sample()
	if err != nil || usage["msg"].RSS != 0 {
		t.Errorf("after the end: %v, %v", usage, err)
	}
	if !hasNote(w, fmt.Sprintf("msg (process %d) ended", first.pid())) || hasNote(w, "restarted") {
		t.Errorf("notes: %q", w.Notes())
	}
	second := spawn(t, "serve", "--roles", "msg")
	second.do("burn 100")
	c.pass()
	usage, err = w.Sample()
	if err != nil || usage["msg"].RSS == 0 || usage["msg"].CPU <= 0 {
		t.Errorf("after the restart: %v, %v", usage, err)
	}
	if !hasNote(w, fmt.Sprintf("restarted: process %d", second.pid())) {
		t.Errorf("notes: %q", w.Notes())
	}
	w.End()
	for _, p := range w.Processes() {
		if p.Name == "msg" {
			if seconds := p.CPU * w.counted().Seconds(); p.PID != second.pid() || seconds < 0.14 {
				t.Errorf("both processes together used %.2f s: %+v", seconds, p)
			}
		}
	}
}

// TestIDUsedAgain watches a process whose id belongs to another process by now.
func TestIDUsedAgain(t *testing.T) {
	p := spawn(t, "serve", "--roles", "msg")
	p.do("burn 1")
	w := watch(t, Options{Watch: []string{fmt.Sprintf("x=%d", p.pid())}})
	w.list[len(w.list)-1].stat.start-- // as if the watched process had started earlier
	if usage, err := w.Sample(); err != nil || usage["x"].RSS != 0 || !hasNote(w, "ended") {
		t.Errorf("%v, %v, %q", usage, err, w.Notes())
	}
}

// TestEndOfOneNamedByID ends a process that was named by its id. No other process must
// replace it.
func TestEndOfOneNamedByID(t *testing.T) {
	first := spawn(t, "serve", "--roles", "msg")
	first.do("burn 1")
	w := watch(t, Options{Watch: []string{fmt.Sprintf("x=%d", first.pid())}})
	first.kill()
	spawn(t, "serve", "--roles", "msg").do("burn 1")
	usage, err := w.Sample()
	if err != nil || usage["x"].RSS != 0 || !hasNote(w, "ended") || hasNote(w, "restarted") {
		t.Errorf("%v, %v, %q", usage, err, w.Notes())
	}
	w.Begin()
	w.End()
	if len(w.Notes()) != 1 {
		t.Errorf("said more than once: %q", w.Notes())
	}
}

func TestWatchByName(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("watched-%d", os.Getpid())
	program := filepath.Join(t.TempDir(), name)
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, b, 0o700); err != nil {
		t.Fatal(err)
	}
	var children []*process
	for range 2 {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), "PROC_TEST_CHILD=1")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p := &process{t, cmd, in, bufio.NewReader(out)}
		t.Cleanup(p.kill)
		children = append(children, p)
	}
	_, port, _ := net.SplitHostPort(children[0].do("listen 127.0.0.1:0"))
	children[1].do("burn 1")
	got := watch(t, Options{Watch: []string{name}}).byPID()
	if got[children[0].pid()] != name+" :"+port ||
		got[children[1].pid()] != fmt.Sprintf("%s #%d", name, children[1].pid()) || len(got) != 3 {
		t.Errorf("%v", got)
	}
	for _, bad := range []string{"no-such-program", "x=1999999999"} {
		if _, err := New(Options{Watch: []string{bad}}); err == nil {
			t.Errorf("%q is watched", bad)
		}
	}
}

func TestGenerators(t *testing.T) {
	p := spawn(t, "generator")
	p.do("burn 1")
	w := watch(t, Options{})
	if got := w.byPID(); got[os.Getpid()] != "generator" {
		t.Errorf("%v", got)
	}
	second := spawn(t, "generator")
	second.do("burn 1")
	for _, p := range []*process{p, second} {
		if err := w.AddGenerator(p.pid()); err != nil {
			t.Fatal(err)
		}
	}
	got := w.byPID()
	if got[os.Getpid()] != "coordinator" || got[p.pid()] != "generator 1" ||
		got[second.pid()] != "generator 2" {
		t.Errorf("%v", got)
	}
	if n := len(w.Load().Generators); n != 3 {
		t.Errorf("%d generators", n)
	}
}
