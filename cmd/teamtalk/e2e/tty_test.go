//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// typist is a user at a terminal that runs the program.
type typist struct {
	t     testing.TB
	term  *os.File // the user's side
	cmd   *exec.Cmd
	shown *output
	seen  int // bytes of shown that sees has consumed
	done  chan struct{}
	mute  bool // the terminal does not say where its cursor is
}

// openTerminal opens a pair of terminals: bytes written to one are typed at the other.
func openTerminal(t testing.TB) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("this machine has no terminals:", err)
	}
	t.Cleanup(func() { person.Close() })
	raw, err := person.SyscallConn() // Fd would make reads block forever
	if err != nil {
		t.Fatal(err)
	}
	number := 0
	err = raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
		if err == nil {
			err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 120})
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err == nil {
		program, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return person, program
}

// atTerminal runs a command line of the program at a terminal.
func atTerminal(t testing.TB, args ...string) *typist {
	t.Helper()
	p := &typist{t: t}
	p.start(args)
	return p
}

// start runs a command line of the program at the terminal of p.
func (p *typist) start(args []string) {
	t := p.t
	t.Helper()
	person, side := openTerminal(t)
	defer side.Close()
	p.term, p.shown, p.done = person, &output{}, make(chan struct{})
	p.cmd = exec.Command(program(t), args...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = side, side, side
	p.cmd.Env, p.cmd.Dir = append(environment(), "TERM=xterm", "NO_COLOR=1"), t.TempDir()
	if err := startBound(p.cmd); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.show()
	}()
	go func() {
		p.cmd.Wait()
		<-read
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("the terminal showed:\n%q", p.shown.String())
		}
	})
}

// show collects the output until the program closes its side. It answers requests for the
// position of the cursor, as a terminal does, unless p is mute.
func (p *typist) show() {
	buf, asked := make([]byte, 4096), 0
	for {
		n, err := p.term.Read(buf)
		p.shown.Write(buf[:n])
		for ; !p.mute && asked < strings.Count(p.shown.String(), "\x1b[6n"); asked++ {
			p.term.WriteString("\x1b[1;1R")
		}
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// sees waits until the terminal shows a text after the text of the last call.
func (p *typist) sees(want string) {
	p.t.Helper()
	until(p.t, fmt.Sprintf("%q on the terminal", want), func() bool {
		at := strings.Index(p.shown.String()[p.seen:], want)
		if at < 0 {
			select {
			case <-p.done:
				p.t.Fatalf("the program ended without %q", want)
			default:
			}
			return false
		}
		p.seen += at + len(want)
		return true
	})
}

// types types a line and presses Enter.
func (p *typist) types(line string) {
	p.t.Helper()
	if _, err := p.term.WriteString(line + "\r"); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits until the program ends, and checks its exit code.
func (p *typist) ends(code int) {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s did not end", p.cmd.Args[1:])
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("exit code %d, want %d", got, code)
	}
}
