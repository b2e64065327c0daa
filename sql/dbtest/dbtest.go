// Package dbtest starts private database servers for tests: a MariaDB of this process's own, and as many Redis servers as a test asks for. They live in
// temporary folders, listen on loopback only, and go when the test process goes, however it goes.
//
// The servers run with the durability of production (a commit is on disk), so that what a test or benchmark says about them is true.
package dbtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startTimeout is how long a server may take until it answers. Starting takes below a second; a loaded CI machine is given much more.
const startTimeout = 60 * time.Second

// guard is the shell that runs a server. It reads a pipe that only the test process holds open: when that process ends, even by SIGKILL,
// the read ends, and the shell kills the server; its folder goes too, unless the test process said "keep" (it may start the server
// again on it). The first line it prints is the server's process id.
const guard = `"$@" >>"$TEAMTALK_DBTEST_DIR/log" 2>&1 </dev/null &
pid=$!
echo $pid
read word
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
[ "$word" = keep ] || rm -rf "$TEAMTALK_DBTEST_DIR"
`

// process is a database server under its guard.
type process struct {
	cmd   *exec.Cmd
	leash io.WriteCloser // closing it ends the guard and the server
	pid   int            // of the server
	dir   string
}

// start runs a server in dir.
func start(dir string, name string, args ...string) (*process, error) {
	cmd := exec.Command("/bin/sh", append([]string{"-c", guard, "sh", name}, args...)...)
	cmd.Env = append(os.Environ(), "TEAMTALK_DBTEST_DIR="+dir)
	// Its own process group: a Ctrl-C at the terminal must reach the test process alone, and leave the guard to clean up.
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

// stop kills the server and waits until it is gone; its folder stays.
func (p *process) stop() {
	io.WriteString(p.leash, "keep\n")
	p.leash.Close()
	p.cmd.Wait() // its status says nothing: the guard always kills
}

// log returns the end of what the server wrote.
func (p *process) log() string {
	b, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	if len(b) > 4096 {
		b = b[len(b)-4096:]
	}
	return string(bytes.TrimSpace(b))
}

// alive reports whether the server runs.
func (p *process) alive() bool { return syscall.Kill(p.pid, 0) == nil }

// await calls ready until it returns nil, the server has died or the time is over.
func (p *process) await(ready func() error) error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if !p.alive() {
			return fmt.Errorf("server ended while starting: %s", p.log())
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("server does not answer after %v: %w: %s", startTimeout, err, p.log())
		}
		time.Sleep(5 * time.Millisecond) // a poll for an outside process; nothing to wait on
	}
}

// freePort returns a TCP port of loopback that was free a moment ago. Servers that cannot listen on port 0 need one; whoever starts them
// tries again when somebody else was faster.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// missing ends the test when a server's program is not installed: skipped at home, failed on CI, where it must be there.
func missing(tb testing.TB, program string) {
	tb.Helper()
	const msg = "%s is not installed: on Debian and Ubuntu `apt-get install mariadb-server " +
		"redis-server`, or run `make test`"
	if os.Getenv("CI") == "true" {
		tb.Fatalf(msg, program)
	}
	tb.Skipf(msg, program)
}

// find returns the path of the first of the programs that is installed. Debian keeps servers in sbin, which is not in everyone's PATH.
func find(programs ...string) string {
	for _, name := range programs {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/local/bin",
			"/usr/libexec", "/opt/homebrew/bin"} {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
				return path
			}
		}
	}
	return ""
}

// tempDir makes a folder for a server.
func tempDir(kind string) (string, error) {
	return os.MkdirTemp("", "teamtalk-"+kind+"-")
}

// run runs a program to its end; the error holds the end of what it said.
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
