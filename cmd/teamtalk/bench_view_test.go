package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"teamtalk/bench"
	"teamtalk/bench/report"
	"teamtalk/bench/scenario"
	"teamtalk/cmd/teamtalk/internal/cli"
)

// kept writes a result with these totals to a file, and returns the path.
func kept(t *testing.T, name string, acked, lost int64) string {
	t.Helper()
	r := &bench.Result{
		Version: bench.ResultVersion, Started: time.Unix(1e9, 0),
		Scenario: scenario.New(scenario.KindSingle), Seconds: 10,
		Totals: map[string]int64{"acked": acked},
		Latencies: map[string]bench.Latency{"ack": {Count: acked, P50: 1, P90: 2, P99: 3, P999: 4,
			Max: 5}},
		Checks: bench.Checks{Lost: lost},
	}
	path := filepath.Join(t.TempDir(), name)
	if err := report.WriteFile(path, r); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBenchReport shows and compares results in each form.
func TestBenchReport(t *testing.T) {
	a, b := kept(t, "a.json", 10000, 0), kept(t, "b.json", 12000, 3)
	command(t, "", "bench", "report", a).want(t, cli.ExitOK,
		"acked        1,000   10,000   0 unacked", "")
	command(t, "", "bench", "report", b).want(t, cli.ExitOK, "NOT CLEAN: 3 lost", "")
	command(t, "", "bench", "report", a, "--markdown").want(t, cli.ExitOK,
		"| acked | 1,000 | 10,000 | 0 unacked |", "")
	command(t, "", "bench", "report", a, "--html", "-").want(t, cli.ExitOK, "<!DOCTYPE html>", "")
	page := filepath.Join(t.TempDir(), "a.html")
	command(t, "", "bench", "report", a, "--html", page).want(t, cli.ExitOK, "", "")
	if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), "</html>") {
		t.Errorf("%v: %s", err, text)
	}
	command(t, "", "bench", "compare", a, b).want(t, cli.ExitOK, "1.20× not clean", "")
	command(t, "", "bench", "compare", a, b, "--noise", "25").want(t, cli.ExitOK, "1.20× ≈", "")
	command(t, "", "bench", "compare", a, b, "--markdown").want(t, cli.ExitOK,
		"| acked | 1,000 | 1,200 ! |", "")
	command(t, "", "bench", "compare", a, b, "--html", "-").want(t, cli.ExitOK, "Percentiles: ack",
		"")
}

// TestBenchCompareFolders compares folders with several runs.
func TestBenchCompareFolders(t *testing.T) {
	before, after := t.TempDir(), t.TempDir()
	for i, dir := range []string{before, after} {
		for run := range 4 {
			path := kept(t, "r.json", int64(10000+5000*i+10*run), 0)
			if err := os.Rename(path, filepath.Join(dir, fmt.Sprintf("%d.json", run))); err != nil {
				t.Fatal(err)
			}
		}
	}
	command(t, "", "bench", "compare", before, after).want(t, cli.ExitOK,
		"is better: rates acked 1.50×", "")
	command(t, "", "bench", "compare", before, before).want(t, cli.ExitOK,
		"no difference from", "")
	command(t, "", "bench", "compare", before, t.TempDir()).want(t, cli.ExitFailure, "",
		"no file *.json in this folder")
	command(t, "", "bench", "compare", before, filepath.Join(after, "0.json")).want(t, cli.ExitOK,
		"too few runs (want 4 of each): rates acked", "")
}

// TestBenchReportUsage checks that errors name the flags and files of the command line.
func TestBenchReportUsage(t *testing.T) {
	a := kept(t, "a.json", 10000, 0)
	other := filepath.Join(t.TempDir(), "other.json")
	if err := os.WriteFile(other, []byte(`{"version": 99, "totals": {}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	sweep := func(args ...string) []string {
		return append([]string{"bench", "sweep", "single", "--from", "100", "--to", "200"}, args...)
	}
	for _, x := range []struct {
		code int
		args []string
		want string
	}{
		{cli.ExitUsage, []string{"bench", "report"}, "want one RESULT.json, got 0 arguments"},
		{cli.ExitFailure, []string{"bench", "report", "none.json"}, "none.json: no such file"},
		{cli.ExitFailure, []string{"bench", "report", other},
			"other.json: written by a newer build"},
		{cli.ExitUsage, []string{"bench", "compare", a},
			"want two RESULT.json or more, got 1 argument"},
		{cli.ExitUsage, []string{"bench", "compare", a, a, "--noise", "100"},
			"--noise: want a percentage"},
		{cli.ExitUsage, []string{"bench", "single", "--html", "none/r.html"},
			"none/r.html cannot be written"},
		{cli.ExitUsage, []string{"bench", "single", "--json", "none/r.json"},
			"none/r.json cannot be written"},
		{cli.ExitUsage, []string{"bench", "sweep", "single", "--to", "200"}, "rates from 0 to 200"},
		{cli.ExitUsage, sweep("--rate", "5"), "give --from and --to"},
		{cli.ExitUsage, sweep("--p99", "0s"), "a bound of the 99th percentile"},
		{cli.ExitUsage, sweep("--step", "1", "--factor", "2"), "not both"},
		{cli.ExitUsage, sweep("--pairs", "0"), "pairs"},
	} {
		r := command(t, "", x.args...)
		r.want(t, x.code, "", x.want)
	}
}
