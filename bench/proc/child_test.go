//go:build linux

package proc

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestMain runs this program as a process to watch when the environment says so.
func TestMain(m *testing.M) {
	if os.Getenv("PROC_TEST_CHILD") != "" {
		child()
		return
	}
	os.Exit(m.Run())
}

// child executes the commands on standard input, one a line, and answers each with a
// line.
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
			// Wait until the other side has accepted the connection: only then it has it
			// open.
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				panic(err)
			}
			keep = append(keep, c)
			fmt.Println("ok")
		case "burn": // use processor time, in milliseconds, and answer with the total
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

// processorTime returns the processor time that this process has used, in milliseconds.
func processorTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return (u.Utime.Nano() + u.Stime.Nano()) / 1e6
}

// process is a child process of the test.
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
