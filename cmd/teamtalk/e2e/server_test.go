//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"teamtalk/core/porttest"
)

// server is a server process. A test may stop it and start it again; it keeps its ports.
type server struct {
	t     testing.TB
	name  string
	args  []string
	extra []string // flags for the next start
	admin string   // address of its admin port
	log   string   // file of its standard error
	files int      // limit of open files; 0: that of the test
	races bool     // the race detector, see settings.races
	stdin *os.File // nil: none
	env   []string // variables of its environment beside those of the test

	cmd  *exec.Cmd // nil while it does not run
	done chan struct{}
	out  *output
}

// unhurried are flags with which servers wait as long as the tests do. A loaded machine does not
// read a directory of thousands of users within 10 s for each of 50 clients, and a client whose
// request takes longer gets no answer. A test may set other limits.
var unhurried = []string{"--link.call-timeout", patience.String(),
	"--msg.login-deadline", patience.String(), "--file.login-deadline", patience.String()}

// newServer returns a server that is not started. Its first argument is the command. The end
// of the test stops it, and fails if its exit code is not 0 or its log has a data race or a
// panic.
func newServer(t testing.TB, name string, args ...string) *server {
	t.Helper()
	s := &server{t: t, name: name, admin: reserve(t), log: filepath.Join(t.TempDir(), name+".log")}
	s.args = slices.Concat(args[:1], unhurried, args[1:],
		[]string{"--admin.listen", s.admin, "--log.level", "debug"})
	t.Cleanup(func() {
		if s.cmd != nil {
			s.stop()
		}
		text, _ := os.ReadFile(s.log)
		for _, bad := range []string{"DATA RACE", "panic"} {
			if bytes.Contains(text, []byte(bad)) {
				t.Errorf("%s: %q in its log", name, bad)
			}
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, tail(text, 60))
		}
	})
	return s
}

// arg returns the value of one of the server's flags.
func (s *server) arg(flag string) string { return s.args[slices.Index(s.args, flag)+1] }

// tail returns the last lines of a text.
func tail(text []byte, lines int) string {
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(all) > lines {
		all = append([]string{fmt.Sprintf("… %d lines …", len(all)-lines)}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "\n")
}

// launch starts the process without waiting for it.
func (s *server) launch() {
	s.t.Helper()
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	binary := program
	if s.races {
		binary = racedProgram
	}
	cmd := exec.Command(binary(s.t), append(s.args[:len(s.args):len(s.args)], s.extra...)...)
	if s.files > 0 {
		limit := fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, s.files)
		cmd = exec.Command("/bin/sh", append([]string{"-c", limit}, cmd.Args...)...)
	}
	s.out = &output{}
	cmd.Env, cmd.Dir = append(environment(), s.env...), s.t.TempDir()
	cmd.Stderr, cmd.Stdout = log, s.out
	if s.stdin != nil {
		cmd.Stdin = s.stdin
	}
	if err := startBound(cmd); err != nil {
		s.t.Fatalf("start %s: %v", s.name, err)
	}
	done := make(chan struct{})
	s.cmd, s.done = cmd, done
	go func() {
		cmd.Wait()
		close(done)
	}()
}

// start starts the process and waits until it is ready.
func (s *server) start() {
	s.t.Helper()
	s.launch()
	s.awaitReady()
}

// awaitReady waits until /readyz reports that the server is ready. A server that ends
// instead fails the test.
func (s *server) awaitReady() {
	s.t.Helper()
	until(s.t, s.name+" to be ready", func() bool {
		if s.ended() {
			text, _ := os.ReadFile(s.log)
			s.t.Fatalf("%s ended while starting, exit code %d\n%s", s.name,
				s.cmd.ProcessState.ExitCode(), tail(text, 20))
		}
		return s.probe("/readyz") == http.StatusOK
	})
}

// ended reports whether the process has ended.
func (s *server) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// admins is an HTTP client that keeps no connection open: a server that stops would wait
// for it. It accepts no compression, which is most of the work of an answer with metrics.
var admins = &http.Client{Timeout: patience,
	Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}

// probe requests a path of the admin port. It returns the status, or 0 without an answer.
func (s *server) probe(path string) int {
	resp, err := admins.Get("http://" + s.admin + path)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// metrics returns all metrics of the server as text.
func (s *server) metrics() ([]byte, error) {
	resp, err := admins.Get("http://" + s.admin + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// metric returns the sum of a metric over the lines that contain part, such as a label.
// An empty part sums all lines.
func (s *server) metric(name, part string) float64 {
	s.t.Helper()
	text, err := s.metrics()
	if err != nil && s.files > 0 {
		// A process that is short of descriptors refuses connections for a moment.
		until(s.t, s.name+" to tell its metrics", func() bool {
			text, err = s.metrics()
			return err == nil || s.ended()
		})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ') // labels may contain spaces
		if at < 0 {
			continue
		}
		key, value := line[:at], line[at+1:]
		if base, _, _ := strings.Cut(key, "{"); base != name || !strings.Contains(key, part) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			s.t.Fatalf("metric line %q: %v", line, err)
		}
		sum, found = sum+v, true
	}
	if !found && part == "" {
		s.t.Fatalf("%s has no metric %s", s.name, name)
	}
	return sum
}

// kill ends the process with SIGKILL, as a power failure would.
func (s *server) kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	<-s.done
	s.cmd = nil
}

// terminate sends SIGTERM to the process.
func (s *server) terminate() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
}

// awaitExit waits until the process ends, and returns its exit code.
func (s *server) awaitExit() int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(patience):
		s.signal(syscall.SIGQUIT) // prints the stacks of its goroutines
		select {
		case <-s.done:
		case <-time.After(patience):
			s.signal(syscall.SIGKILL)
			<-s.done
		}
		s.t.Errorf("%s did not end in %v", s.name, patience)
	}
	code := s.cmd.ProcessState.ExitCode()
	s.cmd = nil
	return code
}

// stop ends the process with SIGTERM, as an operator does. The exit code must be 0.
func (s *server) stop() {
	s.t.Helper()
	s.terminate()
	if code := s.awaitExit(); code != 0 {
		s.t.Errorf("%s: exit code %d after SIGTERM", s.name, code)
	}
}

// signal sends a signal to the process.
func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Errorf("%s: signal %v: %v", s.name, sig, err)
	}
}

// rss returns the resident memory of the process in bytes.
func (s *server) rss() int64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	s.t.Fatal("no VmRSS in /proc")
	return 0
}

// output collects the output of a process. Any goroutine.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends p.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String returns all output so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// starter runs functions on one thread that lives as long as the process. The kernel
// sends the death signal to a child when the thread that started it ends, and the Go
// runtime may end any other thread.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// startBound starts a process that does not outlive this one.
func startBound(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	err := make(chan error)
	starter() <- func() { err <- cmd.Start() }
	return <-err
}

// reserve returns a loopback address for a server that the test starts, stops and starts
// again, and for one that is down.
func reserve(t testing.TB) string {
	t.Helper()
	return porttest.Reserve(t)
}
