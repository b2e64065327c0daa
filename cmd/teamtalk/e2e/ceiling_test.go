//go:build linux

package e2e

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"teamtalk/bench"
	"teamtalk/sql/dbtest"
)

// TestBenchBeside runs a scenario without flags for processes. The run finds the
// processes of the address under test, and measures the ceilings of the machine without
// servers.
func TestBenchBeside(t *testing.T) {
	t.Parallel()
	s := settings{users: 60, flags: []string{"--msg.rate", "0"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		addrs := sys.msgAddr[0]
		if sys.separate {
			addrs += "," + sys.msgAddr[1]
		}
		args := []string{"bench", "single", "--pairs", "8", "--addr", addrs, "--warmup", "200ms",
			"--duration", "500ms", "--json", "-", "--ceilings", "--ceiling-duration", "200ms"}
		out := mustRun(t, append(args, sys.store...)...)
		var res bench.Result
		if err := json.Unmarshal([]byte(out), &res); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		checkProcesses(t, sys, &res)
		if len(res.Intervals) == 0 ||
			res.Intervals[len(res.Intervals)-1].Processes["machine"].RSS == 0 {
			t.Errorf("no processes in the intervals: %+v", res.Intervals)
		}
		if len(res.Ceilings) != 2 {
			t.Fatalf("ceilings: %+v", res.Ceilings)
		}
		for _, c := range res.Ceilings {
			if c.Error != "" || c.Rate <= 0 || c.Percent <= 0 || c.Of != "acked" {
				t.Errorf("%+v", c)
			}
		}
		checkPacedCeilings(t, sys)
		code, _, errOut := command(t, "bench", "idle", "--ceilings")
		if code != 2 || !strings.Contains(errOut, "--ceilings goes with") {
			t.Errorf("ceilings of idle: %d %s", code, errOut)
		}
	})
}

// checkPacedCeilings measures the echo and the databases at a rate. The echo is one process,
// and a row takes this one and those of the databases.
func checkPacedCeilings(t *testing.T, sys *deployment) {
	t.Helper()
	out := mustRun(t, append([]string{"bench", "ceiling", "--rate", "200", "--ceiling-duration",
		"300ms", "--connections", "20", "--json"}, sys.store...)...)
	var list []bench.Ceiling
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	processes := []int{1, 1}
	if sys.separate {
		processes[1] = 3
	}
	for i, c := range list {
		if c.Error != "" || c.Rate <= 0 || c.P50 <= 0 || c.P99 < c.P50 ||
			len(c.Each) != processes[i] {
			t.Errorf("want %d processes: %+v", processes[i], c)
		}
	}
	if len(list) != len(processes) {
		t.Errorf("ceilings: %+v", list)
	}
}

// checkProcesses checks that a result has every process of a deployment, and no password.
func checkProcesses(t *testing.T, sys *deployment, res *bench.Result) {
	t.Helper()
	var names []string
	for _, p := range res.Processes {
		name, _, _ := strings.Cut(p.Name, " :")
		names = append(names, name)
		if p.RSSAfter == 0 || p.RSSMax < p.RSSAfter {
			t.Errorf("%+v", p)
		}
		if strings.Contains(p.Command, "@tcp") {
			t.Errorf("the result has the DSN of a database: %s", p.Command)
		}
	}
	want := []string{"teamtalk", "generator", "all watched", "machine"}
	if sys.separate {
		want = []string{"msg", "msg", "dbproxy", "route", "login", "mariadbd", "redis-server",
			"generator", "all watched", "machine"}
	}
	slices.Sort(names)
	slices.Sort(want)
	equal(t, "processes", names, want)
}

// TestBenchFill fills a store, twice. A server serves the filled conversations, and new
// messages continue them.
func TestBenchFill(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"embedded", "mysql"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			program(t)
			store := []string{"--data-dir", filepath.Join(t.TempDir(), "data")}
			if kind == "mysql" {
				dsn := dbtest.MariaDB(t).NewDatabase(t)
				store = []string{"--store", "mysql", "--mysql.master", dsn,
					"--redis.addrs", dbtest.Redis(t).Addr()}
				mustRun(t, "migrate", "--mysql.master", dsn)
			}
			fill := append([]string{"bench", "fill", "--users", "40", "--relations", "300",
				"--messages", "3000", "--groups", "3", "--members", "10",
				"--group-messages", "60"}, store...)
			const first = "300 conversations, 3000 messages between users, 60 to groups"
			if out := mustRun(t, fill...); !strings.Contains(out, first) {
				t.Errorf("first: %s", out)
			}
			const again = ": 0 conversations, 3000 messages between users, 60 to groups"
			if out := mustRun(t, fill...); !strings.Contains(out, again) {
				t.Errorf("again: %s", out)
			}
			out := mustRun(t, append([]string{"group", "list"}, store...)...)
			equal(t, "groups", strings.Count(out, "filled "), 3)
			serveFilled(t, store)
			for _, bad := range [][]string{
				{"--relations", "1000", "--users", "5"}, {"--messages", "5", "--relations", "0"},
				{"--group-messages", "5"}, {"--size", "0"}, {"--format", "u"},
			} {
				args := slices.Concat([]string{"bench", "fill"}, bad, store)
				if code, _, errOut := command(t, args...); code != 2 {
					t.Errorf("%q: exit code %d %s", bad, code, errOut)
				}
			}
		})
	}
}

// serveFilled runs a server on a filled store, and sends messages in the filled
// conversations.
func serveFilled(t *testing.T, store []string) {
	t.Helper()
	addr := reserve(t)
	s := newServer(t, "all", append([]string{"serve", "--msg.rate", "0", "--msg.listen", addr,
		"--msfs.listen", reserve(t), "--msfs.min-free", "0B",
		"--file.listen", reserve(t), "--file.min-free", "0B",
		"--login.client-listen", reserve(t), "--login.http-listen", reserve(t)}, store...)...)
	s.start()
	out := mustRun(t, "bench", "single", "--pairs", "20", "--addr", addr, "--warmup", "0s",
		"--duration", "500ms", "--json", "-")
	var res bench.Result
	// The totals have no ack when the first batch takes longer than the measured time.
	if err := json.Unmarshal([]byte(out), &res); err != nil || !res.Checks.Clean() ||
		res.Latencies["ack"].Count == 0 {
		t.Errorf("%v: %s", err, out)
	}
	if store[0] == "--data-dir" {
		code, _, errOut := command(t, append([]string{"bench", "fill", "--users", "40",
			"--relations", "10"}, store...)...)
		if code != 1 || !strings.Contains(errOut, "in use by another server") {
			t.Errorf("a fill beside a server: %d %s", code, errOut)
		}
	}
	s.stop()
}

// TestBenchCeiling measures the ceilings alone. An error of one ceiling does not affect
// the other.
func TestBenchCeiling(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, args string
		code       int
		failed     string // part of the second ceiling's error
	}{
		{"embedded", "--data-dir nowhere-yet", 0, ""},
		{"groups", "--data-dir nowhere-yet --groups --size 200", 0, ""},
		{"no server", "--store mysql --mysql.master root@tcp(127.0.0.1:1)/x", 1,
			"connection refused"},
		{"texts that do not fit", "--size 5000", 1, "out of range (1 to 4096)"},
		{"no database named", "--store mysql", 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"bench", "ceiling", "--json", "--connections", "50",
				"--ceiling-duration", "100ms"}, strings.Fields(c.args)...)
			code, out, errOut := command(t, args...)
			if code != c.code {
				t.Fatalf("exit code %d, want %d: %s%s", code, c.code, out, errOut)
			}
			if code == 2 {
				return
			}
			var list []bench.Ceiling
			if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 2 {
				t.Fatalf("%v: %s", err, out)
			}
			if list[0].Rate <= 0 || list[0].Error != "" {
				t.Errorf("echo: %+v", list[0])
			}
			if (list[1].Rate > 0) != (c.failed == "") ||
				!strings.Contains(list[1].Error, c.failed) {
				t.Errorf("stored: %+v", list[1])
			}
		})
	}
}
