// Package proc watches processes while a run is measured: the servers under test with the databases behind them, and the generator itself, so
// that every rate stands beside the processor time and memory it cost, and a run that measured the generator instead of the servers is seen.
//
// On Linux everything is read from /proc; elsewhere New fails with ErrUnavailable.
//
// What it finds without being told: the processes of this machine that listen on the addresses under test; those they have opened TCP or unix
// connections to (a message server's dbproxy and route server, their MariaDB and Redis), and so on from there; and processes of the same program that listen too and
// are connected to one of them (the message servers behind a login server). Connections are followed in the direction in which they were
// opened only, so another program that uses the same database is not taken for a part of the system. On other machines it sees nothing.
package proc

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strconv"
	"strings"
	"time"

	"teamtalk/bench"
)

// ErrUnavailable says that processes cannot be watched on this operating system.
var ErrUnavailable = errors.New("watching processes is not available here: it needs /proc, which only Linux has")

// The names of the two entries that are sums, not processes; their PID is 0.
const (
	// Machine is everything that runs on this machine, watched or not: processor time from /proc/stat, memory in use from /proc/meminfo.
	Machine = "machine"
	// Watched is the sum of all processes watched, generators included.
	Watched = "all watched"
)

// Options say what to watch besides what is found. The zero value watches the generator and the machine.
type Options struct {
	// Addrs are the addresses under test, as "host:port".
	Addrs []string
	// Watch names further processes: "name=pid", or "name" for every process whose command is that, such as "mariadbd". A name that no process has is an error.
	Watch []string
	// Loops is how many event loops a generator runs, which bounds the processor time it can use. Default: what the Go runtime may use
	// (runtime.GOMAXPROCS, a container's quota included).
	Loops int
	// Log hears of processes that come and go. Default: discarded.
	Log *slog.Logger
}

// Load is what GeneratorBound decides from: processor time while counting, in cores, 1.0 for one that was busy all the time.
type Load struct {
	Cores      int       // of the machine that the generators run on
	Machine    float64   // everything on it, time that the hypervisor took away included
	Generators []float64 // each generator process
	Loops      int       // event loops of each generator
	Servers    float64   // all other processes watched, together
}

// Bounds of GeneratorBound.
const (
	busyLoops   = 0.90 // of the time of a generator's loops
	busyMachine = 0.95 // of the time of all cores
)

// GeneratorBound says in words why the generators, not the servers, set the result; "" when they do not. They do
//
//   - when a generator used more than 90 % of the time of its event loops (or of the cores, if those are fewer): messages then wait in the
//     generator, on their way out or in; or
//   - when the machine was busy for more than 95 % of the time of all its cores, and the generators took more than their fair share,
//     half of what all watched processes used: the servers could have done more with what the generators took.
func GeneratorBound(l Load) string {
	loops := float64(l.Loops)
	if l.Cores > 0 && (loops <= 0 || loops > float64(l.Cores)) {
		loops = float64(l.Cores)
	}
	sum := 0.0
	for _, g := range l.Generators {
		sum += g
		if loops > 0 && g > busyLoops*loops {
			return fmt.Sprintf("a generator used %.2f of the %.0f cores its event loops can use", g, loops)
		}
	}
	if l.Cores > 0 && l.Machine > busyMachine*float64(l.Cores) && sum > l.Servers {
		return fmt.Sprintf("all %d cores were busy (%.2f), and the generators took %.2f of them, the servers %.2f", l.Cores, l.Machine, sum, l.Servers)
	}
	return ""
}

// target is what one of Options.Watch asks for.
type target struct {
	name string
	pid  int // 0: every process with that name
}

// parseWatch reads Options.Watch.
func parseWatch(list []string) ([]target, error) {
	var targets []target
	for _, text := range list {
		name, number, byPID := strings.Cut(strings.TrimSpace(text), "=")
		t := target{name: strings.TrimSpace(name)}
		if t.name == "" {
			return nil, fmt.Errorf("watch %q: want name=pid or name", text)
		}
		if t.name == Machine || t.name == Watched {
			return nil, fmt.Errorf("watch %q: that name is taken", text)
		}
		if byPID {
			pid, err := strconv.ParseInt(strings.TrimSpace(number), 10, 32)
			if err != nil || pid <= 0 {
				return nil, fmt.Errorf("watch %q: %q is no process id", text, number)
			}
			t.pid = int(pid)
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// withDefaults replaces what is zero.
func (o Options) withDefaults() Options {
	if o.Loops <= 0 {
		o.Loops = runtime.GOMAXPROCS(0)
	}
	o.Loops = min(o.Loops, runtime.GOMAXPROCS(0))
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// meter turns a count of clock ticks that only grows into cores used between two looks.
type meter struct {
	perSecond float64 // ticks
	last      int64
	begin     int64
	recent    float64 // cores used between the last two looks
}

// look notes the cores used since the last look.
func (m *meter) look(total int64, d time.Duration) {
	m.recent = round(m.cores(total-m.last, d))
	m.last = total
}

func (m *meter) cores(ticks int64, d time.Duration) float64 {
	if d <= 0 || ticks <= 0 || m.perSecond <= 0 {
		return 0
	}
	return float64(ticks) / m.perSecond / d.Seconds()
}

// Notes is at most this long.
const maxNotes = 20

// round keeps what clock ticks can tell.
func round(cores float64) float64 { return math.Round(cores*1000) / 1000 }

var _ bench.Watcher = (*Watcher)(nil)
