//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/bench"
	"teamtalk/core/cert/certtest"
)

// scenarios are command lines of bench, with the totals that must not be 0.
var scenarios = []struct {
	name   string
	args   string
	totals []string
}{
	{"idle", "idle --connections 20 --settle 10ms", []string{"heartbeats"}},
	{"single", "single --pairs 8", []string{"sent", "acked", "delivered"}},
	{"single on schedule", "single --pairs 8 --rate 200 --arrivals poisson --size 1000",
		[]string{"sent", "acked", "delivered"}},
	{"group", "group --groups 2 --members 10 --senders 3",
		[]string{"group texts", "acked", "delivered"}},
	{"connect", "connect --connections 20 --online 10", []string{"logins", "logouts"}},
	{"connect on schedule", "connect --connections 20 --rate 50 --after close --client windows",
		[]string{"logins"}},
	{"connect and stay", "connect --connections 20 --after stay", []string{"logins"}},
	{"files", "file --pairs 3 --mode both --file-size 100KiB", []string{"files", "file bytes"}},
	{wholeDay, "mixed --population 40 --roaming 10 --groups 3 --members 15 --rate 200 " +
		"--share-logins 10 --share-files 3",
		[]string{"sent", "group texts", "acked", "delivered", "logins", "logouts", "reads",
			"typing", "answered", "files"}},
	{"soak", "soak --of group --members 10 --senders 2 --rate 100",
		[]string{"acked", "delivered"}},
	{"several generators, pairs", "single --pairs 8 --generators 2",
		[]string{"sent", "acked", "delivered"}},
	{"several generators, one group",
		"group --members 20 --senders 6 --rate 200 --generators 3",
		[]string{"group texts", "acked", "delivered"}},
	{"several generators, a company's day", "mixed --population 40 --roaming 10 --groups 3 " +
		"--members 15 --rate 200 --generators 2", []string{"sent", "delivered"}},
}

// wholeDay is the scenario with all kinds of traffic.
const wholeDay = "a company's day"

// TestBenchTLS measures a system that every client must reach with TLS, the file server included.
func TestBenchTLS(t *testing.T) {
	t.Parallel()
	cert := certtest.Write(t, t.TempDir(), certtest.Options{})
	sys := deployAllInOne(t, settings{users: 60, files: true, flags: []string{"--msg.rate", "0",
		"--tls.certificate", cert.Certificate, "--tls.key", cert.Key,
		"--tls.plain-networks", "192.0.2.0/24"}})
	missing := []string{"sent", "delivered", "logins", "files"}
	for _, duration := range []string{"1s", "20s"} {
		missing = measure(t, sys.msgAddr[0], "mixed --population 20 --roaming 10 --groups 2 "+
			"--members 8 --rate 20 --share-logins 20 --share-files 20 --generators 2 --tls "+
			"--tls-ca "+cert.Certificate, duration, missing)
		if len(missing) == 0 {
			break
		}
	}
	if len(missing) > 0 {
		t.Errorf("the totals %q are 0", missing)
	}
	n := sys.msg[0].metric("teamtalk_tls_handshakes_total", `result="done"`)
	if n < 20 { // one for each of the population
		t.Errorf("%v handshakes", n)
	}
}

// TestBench measures a running system with every kind of scenario. All results are clean.
// The load generator knows only addresses of message servers, so it makes no difference to
// it whether they run in one process: all in one, the test measures wholeDay only.
func TestBench(t *testing.T) {
	t.Parallel()
	s := settings{users: 60, files: true, flags: []string{"--msg.rate", "0"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		addrs := sys.msgAddr[0]
		if sys.separate {
			addrs += "," + sys.msgAddr[1]
		}
		for _, c := range scenarios {
			if !sys.separate && c.name != wholeDay {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				missing := c.totals
				for _, duration := range []string{"500ms", "4s", "20s"} {
					missing = measure(t, addrs, c.args, duration, c.totals)
					if len(missing) == 0 {
						return
					}
				}
				t.Errorf("the totals %q are 0", missing)
			})
		}
		t.Run("a scenario in a file", func(t *testing.T) { measureFile(t, addrs) })
	})
}

// measureFile runs the scenario of a file, and keeps the result in another one.
func measureFile(t *testing.T, addrs string) {
	dir := t.TempDir()
	file, result := filepath.Join(dir, "pairs.toml"), filepath.Join(dir, "result.json")
	text := fmt.Sprintf("kind = 'single'\naddr = ['%s']\npairs = 4\nrate = 100\n"+
		"warmup = '0s'\nduration = '500ms'\n", strings.ReplaceAll(addrs, ",", "', '"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := mustRun(t, "bench", "run", file, "--json", result); !strings.Contains(out, "acked") {
		t.Errorf("printed %q", out)
	}
	var res bench.Result
	b, err := os.ReadFile(result)
	if err == nil {
		err = json.Unmarshal(b, &res)
	}
	if err != nil || res.Scenario.Name != "pairs" || res.Seconds != 0.5 ||
		res.Totals["acked"] == 0 || res.Machine.Cores == 0 {
		t.Errorf("%v: %+v", err, res)
	}
}

// measure runs a scenario, whose result must be clean, and returns those of the wanted
// totals that are 0. On a loaded machine a short run may end before the first answers.
func measure(t *testing.T, addrs, args, duration string, wants []string) (missing []string) {
	t.Helper()
	kind, more, _ := strings.Cut(args, " ")
	// A slow server gets time for the logins that are due. A run that has all answers ends at once.
	line := []string{"bench", kind, "--addr", addrs, "--json", "-", "--settle", "30s"}
	if kind != "idle" {
		line = append(line, "--warmup", "100ms", "--duration", duration)
	}
	out := mustRun(t, append(line, strings.Fields(more)...)...)
	var res bench.Result
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !res.Checks.Clean() {
		t.Errorf("checks: %+v", res.Checks)
	}
	for _, name := range wants {
		if res.Totals[name] == 0 {
			missing = append(missing, name)
		}
	}
	return missing
}

// TestBenchNotClean measures a server that drops messages. The exit code is 1, and the
// result lists the failures.
func TestBenchNotClean(t *testing.T) {
	t.Parallel()
	sys := deployAllInOne(t, settings{users: 2,
		flags: []string{"--msg.rate", "10", "--msg.rate-burst", "10"}})
	code, out, errOut := command(t, "bench", "single", "--pairs", "1", "--rate", "100", "--warmup",
		"0s", "--duration", "1s", "--settle", "1s", "--addr", sys.msgAddr[0])
	if code != 1 || !strings.Contains(out, "NOT CLEAN") || !strings.Contains(out, "never acked") ||
		!strings.Contains(errOut, "not everything went as it should") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
}
