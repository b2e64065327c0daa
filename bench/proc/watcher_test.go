//go:build linux

package proc

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestMain makes this program a process to be watched, when it is told to be one.
func TestMain(m *testing.M) {
	if os.Getenv("PROC_TEST_CHILD") != "" {
		child()
		return
	}
	os.Exit(m.Run())
}

// child obeys commands on standard input, one a line, and answers each with a line.
func child() {
	var keep []any
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		word, arg, _ := strings.Cut(in.Text(), " ")
		network := "tcp"
		if strings.HasPrefix(arg, "/") {
			network = "unix"
		}
		switch word {
		case "listen":
			l, err := net.Listen(network, arg)
			if err != nil {
				panic(err)
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = c.Write([]byte("!"))
				}
			}()
			keep = append(keep, l)
			fmt.Println(l.Addr())
		case "dial":
			c, err := net.Dial(network, arg)
			if err != nil {
				panic(err)
			}
			// The other side has accepted it: only then the process there has it open.
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				panic(err)
			}
			keep = append(keep, c)
			fmt.Println("ok")
		case "burn": // use processor time, in milliseconds
			var ms int64
			fmt.Sscan(arg, &ms)
			for from := processorTime(); processorTime()-from < ms; {
			}
			fmt.Println(processorTime())
		case "grow": // use memory, in MiB
			var n int
			fmt.Sscan(arg, &n)
			b := make([]byte, n<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			keep = append(keep, b)
			fmt.Println("ok")
		}
	}
	_ = keep
}

// processorTime is what this process has used, in milliseconds.
func processorTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return (u.Utime.Nano() + u.Stime.Nano()) / 1e6
}

// process is a child of the test.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func spawn(t *testing.T, args ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "PROC_TEST_CHILD=1")
	cmd.Stderr = os.Stderr
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
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// do sends a command and returns the answer.
func (p *process) do(format string, args ...any) string {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.in, format+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("%s: %v", fmt.Sprintf(format, args...), err)
	}
	return strings.TrimSpace(line)
}

func watch(t *testing.T, opt Options) *Watcher {
	t.Helper()
	w, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// byPID are the names given to processes.
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

// The address under test is enough to find everything that works for it, over TCP and unix sockets, and nobody else.
func TestFindsTheSystem(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "sock")
	database, cache := spawn(t, "mariadbd"), spawn(t, "redis-server")
	dbproxy, route := spawn(t, "serve", "--roles", "dbproxy"), spawn(t, "serve", "--roles=route,push")
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
	}{{dbproxy, sock}, {dbproxy, cacheAddr}, {msg1, dbproxyAddr}, {msg1, "127.0.0.1:" + routePort}, {msg2, dbproxyAddr}, {stranger, sock}, {stranger, cacheAddr}} {
		d.from.do("dial %s", d.to)
	}
	addr1, addr2 := msg1.do("listen 127.0.0.1:0"), msg2.do("listen 127.0.0.1:0")
	phone.do("dial %s", addr1)

	w := watch(t, Options{Addrs: []string{addr1}})
	_, port1, _ := net.SplitHostPort(addr1)
	_, port2, _ := net.SplitHostPort(addr2)
	// The second message server shares the first one's program and is connected to its dbproxy: part of the system.
	want := map[int]string{
		msg1.pid(): "msg :" + port1, msg2.pid(): "msg :" + port2, dbproxy.pid(): "dbproxy", route.pid(): "route+push",
		database.pid(): filepath.Base(os.Args[0]), cache.pid(): filepath.Base(os.Args[0]), os.Getpid(): "generator",
	}
	got := w.byPID()
	for pid, name := range want {
		if pid == database.pid() || pid == cache.pid() {
			if got[pid] == "" {
				t.Errorf("process %d, a database, is not found: %v", pid, got)
			}
			continue
		}
		if got[pid] != name {
			t.Errorf("process %d is called %q, want %q: %v", pid, got[pid], name, got)
		}
	}
	if got[stranger.pid()] != "" || got[phone.pid()] != "" || len(got) != len(want) {
		t.Errorf("strangers are taken for the system: %v", got)
	}
	if notes := w.Notes(); len(notes) > 0 {
		t.Errorf("notes: %q", notes)
	}

	// Found once, whatever else names it; the name given counts.
	w = watch(t, Options{Addrs: []string{addr1, addr2}, Watch: []string{fmt.Sprintf("front=%d", msg1.pid())}})
	if got := w.byPID(); got[msg1.pid()] != "front" || len(got) != len(want) {
		t.Errorf("with a name given: %v", got)
	}
}

// Connections that are made between New and Begin are seen at Begin.
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	l.Close()
	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	w := watch(t, Options{Addrs: []string{free, "192.0.2.1:8000", "nonsense", own.Addr().String()}})
	for _, part := range []string{"nobody listens on " + free, "192.0.2.1:8000 is another machine", `address "nonsense"`, "or to this one"} {
		if !hasNote(w, part) {
			t.Errorf("no note says %q: %q", part, w.Notes())
		}
	}
	if got := w.byPID(); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// What a process says that it used is what it is charged with, and the sums hold it.
func TestUsage(t *testing.T) {
	p := spawn(t, "burner")
	p.do("burn 100") // before the watch: not charged
	w := watch(t, Options{Watch: []string{fmt.Sprintf("burner=%d", p.pid())}})
	w.read()
	if used := w.list[len(w.list)-1].used; used > 5 {
		t.Errorf("charged with %d ticks from before the watch", used)
	}
	p.do("burn 20")
	w.Begin()
	p.do("burn 400")
	p.do("grow 40")
	usage, err := w.Sample()
	if err != nil {
		t.Fatal(err)
	}
	// Of no time at all nothing can be said: it is as it was.
	if again, err := w.Sample(); err != nil || again["burner"].CPU != usage["burner"].CPU {
		t.Errorf("%+v, at once after %+v, %v", again, usage, err)
	}
	w.End()
	begin, end := w.begun, w.ended
	var burner, sum, all, self bool
	for _, b := range w.Processes() {
		seconds := b.CPU * end.Sub(begin).Seconds()
		switch b.Name {
		case "burner":
			burner = true
			if seconds < 0.35 || seconds > 0.9 {
				t.Errorf("burnt %.2f s, want 0.4", seconds)
			}
			if grown := b.RSSAfter - b.RSSBefore; grown < 35<<20 || b.RSSMax < b.RSSAfter || b.RSSPeak < b.RSSMax {
				t.Errorf("memory: %+v", b)
			}
			if b.Files < 3 || b.Generator || !strings.Contains(b.Command, "burner") {
				t.Errorf("%+v", b)
			}
		case "generator":
			self = b.Generator && b.PID == os.Getpid()
		case Watched:
			sum = b.PID == 0 && seconds >= 0.35
		case Machine:
			all = b.PID == 0 && seconds >= 0.3 && b.RSSAfter > 0
		}
	}
	if !burner || !sum || !all || !self {
		t.Errorf("%+v", w.Processes())
	}
	if u := usage["burner"]; u.CPU <= 0 || u.RSS < 40<<20 || usage[Watched].CPU < u.CPU || usage[Machine].RSS == 0 {
		t.Errorf("%+v", usage)
	}
	if l := w.Load(); l.Cores == 0 || len(l.Generators) != 1 || l.Servers <= 0 || l.Machine <= 0 {
		t.Errorf("%+v", l)
	}
}

// A process that ends is a note, and one that takes its place is watched under the same name.
func TestRestart(t *testing.T) {
	first := spawn(t, "serve", "--roles", "msg")
	addr := first.do("listen 127.0.0.1:0")
	other := spawn(t, "serve", "--roles", "msg") // runs all the time, and is no successor
	other.do("burn 1")
	w := watch(t, Options{Addrs: []string{addr}})
	w.Begin()
	first.do("burn 100")
	if _, err := w.Sample(); err != nil {
		t.Fatal(err)
	}
	first.kill()
	usage, err := w.Sample()
	if err != nil || usage["msg"].RSS != 0 {
		t.Errorf("after the end: %v, %v", usage, err)
	}
	if !hasNote(w, fmt.Sprintf("msg (process %d) ended", first.pid())) || hasNote(w, "restarted") {
		t.Errorf("notes: %q", w.Notes())
	}
	second := spawn(t, "serve", "--roles", "msg")
	second.do("burn 100")
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
			if seconds := p.CPU * w.counted().Seconds(); p.PID != second.pid() || seconds < 0.15 {
				t.Errorf("both lives together used %.2f s: %+v", seconds, p)
			}
		}
	}
}

// A process id that somebody else has by now is not taken for the one that was watched.
func TestIDUsedAgain(t *testing.T) {
	p := spawn(t, "serve", "--roles", "msg")
	p.do("burn 1")
	w := watch(t, Options{Watch: []string{fmt.Sprintf("x=%d", p.pid())}})
	w.list[len(w.list)-1].stat.start-- // as if the one watched had started earlier
	if usage, err := w.Sample(); err != nil || usage["x"].RSS != 0 || !hasNote(w, "ended") {
		t.Errorf("%v, %v, %q", usage, err, w.Notes())
	}
}

// Who is named by an id is that process and no other.
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
	link := filepath.Join(t.TempDir(), name)
	if err := os.Link(self, link); err != nil {
		t.Skip("cannot link the test program: ", err)
	}
	var children []*process
	for range 2 {
		cmd := exec.Command(link)
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
	if got[children[0].pid()] != name+" :"+port || got[children[1].pid()] != fmt.Sprintf("%s #%d", name, children[1].pid()) || len(got) != 3 {
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
	if got[os.Getpid()] != "coordinator" || got[p.pid()] != "generator 1" || got[second.pid()] != "generator 2" {
		t.Errorf("%v", got)
	}
	if n := len(w.Load().Generators); n != 3 {
		t.Errorf("%d generators", n)
	}
}

func TestParseStat(t *testing.T) {
	line := "42 (a) b) (c) S 1 42 42 0 -1 4194560 100 0 0 0 70 30 5 5 20 0 4 0 12345 1000 200 18446744073709551615 1 1"
	st, err := parseStat([]byte(line))
	if err != nil || st != (stat{comm: "a) b) (c", ticks: 100, start: 12345}) {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := parseStat([]byte(strings.Replace(line, " S ", " Z ", 1))); !gone(err) {
		t.Errorf("a zombie lives: %v", err)
	}
	for _, bad := range []string{"", "42", "42 (x", "42 (x) S 1", strings.Replace(line, "70", "x", 1)} {
		if _, err := parseStat([]byte(bad)); err == nil || gone(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParseMachine(t *testing.T) {
	m, err := parseMachine([]byte("cpu  10 1 20 1000 500 2 3 4 10 0\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n"))
	if err != nil || m != (machine{busy: 40, taken: 4, cores: 2}) {
		t.Errorf("%+v, %v", m, err)
	}
	for _, bad := range []string{"", "cpu0 1\n", "cpu x\ncpu0 1\n"} {
		if _, err := parseMachine([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestParseHexAddr(t *testing.T) {
	for text, want := range map[string]string{
		"0100007F:1F90":                         "127.0.0.1:8080",
		"00000000:0050":                         "0.0.0.0:80",
		"0000000000000000FFFF00000100007F:1F90": "127.0.0.1:8080",
		"00000000000000000000000001000000:0001": "[::1]:1",
	} {
		if got, err := parseHexAddr(text); err != nil || got.String() != want {
			t.Errorf("%s is %v, want %s (%v)", text, got, want, err)
		}
	}
	for _, bad := range []string{"", "0100007F", "0100007F:", "01:1F90", "xx00007F:1F90", "0100007F:12345"} {
		if _, err := parseHexAddr(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Reports are passed on: what is secret in a command line is not in them.
func TestCommandLine(t *testing.T) {
	f := found{args: []string{"teamtalk", "serve", "--roles", "dbproxy", "--mysql.master", "tt:hidden@tcp(db)/x", "--redis.password=hidden", "--push.key-file", "hidden", "--workers=4"}}
	got := commandLine(f)
	if strings.Contains(got, "hidden") || !strings.HasPrefix(got, "teamtalk serve --roles dbproxy --mysql.master …") || !strings.HasSuffix(got, "--workers=4") {
		t.Errorf("%s", got)
	}
	if got := commandLine(found{args: []string{strings.Repeat("ü", 300)}}); len(got) > longCommand+len("…") || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
	if got := commandLine(found{stat: stat{comm: "kthreadd"}}); got != "kthreadd" {
		t.Errorf("%q", got)
	}
}
