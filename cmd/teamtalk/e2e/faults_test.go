//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"teamtalk/bench/faults"
)

// TestFaults runs the ledger with the shortest run of each deployment. Nothing is lost,
// duplicated or reordered, and no process and no file remains.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ deployment, faults string }{
		{"embedded", "kill:node"},
		{"separate", "kill:msg,kill:dbproxy,kill:file"},
	} {
		t.Run(c.deployment, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(program(t), "bench", "faults", "--deployment", c.deployment,
				"--faults", c.faults, "--rounds", "1", "--seed", "1", "--json", "-",
				"--settle", "5m", "--max-beyond", "0") // no time matters on a loaded machine
			cmd.Env, cmd.Stderr = append(environment(), "TMPDIR="+t.TempDir()), os.Stderr
			out, err := cmd.Output()
			var res faults.Result
			if err = errors.Join(err, json.Unmarshal(out, &res)); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if n := 1 + strings.Count(c.faults, ","); len(res.Rows) != n || !res.Clean() {
				t.Errorf("%d rows, want %d: %s", len(res.Rows), n, out)
			}
			for _, row := range res.Rows {
				// Each of the nine flows has an ack before the fault and after it.
				if row.Rounds != 1 || row.Acked < 18 || row.Stored < row.Acked {
					t.Errorf("%s: %+v", row.Fault, row)
				}
				// Each service that a round waits for has a success before the fault and after it.
				for _, s := range row.Services {
					if s.Accepted < 2 && s.Service != "kicks" {
						t.Errorf("%s: %+v", row.Fault, s)
					}
				}
			}
		})
	}
}

// TestFaultsInterrupted interrupts a run as Ctrl-C does. It checks the present
// row, and leaves no process and no file.
func TestFaultsInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(program(t), "bench", "faults", "--deployment", "embedded", "--faults",
		"kill:node,cut:node", "--rounds", "1000000", "--max-beyond", "0", "--verbose")
	out := &output{}
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, append(environment(), "TMPDIR="+dir)
	if err := startBound(cmd); err != nil {
		t.Fatal(err)
	}
	until(t, "the first round", func() bool {
		return strings.Contains(out.String(), "number=1 ")
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	ended := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer ended.Stop()
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "stopped early") {
		t.Errorf("%v\n%s", err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("%q remain", left)
	}
}
