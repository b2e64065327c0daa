//go:build linux

package e2e

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"teamtalk/bench/report"
)

// TestBenchReports keeps the results of a run and of a sweep in files, and prints them
// again.
func TestBenchReports(t *testing.T) {
	t.Parallel()
	sys := deployAllInOne(t, settings{users: 20, flags: []string{"--msg.rate", "0"}})
	dir := t.TempDir()
	run, swept := filepath.Join(dir, "run.json"), filepath.Join(dir, "sweep.json")
	page := filepath.Join(dir, "run.html")
	out := mustRun(t, "bench", "single", "--addr", sys.msgAddr[0], "--pairs", "8", "--warmup",
		"100ms", "--rate", "200", "--duration", "500ms",
		"--json", run, "--html", page)
	if !strings.Contains(out, "clean: ") || !strings.Contains(out, "delivered") {
		t.Errorf("the table: %s", out)
	}
	if text, err := os.ReadFile(page); err != nil ||
		!strings.Contains(string(text), "Latency over time: ack") {
		t.Errorf("the page: %v: %s", err, text)
	}
	// The report of the file equals the output of the run.
	equal(t, "report", mustRun(t, "bench", "report", run), out)
	// The knee depends on the load of the machine. The sweep ends at the first rate that
	// the servers do not sustain.
	code, out, errOut := command(t, "bench", "sweep", "single", "--addr", sys.msgAddr[0], "--pairs",
		"8", "--warmup", "100ms", "--duration", "500ms",
		"--from", "100", "--to", "200", "--factor", "2", "--within", "50", "--p99", "10s", "--json",
		swept)
	f, err := report.ReadFile(swept)
	if err != nil || f.Sweep == nil || len(f.Sweep.Steps) == 0 {
		t.Fatalf("the sweep: %v: %s%s", err, out, errOut)
	}
	if (code == 0) != (f.Sweep.Knee > 0) || !strings.Contains(out, "Knee: ") {
		t.Errorf("exit code %d, knee %v: %s%s", code, f.Sweep.Knee, out, errOut)
	}
	for i, step := range f.Sweep.Steps {
		if step.Rate < 100 || step.Rate > 200 || step.Result.Scenario.Rate != step.Rate ||
			step.Result.Totals["acked"] == 0 {
			t.Errorf("step %d: %+v", i, step)
		}
	}
}

// benchUntilCounted starts a run of an hour. It returns the run once its lines contain
// counts.
func benchUntilCounted(t *testing.T, sys *deployment, stdin, stderr *os.File, lines io.Reader,
	counts string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	cmd := exec.Command(program(t), "bench", "single", "--addr", sys.msgAddr[0], "--pairs", "8",
		"--rate", "200", "--warmup", "100ms", "--duration", "1h")
	out := &strings.Builder{}
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = append(environment(), "TERM=xterm"), stdin, out,
		stderr
	if err := startBound(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	counted := make(chan bool, 1)
	go func() {
		r := bufio.NewReader(lines)
		seen := ""
		for {
			b, err := r.ReadByte()
			if err != nil {
				counted <- false
				return
			}
			if seen += string(b); strings.Contains(seen, counts) {
				counted <- true
				break
			}
		}
		_, _ = io.Copy(io.Discard, r)
	}()
	select {
	case ok := <-counted:
		if !ok {
			t.Fatal("the run ended before it counted")
		}
	case <-time.After(patience):
		t.Fatalf("no %q", counts)
	}
	return cmd, out
}

// TestBenchInterrupted interrupts runs, by a signal and in a terminal. They end at once,
// and report the counts so far.
func TestBenchInterrupted(t *testing.T) {
	t.Parallel()
	sys := deployAllInOne(t, settings{users: 20, flags: []string{"--msg.rate", "0"}})
	finish := func(t *testing.T, cmd *exec.Cmd, out *strings.Builder) {
		t.Helper()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		for _, want := range []string{"stopped early, of 1h", "clean: ", "acked"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in %s", want, out)
			}
		}
	}
	t.Run("signal", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cmd, out := benchUntilCounted(t, sys, nil, w, r, "counting")
		w.Close()
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		finish(t, cmd, out)
	})
	t.Run("terminal", func(t *testing.T) {
		user, tty, err := pty.Open()
		if err != nil {
			t.Skip("this machine has no pseudo-terminals:", err)
		}
		defer user.Close()
		cmd, out := benchUntilCounted(t, sys, tty, tty, user, "of 1:00:00")
		tty.Close()
		if _, err := user.Write([]byte{3}); err != nil {
			t.Fatal(err)
		}
		finish(t, cmd, out)
	})
}
