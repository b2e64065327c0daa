// Package proc watches processes while a run is measured: the servers under test, the
// databases behind them, and the generator itself. Each rate then stands beside the
// processor time and the memory that it cost, and a report can tell that a run measured
// the generator instead of the servers.
//
// On Linux the package reads /proc. Elsewhere New fails with ErrUnavailable.
//
// The package finds these processes of this machine by itself:
//   - the processes that listen on the addresses under test;
//   - the processes to which those have opened TCP or unix connections, such as a message
//     server's dbproxy and route server and their MariaDB and Redis, and so forth from
//     each process found;
//   - the listening processes of the same program that have opened connections to one of
//     them, such as the message servers behind a login server.
//
// It follows a connection only in the direction in which it was opened. Another program
// that uses the same database is therefore not counted as a part of the system. Processes
// on other machines stay invisible.
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
	"teamtalk/core/opt"
)

// ErrUnavailable is returned where processes cannot be watched: on every operating system
// but Linux.
var ErrUnavailable = errors.New("watching processes needs /proc, which only Linux has")

// Names of the two entries that are sums, not processes. Their PID is 0.
const (
	// Machine covers everything that runs on this machine, watched or not: processor time
	// from /proc/stat, memory in use from /proc/meminfo.
	Machine = "machine"
	// Watched is the sum of all watched processes, generators included.
	Watched = "all watched"
)

// Options name processes to watch besides those that the package finds. The zero value
// watches the generator and the machine.
type Options struct {
	// Addrs are the addresses under test, as "host:port".
	Addrs []string
	// Watch names further processes: "name=pid", or "name" for each process whose command
	// has that name, such as "mariadbd". New fails when no process has the name.
	Watch []string
	// Loops is the number of event loops of a generator, which bounds the processor time
	// that it can use. Default: the value of runtime.GOMAXPROCS, which respects the quota
	// of a container.
	Loops int
	// Log receives the start and the end of watched processes. Default: discarded.
	Log *slog.Logger

	now func() time.Time // replaced by tests
}

// Load is the input of GeneratorBound: processor time while counting, in cores. 1.0 is
// one core that was busy all the time.
type Load struct {
	Cores      int       // cores of the machine that the generators run on
	Machine    float64   // all processes on it, and the time that the hypervisor took
	Generators []float64 // each generator process
	Loops      int       // event loops of each generator
	Servers    float64   // sum of all other watched processes
}

// Thresholds of GeneratorBound.
const (
	busyLoops   = 0.90 // part of the time of a generator's loops
	busyMachine = 0.95 // part of the time of all cores
)

// GeneratorBound returns the reason why the generators, not the servers, limited the
// result; "" when they did not. They did
//   - when a generator used more than 90 % of the time of its event loops (or of the
//     cores, if those are fewer), because messages then wait in the generator before they
//     are sent or counted; or
//   - when the machine was busy for more than 95 % of the time of all its cores and the
//     generators used more than half of the time of all watched processes, because the
//     servers could have used that time.
func GeneratorBound(l Load) string {
	loops := float64(l.Loops)
	if l.Cores > 0 && (loops <= 0 || loops > float64(l.Cores)) {
		loops = float64(l.Cores)
	}
	sum := 0.0
	for _, g := range l.Generators {
		sum += g
		if loops > 0 && g > busyLoops*loops {
			return fmt.Sprintf("a generator used %.2f of the %.0f cores its event loops can use", g,
				loops)
		}
	}
	if l.Cores > 0 && l.Machine > busyMachine*float64(l.Cores) && sum > l.Servers {
		return fmt.Sprintf("all %d cores were busy (%.2f): the generators used %.2f of them, "+
			"the servers %.2f", l.Cores, l.Machine, sum, l.Servers)
	}
	return ""
}

// target is one parsed entry of Options.Watch.
type target struct {
	name string
	pid  int // 0: each process with that name
}

// parseWatch parses Options.Watch.
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

// withDefaults returns the options with the default in place of each zero value.
func (o Options) withDefaults() Options {
	opt.Default(&o.Loops, runtime.GOMAXPROCS(0))
	o.Loops = min(o.Loops, runtime.GOMAXPROCS(0))
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.now == nil {
		o.now = time.Now
	}
	return o
}

// meter converts a growing count of clock ticks to the cores used between two readings.
type meter struct {
	perSecond float64 // ticks a second
	last      int64
	begin     int64
	recent    float64 // cores used between the last two readings
}

// look computes the cores used since the last reading.
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

// maxNotes is the largest number of notes kept.
const maxNotes = 20

// round drops the digits that clock ticks are too coarse to measure.
func round(cores float64) float64 { return math.Round(cores*1000) / 1000 }

var _ bench.Watcher = (*Watcher)(nil)
