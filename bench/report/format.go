// Package report presents the results of package bench: as tables for a terminal (Text)
// and for Markdown (Markdown), as a JSON file (Read, WriteFile), as a self-contained page
// with charts (HTML), and as a view in the terminal during the run (Live). Compare shows
// several results side by side. The functions named Sweep… show the steps of a sweep.
//
// Colour is never the only sign of a meaning, and each rate stands beside its checks.
package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"teamtalk/bench"
	"teamtalk/bench/report/axis"
)

// namesInOrder returns the names of totals or latencies, the most important first.
func namesInOrder[V any](m map[string]V) []string {
	known := []string{bench.TotalSent, bench.TotalGroupTexts, bench.TotalAcked, "ack",
		bench.TotalDelivered, "delivery", bench.TotalLogins, "login", bench.TotalFiles,
		bench.TotalFileBytes}
	rank := func(name string) int {
		if i := slices.Index(known, name); i >= 0 {
			return i
		}
		return len(known)
	}
	names := slices.Collect(maps.Keys(m))
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)),
			cmp.Compare(a, b))
	})
	return names
}

// mainTotal returns the name of the total that describes the work of a run best: acks, if
// it has any.
func mainTotal(totals map[string]int64) string {
	for _, name := range []string{bench.TotalAcked, bench.TotalDelivered, bench.TotalLogins,
		bench.TotalFiles} {
		if totals[name] > 0 {
			return name
		}
	}
	for _, name := range namesInOrder(totals) {
		if !isSent(name) && !isBytes(name) && totals[name] > 0 {
			return name
		}
	}
	return bench.TotalAcked
}

// isSent reports whether a total counts the load that was offered, not the work that was
// done.
func isSent(name string) bool { return name == bench.TotalSent || name == bench.TotalGroupTexts }

// isBytes reports whether a total counts bytes, which cannot share an axis with counts.
func isBytes(name string) bool { return name == bench.TotalFileBytes }

// rate returns a total divided by seconds.
func rate(n int64, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(n) / seconds
}

// number formats v with three significant digits, or with all digits before the point:
// 0.0123, 1.23, 12.3, 123, 1,234.
func number(v float64) string {
	abs := math.Abs(v)
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case abs >= 1e15:
		return strconv.FormatFloat(v, 'e', 2, 64)
	case abs >= 99.95:
		return axis.Grouped(int64(math.Round(v)))
	case abs >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case abs >= 0.9995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case abs >= 0.0005:
		return strconv.FormatFloat(v, 'f', 3, 64)
	case v == 0:
		return "0"
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// memory formats bytes in MiB or GiB.
func memory(n int64) string {
	if n >= 10<<30 {
		return number(float64(n)/(1<<30)) + " GiB"
	}
	return number(float64(n)/(1<<20)) + " MiB"
}

// clock formats seconds as a clock does: 1:02:03, or 2:03.
func clock(seconds float64) string {
	d := time.Duration(max(0, min(seconds, 1e8)) * float64(time.Second)).Round(time.Second)
	h, m, s := int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60
	if h > 0 {
		return fmt.Sprintf("%d:%02d:%02d", h, m, s)
	}
	return fmt.Sprintf("%d:%02d", m, s)
}

// count formats a number with its noun.
func count(n int64, singular, plural string) string {
	if n == 1 {
		return "1 " + singular
	}
	return axis.Grouped(n) + " " + plural
}

// fault is a check that can fail, with the number of failures.
type fault struct {
	n                int64
	singular, plural string
}

// faults returns the checks that make a result not clean.
func faults(c *bench.Checks) []fault {
	return []fault{
		{c.Unacked, "unacked", "unacked"},
		{c.Lost, "lost", "lost"},
		{c.Duplicates, "duplicate", "duplicates"},
		{c.Reordered, "reordered", "reordered"},
		{c.Corrupt, "corrupt", "corrupt"},
		{c.Broken, "connection broken", "connections broken"},
		{c.Refused, "refused", "refused"},
	}
}

// verdict says in one line whether all checks passed.
func verdict(c *bench.Checks) string {
	if c.Clean() {
		return "clean: no message lost, duplicated, reordered or corrupt, nothing broken or refused"
	}
	var parts []string
	for _, f := range faults(c) {
		if f.n != 0 {
			parts = append(parts, count(f.n, f.singular, f.plural))
		}
	}
	return "NOT CLEAN: " + strings.Join(parts, ", ")
}

// shortVerdict is verdict with a short text for clean results.
func shortVerdict(c *bench.Checks) string {
	if c.Clean() {
		return "clean"
	}
	return verdict(c)
}

// checksOf returns the checks that belong to a total, and whether all of them passed.
func checksOf(name string, c *bench.Checks) (string, bool) {
	var of []fault
	all := faults(c)
	switch {
	case name == bench.TotalAcked:
		of = all[0:1]
	case name == bench.TotalDelivered:
		of = all[1:5]
	case isSent(name):
		of = all[5:6]
	default:
		of = all[6:7]
	}
	var parts []string
	ok := true
	for _, f := range of {
		parts = append(parts, count(f.n, f.singular, f.plural))
		ok = ok && f.n == 0
	}
	return strings.Join(parts, ", "), ok
}

// machine describes the machine of a run.
func machine(m *bench.Machine) string {
	var parts []string
	add := func(s string) {
		if s != "" {
			parts = append(parts, s)
		}
	}
	add(m.Host)
	if m.Cores > 0 {
		add(strings.TrimSpace(count(int64(m.Cores), "core", "cores") + " " + m.CPU))
	} else {
		add(m.CPU)
	}
	if m.Memory > 0 {
		add(memory(m.Memory))
	}
	add(m.OS)
	return strings.Join(parts, ", ")
}
