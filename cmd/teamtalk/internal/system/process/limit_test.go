package process

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// TestOperatorsMemoryLimitStays: GOMEMLIMIT wins over the limit of a container.
func TestOperatorsMemoryLimitStays(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOMEMLIMIT", "300MiB")
	debug.SetMemoryLimit(300 << 20) // as the runtime does at the start
	LimitMemory(slog.New(slog.DiscardHandler))
	if got := debug.SetMemoryLimit(-1); got != 300<<20 {
		t.Errorf("the limit is %d, want the operator's 300 MiB", got)
	}
}

// limited is the environment variable that lets TestMemoryLimitOfAContainer print what
// LimitMemory has set, instead of testing.
const limited = "TEAMTALK_TEST_LIMITED"

// TestMemoryLimitOfAContainer: a process in a cgroup with a limit of 512 MiB lets its heap
// have 80 % of it, and says so. It needs root and a hierarchy that can be written.
func TestMemoryLimitOfAContainer(t *testing.T) {
	if os.Getenv(limited) != "" {
		LimitMemory(slog.New(slog.NewTextHandler(os.Stdout, nil)))
		fmt.Println("limit", debug.SetMemoryLimit(-1))
		return
	}
	group := cgroup(t, 512<<20)
	for _, c := range []struct {
		operator string // GOMEMLIMIT
		want     string
	}{
		{"", fmt.Sprint("limit ", int64(512<<20)*8/10)},
		{"off", fmt.Sprint("limit ", math.MaxInt64)},
	} {
		script := `echo $$ > "$0"/cgroup.procs && exec "$@"`
		cmd := exec.Command("sh", "-c", script, group, os.Args[0],
			"-test.run", "^TestMemoryLimitOfAContainer$", "-test.v")
		cmd.Env = slices.DeleteFunc(append(os.Environ(), limited+"=1"), func(v string) bool {
			return strings.HasPrefix(v, "GOMEMLIMIT=") || strings.HasPrefix(v, "AUTOMEMLIMIT=")
		})
		if c.operator != "" {
			cmd.Env = append(cmd.Env, "GOMEMLIMIT="+c.operator)
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if !bytes.Contains(out, []byte(c.want+"\n")) {
			t.Errorf("GOMEMLIMIT=%q: %s, want %q", c.operator, out, c.want)
		}
		said := bytes.Contains(out, []byte("memory limit of the heap"))
		if said != (c.operator == "") {
			t.Errorf("GOMEMLIMIT=%q: the log has the limit: %v", c.operator, said)
		}
	}
}

// cgroup makes a cgroup with a memory limit, and returns its folder. It skips the test where
// that is not possible.
func cgroup(t *testing.T, limit int) string {
	t.Helper()
	name := fmt.Sprintf("teamtalk-test-%d", os.Getpid())
	for _, h := range []struct{ root, file string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"}} {
		dir := filepath.Join(h.root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) }) // empty once its process has ended
		if err := os.WriteFile(filepath.Join(dir, h.file), fmt.Append(nil, limit), 0); err == nil {
			return dir
		}
	}
	text, _ := os.ReadFile("/proc/self/cgroup") // for the message alone
	t.Skip("no cgroup with a memory limit can be made here: ",
		strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", " "))
	return ""
}
