package bench

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ThisMachine describes the machine that this process runs on, as far as the system
// tells.
func ThisMachine() Machine {
	m := Machine{OS: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU()}
	m.Host, _ = os.Hostname()
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.OS += " " + strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.CPU = procField(string(b), "model name")
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		kb, _ := strconv.ParseInt(strings.TrimSuffix(procField(string(b), "MemTotal"), " kB"), 10,
			64)
		m.Memory = kb << 10
	}
	return m
}

// procField returns the value of the first line "name: value".
func procField(text, name string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// cpuClock measures the processor time that this process uses while counting.
type cpuClock struct {
	mu     sync.Mutex
	timers []*time.Timer
	used   [2]time.Duration // at the start and at the end
	at     [2]time.Time
}

func (c *cpuClock) schedule(p plan) {
	for i, when := range []int64{p.Begin, p.End} {
		c.timers = append(c.timers, time.AfterFunc(time.Until(time.Unix(0, when)),
			func() { c.mark(i) }))
	}
}

func (c *cpuClock) mark(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at[i].IsZero() {
		c.at[i], c.used[i] = time.Now(), cpuTime()
	}
}

// cores returns the processor time divided by the time passed: 1 for one core that was
// always busy.
func (c *cpuClock) cores() float64 {
	for _, t := range c.timers {
		t.Stop()
	}
	c.mark(1) // when the run ended early
	c.mu.Lock()
	defer c.mu.Unlock()
	if wall := c.at[1].Sub(c.at[0]); !c.at[0].IsZero() && wall > 0 {
		return float64(c.used[1]-c.used[0]) / float64(wall)
	}
	return 0
}
