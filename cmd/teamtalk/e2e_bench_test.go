//go:build linux

package main_test

import (
	"encoding/json"
	"testing"
)

// TestBench measures a running system, shortly: it finds nothing wrong.
func TestBench(t *testing.T) {
	forEachShape(t, settings{users: 20, flags: []string{"--msg.rate", "0"}}, func(t *testing.T, sys *deployment) {
		addrs := sys.msgAddr[0]
		if sys.separate {
			addrs += "," + sys.msgAddr[1]
		}
		var idle struct {
			Connections int
			StillOpen   int `json:"still_open"`
			Bad         int `json:"heartbeats_not_echoed"`
		}
		run := func(into any, args ...string) {
			t.Helper()
			out := mustRun(t, append([]string{"bench", args[0], "--addr", addrs, "--json"}, args[1:]...)...)
			if err := json.Unmarshal([]byte(out), into); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		run(&idle, "idle", "--connections", "20", "--settle", "10ms")
		if idle.Connections != 20 || idle.StillOpen != 20 || idle.Bad != 0 {
			t.Errorf("idle: %+v", idle)
		}
		var single map[string]any
		run(&single, "single", "--pairs", "4", "--warmup", "100ms", "--duration", "1s")
		for _, bad := range []string{"lost", "unacked", "duplicates", "reordered", "broken_errors"} {
			if single[bad] != 0.0 {
				t.Errorf("single: %v %s", single[bad], bad)
			}
		}
		if n, ok := single["acked"].(float64); !ok || n == 0 {
			t.Errorf("single: %v", single)
		}
		mustRun(t, "bench", "single", "--addr", addrs, "--pairs", "4", "--warmup", "100ms", "--duration", "500ms", "--rate", "200")
	})
}
