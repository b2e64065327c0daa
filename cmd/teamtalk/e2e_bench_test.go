//go:build linux

package main_test

import (
	"encoding/json"
	"strings"
	"testing"

	"teamtalk/bench"
)

// TestBench measures a running system, shortly, with every kind of scenario: it finds nothing wrong.
func TestBench(t *testing.T) {
	forEachShape(t, settings{users: 60, files: true, flags: []string{"--msg.rate", "0"}}, func(t *testing.T, sys *deployment) {
		addrs := sys.msgAddr[0]
		if sys.separate {
			addrs += "," + sys.msgAddr[1]
		}
		for _, c := range []struct {
			name  string
			args  string
			wants []string // totals that are not 0
		}{
			{"idle", "idle --connections 20 --settle 10ms", []string{"logins", "heartbeats"}},
			{"single", "single --pairs 8", []string{"sent", "acked", "delivered"}},
			{"single on schedule", "single --pairs 8 --rate 200 --arrivals poisson --size 1000", []string{"sent", "acked", "delivered"}},
			{"group", "group --groups 2 --members 10 --senders 3", []string{"group_sent", "acked", "delivered"}},
			{"connect", "connect --connections 20 --online 10", []string{"logins", "logouts"}},
			{"connect on schedule", "connect --connections 20 --rate 50 --after close --client windows", []string{"logins"}},
			{"connect and stay", "connect --connections 20 --after stay", []string{"logins"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				args := append([]string{"bench"}, strings.Fields(c.args)...)
				args = append(args, "--addr", addrs, "--json", "-")
				if !strings.HasPrefix(c.args, "idle") {
					args = append(args, "--warmup", "200ms", "--duration", "1s")
				}
				out := mustRun(t, args...)
				var res bench.Result
				if err := json.Unmarshal([]byte(out), &res); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				if !res.Checks.Clean() {
					t.Errorf("checks: %+v", res.Checks)
				}
				for _, name := range c.wants {
					if res.Totals[name] == 0 {
						t.Errorf("no %s: %v", name, res.Totals)
					}
				}
			})
		}
	})
}
