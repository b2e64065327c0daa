// Package dbtest starts private database servers for tests: one MariaDB per process, and
// as many Redis servers as a test asks for. They use temporary folders, listen on
// loopback only, and end with the test process, even if it is killed.
//
// The servers have the durability of production (a commit is on the disk), so that tests
// and benchmarks show the real behaviour.
package dbtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"teamtalk/core/porttest"
)

// startTimeout bounds the start of a server. A start takes less than a second, and much
// longer on a loaded CI machine.
const startTimeout = 60 * time.Second

// guard is the shell script that runs a server. It reads a pipe that only the test
// process holds open. When that process ends, even by SIGKILL, the read ends and the
// shell kills the server. It then removes the server's folder, unless the test process
// wrote "keep" because it may start the server again. Its first line of output is the
// server's process id.
const guard = `"$@" >>"$TEAMTALK_DBTEST_DIR/log" 2>&1 </dev/null &
pid=$!
echo $pid
read word
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
[ "$word" = keep ] || rm -rf "$TEAMTALK_DBTEST_DIR"
`

// process is a database server with its guard.
type process struct {
	cmd   *exec.Cmd
	leash io.WriteCloser // closing it ends the guard and the server
	pid   int            // the server's
	dir   string
}

// start starts a server in dir.
func start(dir string, name string, args ...string) (*process, error) {
	cmd := exec.Command("/bin/sh", append([]string{"-c", guard, "sh", name}, args...)...)
	cmd.Env = append(os.Environ(), "TEAMTALK_DBTEST_DIR="+dir,
		"PATH="+os.Getenv("PATH")+string(os.PathListSeparator)+dir)
	// In a process group of its own: Ctrl-C at the terminal then reaches only the test
	// process, and the guard can clean up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	leash, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{cmd: cmd, leash: leash, dir: dir}
	if _, err := fmt.Fscan(out, &p.pid); err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// stop kills the server and waits for its end. Its folder stays.
func (p *process) stop() {
	io.WriteString(p.leash, "keep\n")
	p.leash.Close()
	p.cmd.Wait() // the status has no meaning, because the guard always kills
}

// log returns the end of the server's log.
func (p *process) log() string {
	b, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	if len(b) > 4096 {
		b = b[len(b)-4096:]
	}
	return string(bytes.TrimSpace(b))
}

// alive reports whether the server runs.
func (p *process) alive() bool { return syscall.Kill(p.pid, 0) == nil }

// await calls ready until it returns nil. It returns an error when the server ends or
// does not answer within startTimeout.
func (p *process) await(ready func() error) error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if !p.alive() {
			return fmt.Errorf("the server ended while it started: %s", p.log())
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server did not answer within %v: %w: %s", startTimeout, err,
				p.log())
		}
		time.Sleep(5 * time.Millisecond) // polls another process, which sends no event
	}
}

// freePort returns a TCP port of loopback for a server that lives as long as this process,
// which keeps the port reserved. A server of a test is stopped and started again on its port,
// and other packages' tests ask for ports meanwhile.
func freePort() (int, error) {
	port, _, err := porttest.Hold(0)
	return port, err
}

// missing skips the test because a server's program is not installed. With CI=true it
// fails the test instead.
func missing(tb testing.TB, program string) {
	tb.Helper()
	const msg = "%s is not installed: on Debian and Ubuntu `apt-get install mariadb-server " +
		"redis-server`, or run `make test`"
	if os.Getenv("CI") == "true" {
		tb.Fatalf(msg, program)
	}
	tb.Skipf(msg, program)
}

// tempDir makes a temporary folder for a server.
func tempDir(kind string) (string, error) {
	return os.MkdirTemp("", "teamtalk-"+kind+"-")
}

// run runs a program and waits for its end. The error has the end of its output.
func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return fmt.Errorf("%s: %w: %s", filepath.Base(name), err,
				strings.TrimSpace(string(out)))
		}
		return err
	}
	return nil
}
