//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// idleWakes is the number of times a second for which a thread of an idle process may wake. A
// process of a deployment has links, and wakes for their heartbeats. Without other work on the
// machine they wake 2 to 10 times. A ticker of 250 ms adds 18.
var idleWakes = map[bool]float64{false: 6, true: 14}

// idleWindow is the time for which wake-ups are counted. It holds the work that is done every 5 s
// twice.
const idleWindow = 10 * time.Second

// idleWindows is the largest number of windows until one is quiet.
const idleWindows = 12

// TestIdleServersSleep touches all ports of a deployment, and then counts how often its processes
// wake. The work that a start and a connection leave behind ends within some windows.
func TestIdleServersSleep(t *testing.T) {
	forEachShape(t, settings{files: true, small: true}, func(t *testing.T, sys *deployment) {
		for _, addr := range []string{sys.msgAddr[0], sys.msgAddr[1], sys.loginTCP, sys.loginHTTP,
			sys.fileAddr, sys.files} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		var rates map[string]float64
		for range idleWindows {
			if rates = sys.wakeRates(); sys.sleeps(rates) {
				return
			}
		}
		t.Errorf("wake-ups a second: %v, want at most %v", rates, idleWakes[sys.separate])
	})
}

// wakeRates returns how often a second each process wakes within idleWindow, by its name.
func (d *deployment) wakeRates() map[string]float64 {
	d.t.Helper()
	began, before := time.Now(), map[string]int{}
	for _, s := range d.servers {
		before[s.name] = s.wakeUps()
	}
	time.Sleep(idleWindow)
	rates := map[string]float64{}
	for _, s := range d.servers {
		rates[s.name] = float64(s.wakeUps()-before[s.name]) / time.Since(began).Seconds()
	}
	return rates
}

// sleeps reports whether no process wakes more often than an idle one.
func (d *deployment) sleeps(rates map[string]float64) bool {
	for _, rate := range rates {
		if rate > idleWakes[d.separate] {
			return false
		}
	}
	return true
}

// wakeUps returns how often threads of the process have begun to wait.
func (s *server) wakeUps() (n int) {
	s.t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", s.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		s.t.Fatalf("threads of %s: %v", s.name, err)
	}
	for _, thread := range threads {
		text, _ := os.ReadFile(thread) // a thread may have ended
		var own int
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				fmt.Sscan(rest, &own)
			}
		}
		n += own
	}
	return n
}
