package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"teamtalk/bench/scenario"
)

// TestMain runs the test binary as an agent when a test starts it as one.
func TestMain(m *testing.M) {
	if os.Getenv("BENCH_TEST_AGENT") != "" {
		if err := ServeAgent(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "24") // the tests wait most of the time
	os.Exit(m.Run())
}

// patience is how long a run waits without progress for messages that a fault may have
// lost. The counts are exact only when nothing else is missing, so it is longer than the
// process may have to wait for a processor on a busy machine.
const patience = scenario.Duration(5 * time.Second)

// unhurried is the time in which a login, a logout or a part of a file must be answered. The
// faulty server answers all of them.
const unhurried = scenario.Duration(4 * time.Minute)

// TestFaults checks that each fault of a server is found, and nothing else.
func TestFaults(t *testing.T) {
	all := faults{ignored: 1, ackLost: 1, ackTwice: 1, ackOther: 1, notStored: 1, lost: 1, twice: 1,
		swapped: 1, textBad: 1, stampBad: 1}
	for _, c := range []struct {
		name   string
		faults faults
	}{
		{"none", faults{}},
		{"messages ignored", faults{ignored: 1}},
		{"acks lost", faults{ackLost: 1}},
		{"acks twice", faults{ackTwice: 1}},
		{"answered with something else", faults{ackOther: 1}},
		{"not stored", faults{notStored: 1}},
		{"deliveries lost", faults{lost: 1}},
		{"many lost", faults{lost: 30}},
		{"deliveries twice", faults{twice: 1}},
		{"deliveries swapped", faults{swapped: 1}},
		{"texts changed", faults{textBad: 1}},
		{"stamps changed", faults{stampBad: 1}},
		{"to others too", faults{astray: 1}},
		{"everything", all},
	} {
		for _, kind := range []string{scenario.KindSingle, scenario.KindGroup} {
			if c.faults.astray > 0 && kind == scenario.KindGroup {
				continue // all receivers are in one group, where it is a second delivery
			}
			for _, agents := range []int{0, 2} {
				if agents > 0 && c.faults != (faults{}) && c.faults != all {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%d agents", c.name, kind, agents), func(t *testing.T) {
					t.Parallel()
					testFaults(t, c.faults, kind, agents)
				})
			}
		}
	}
}

func testFaults(t *testing.T, f faults, kind string, agents int) {
	srv := newFaulty(t, f)
	s := scenario.New(kind)
	s.Addrs = []string{srv.addr}
	s.Pairs, s.Groups, s.Members, s.Senders = 5, 1, 9, 4
	s.Rate, s.Warmup, s.Duration, s.Settle, s.Loops = 3000, scenario.Duration(100*time.Millisecond),
		scenario.Duration(400*time.Millisecond), patience, 2
	s.Size, s.Timeout = 64, unhurried
	if f != (faults{}) {
		// without faults some messages are due exactly when counting begins and ends
		s.Arrivals = "poisson"
	}
	var opt Options
	for i := range agents {
		opt.Agents = append(opt.Agents, Agent{Name: fmt.Sprint(i),
			Command: []string{"/usr/bin/env", "BENCH_TEST_AGENT=1", os.Args[0]}})
	}
	res, err := Run(t.Context(), s, opt)
	if err != nil {
		t.Fatal(err)
	}
	srv.mu.Lock()
	did := srv.did
	srv.mu.Unlock()
	want := Checks{Unacked: did.ignored + did.ackLost, Lost: did.lost, Duplicates: did.twice +
		did.ackTwice, Reordered: did.swapped,
		Corrupt: did.textBad + did.stampBad + did.astray, Refused: did.notStored + did.ackOther}
	got := res.Checks
	got.Examples, got.Behind = nil, 0
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("found %+v\nthe server did %+v\n%s", got, want,
			strings.Join(res.Checks.Examples, "\n"))
	}
	if f != (faults{}) && (want.Clean() || len(res.Checks.Examples) == 0) {
		t.Errorf("no fault was made: %+v, examples %q", did, res.Checks.Examples)
	}
	if n := events(res); n["acked"] == 0 || n["delivered"] == 0 ||
		res.Latencies["ack"].Count == 0 || res.Latencies["delivery"].Histogram == "" {
		t.Errorf("events %v, latencies %v", n, res.Latencies)
	}
	if f == (faults{}) {
		receivers := int64(1)
		if kind == scenario.KindGroup {
			receivers = int64(s.Members - 1)
		}
		if acks, deliveries := res.Latencies["ack"].Count,
			res.Latencies["delivery"].Count; deliveries != acks*receivers {
			t.Errorf("counted %d acks, %d deliveries to %d receivers each", acks, deliveries,
				receivers)
		}
	}
	checkTotals(t, res)
}

// checkTotals compares the totals with the sums of the intervals while counting.
func checkTotals(t *testing.T, res *Result) {
	t.Helper()
	sums := map[string]int64{}
	for _, in := range res.Intervals {
		if in.At >= 0 && in.At < res.Seconds {
			for name, n := range in.Counts {
				sums[name] += n
			}
		}
	}
	if fmt.Sprint(sums) != fmt.Sprint(res.Totals) {
		t.Errorf("the intervals sum up to %v, the totals are %v", sums, res.Totals)
	}
}

// events returns the counts of all intervals of a run. The totals contain only those while
// counting: on a busy machine all answers may arrive after the end of it.
func events(res *Result) map[string]int64 {
	sums := map[string]int64{}
	for _, in := range res.Intervals {
		for name, n := range in.Counts {
			sums[name] += n
		}
	}
	return sums
}

// short returns a scenario of half a second for a faulty server.
func (s *faulty) short(kind string) scenario.Scenario {
	sc := scenario.New(kind)
	sc.Addrs = []string{s.addr}
	sc.Warmup, sc.Duration = 0, scenario.Duration(500*time.Millisecond)
	sc.Settle, sc.Loops, sc.Timeout = patience, 2, unhurried
	return sc
}

// TestFaultOfHeartbeats checks that each heartbeat without an echo counts as refused.
func TestFaultOfHeartbeats(t *testing.T) {
	t.Parallel()
	srv := newFaulty(t, faults{mute: 3})
	s := srv.short(scenario.KindIdle)
	s.Connections, s.Beat = 20, scenario.Duration(500*time.Millisecond)
	res, err := Run(t.Context(), s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if res.Latencies["login"].Count != 20 || res.Latencies["heartbeat"].Count == 0 {
		t.Errorf("latencies %+v", res.Latencies)
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if got := res.Checks; srv.did.mute == 0 || got.Refused != srv.did.mute || got.Broken != 0 {
		t.Errorf("%d were not echoed, found %+v", srv.did.mute, got)
	}
}

// TestFaultOfRefusedLogins checks that each refused login counts.
func TestFaultOfRefusedLogins(t *testing.T) {
	t.Parallel()
	srv := newFaulty(t, faults{refused: 10})
	s := srv.short(scenario.KindConnect)
	s.Connections, s.Rate = 50, 500
	res, err := Run(t.Context(), s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if got := res.Checks; srv.did.refused == 0 || got.Refused != srv.did.refused ||
		got.Broken != 0 || events(res)["logins"] == 0 {
		t.Errorf("%d were refused, found %+v, %v", srv.did.refused, got, res.Totals)
	}
}

// TestLoginsThatCannotBegin checks that a login counts as refused when no user is free for it.
func TestLoginsThatCannotBegin(t *testing.T) {
	t.Parallel()
	srv := newFaulty(t, faults{refused: 100})
	s := srv.short(scenario.KindConnect)
	s.Connections, s.Rate, s.Settle = 2, 500, scenario.Duration(200*time.Millisecond)
	res, err := Run(t.Context(), s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if got := res.Checks; srv.did.refused > 100 || got.Refused != 250 ||
		!strings.Contains(strings.Join(got.Examples, "\n"),
			"logins were due and did not begin") {
		t.Errorf("%d were refused of 250 that were due, found %+v", srv.did.refused, got)
	}
}

// TestAllConnectionsClosed checks that a run ends early when no connection is left.
func TestAllConnectionsClosed(t *testing.T) {
	t.Parallel()
	srv := newFaulty(t, faults{hangsUp: 100})
	s := srv.short(scenario.KindGroup)
	s.Groups, s.Members, s.Senders, s.Duration = 1, 4, 4, scenario.Duration(time.Hour)
	res, err := Run(t.Context(), s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if res.Seconds > 60 || res.Checks.Broken != 4 || len(res.Notes) != 1 ||
		!strings.Contains(res.Notes[0], "no connection was left") {
		t.Errorf("%v s, %+v, %q", res.Seconds, res.Checks, res.Notes)
	}
}

// TestMissingUsers checks that the error names the command that creates the users.
func TestMissingUsers(t *testing.T) {
	t.Parallel()
	srv := newFaulty(t, faults{refused: 100})
	_, err := Run(t.Context(), srv.short(scenario.KindSingle), Options{})
	if err == nil || !strings.Contains(err.Error(), "teamtalk user add --count 400") {
		t.Errorf("%v", err)
	}
}

// TestFaultOfClosedConnections checks that each connection that the server closes counts.
func TestFaultOfClosedConnections(t *testing.T) {
	t.Parallel()
	srv := newFaulty(t, faults{hangsUp: 1})
	s := srv.short(scenario.KindSingle)
	s.Pairs, s.Rate = 20, 2000
	res, err := Run(t.Context(), s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if got := res.Checks; srv.did.hungUp == 0 || got.Broken != srv.did.hungUp ||
		got.Lost+got.Duplicates+got.Corrupt+got.Reordered != 0 {
		t.Errorf("%d were closed, found %+v", srv.did.hungUp, got)
	}
}

// TestStoppedRun checks that a run that is stopped while counting has a result, with and
// without agents.
func TestStoppedRun(t *testing.T) {
	t.Parallel()
	srv := newFaulty(t, faults{})
	s := srv.short(scenario.KindSingle)
	s.Duration, s.Pairs = scenario.Duration(time.Hour), 2
	ctx, cancel := context.WithCancel(t.Context())
	opt := Options{Progress: func(*Interval) { cancel() }}
	res, err := Run(ctx, s, opt)
	if err != nil || res.Seconds < 0.9 || res.Seconds > 60 || !res.Checks.Clean() ||
		events(res)["acked"] == 0 {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err := Run(ctx, s, opt); err == nil {
		t.Errorf("the run began after its context had ended")
	}
	ctx, cancel = context.WithCancel(t.Context())
	opt = Options{Progress: func(*Interval) { cancel() },
		Agents: []Agent{{Name: "a", Command: []string{"/usr/bin/env", "BENCH_TEST_AGENT=1",
			os.Args[0]}}}}
	res, err = Run(ctx, s, opt)
	if err != nil || res.Seconds > 60 || !res.Checks.Clean() || events(res)["acked"] == 0 {
		t.Errorf("with an agent: %+v, %v", res, err)
	}
}

// TestAgentThatEnds checks that the error contains the standard error of the agent.
func TestAgentThatEnds(t *testing.T) {
	t.Parallel()
	srv := newFaulty(t, faults{})
	s := srv.short(scenario.KindSingle)
	_, err := Run(t.Context(), s, Options{Agents: []Agent{{Name: "a",
		Command: []string{"/bin/sh", "-c", "echo no such file >&2; exit 3"}}}})
	if err == nil || !strings.Contains(err.Error(), "a ended: exit status 3: no such file") {
		t.Errorf("%v", err)
	}
}

// TestFaultsOfFiles checks that files that do not arrive, or arrive changed, are found.
func TestFaultsOfFiles(t *testing.T) {
	for _, mode := range []string{"offline", "online", "both"} {
		for _, f := range []faults{{}, {fileBad: 5}, {fileNo: 10}, {fileEnds: 5}} {
			t.Run(fmt.Sprint(mode, f), func(t *testing.T) {
				t.Parallel()
				srv := newFaulty(t, f)
				s := srv.short(scenario.KindFile)
				s.Pairs, s.Rate, s.FileSize, s.Mode = 5, 60, 100_000, mode
				// Every file ends, complete or refused, so nothing waits as long as this.
				s.Settle = scenario.Duration(10 * time.Minute)
				res, err := Run(t.Context(), s, Options{})
				if err != nil {
					t.Fatal(err)
				}
				srv.mu.Lock()
				defer srv.mu.Unlock()
				did, got := srv.did, res.Checks
				if got.Corrupt != did.fileBad ||
					got.Lost+got.Unacked+got.Broken+got.Duplicates != 0 {
					t.Errorf("did %+v, found %+v", did, got)
				}
				// A segment requested in advance may end a connection whose transfer has
				// failed already.
				if got.Refused < did.fileNo || got.Refused > did.fileNo+did.fileEnds ||
					(got.Refused == 0) != (did.fileNo+did.fileEnds == 0) {
					t.Errorf("did %+v, found %+v", did, got)
				}
				if f != (faults{}) && got.Clean() {
					t.Errorf("no fault was made: %+v", did)
				}
				n := events(res)
				if n["files"] == 0 || n["file bytes"] != n["files"]*100_000 {
					t.Errorf("events %v", n)
				}
				due := res.Latencies["upload"].Count + res.Latencies["relay"].Count
				if f == (faults{}) && (n["files"] != 30 || due != 30) {
					t.Errorf("events %v, %d latencies, want 30", n, due)
				}
			})
		}
	}
}
