package proc

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"teamtalk/bench"
)

// Watcher watches processes from New until End. Any goroutine may call its methods.
type Watcher struct {
	opt      Options
	log      *slog.Logger
	hertz    float64 // clock ticks a second
	explicit []target

	mu       sync.Mutex
	list     []*watched
	notes    []string
	noted    map[string]bool
	begun    time.Time // zero: not counting yet
	ended    time.Time // zero: still counting
	sampled  time.Time
	searches int // searches for servers since New
	machine  meter
	taken    int64 // ticks that the hypervisor had taken when counting began
	total    machine
	memBegin int64
	memMax   int64
}

// watched is a name and the process that has it or had it.
type watched struct {
	found
	name      string
	generator bool
	byPID     bool   // named by its id, so that no other process can replace it
	gone      bool   // no process has the name now
	carried   int64  // ticks that earlier processes of this name used while they were watched
	alive     uint64 // when the process was last seen alive, in the unit of stat.start
	base      int64  // ticks that the present process had used when it was first seen
	used      int64  // ticks used since the name is watched
	meter     meter
	before    int64 // bytes, as the next three
	now       int64
	max       int64
	peak      int64
	files     int
}

// New finds the processes and reads the memory that they use. That reading is reported as
// the memory before the run, so call New before the first connection is made.
func New(opt Options) (*Watcher, error) {
	targets, err := parseWatch(opt.Watch)
	if err != nil {
		return nil, err
	}
	opt = opt.withDefaults()
	w := &Watcher{opt: opt, log: opt.Log, hertz: ticks(), explicit: targets,
		noted: map[string]bool{}, sampled: opt.now()}
	if w.total, err = readMachine(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	w.machine = meter{perSecond: w.hertz, last: w.total.busy, begin: w.total.busy}
	w.memBegin, w.memMax = w.total.used, w.total.used
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.addGenerator(os.Getpid(), "generator"); err != nil {
		return nil, err
	}
	s, err := readSockets(w.generators())
	if err != nil {
		return nil, fmt.Errorf("read sockets: %w", err)
	}
	if err := w.addExplicit(s); err != nil {
		return nil, err
	}
	w.discover(s)
	return w, nil
}

// AddGenerator adds a generator process that was started after New. The first one added
// turns this process from the generator into the coordinator.
func (w *Watcher) AddGenerator(pid int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.generators())
	if err := w.addGenerator(pid, fmt.Sprintf("generator %d", n)); err != nil {
		return err
	}
	if n == 1 {
		w.list[0].name = "coordinator"
	}
	return nil
}

func (w *Watcher) addGenerator(pid int, name string) error {
	if w.pids()[pid] {
		return nil
	}
	f, err := describe(pid, nil)
	if err != nil {
		return fmt.Errorf("watch the generator, process %d: %w", pid, err)
	}
	w.add(f, name).generator = true
	return nil
}

// addExplicit adds the processes that Options.Watch names.
func (w *Watcher) addExplicit(s *sockets) error {
	for _, t := range w.explicit {
		if t.pid != 0 {
			f, err := describe(t.pid, s)
			if err != nil {
				return fmt.Errorf("watch %s=%d: %w", t.name, t.pid, err)
			}
			if w.names()[t.name] || w.pids()[t.pid] {
				return fmt.Errorf("watch %s=%d: watched already", t.name, t.pid)
			}
			w.add(f, t.name).byPID = true
			continue
		}
		list, err := byName(t.name, s, w.pids())
		if err != nil {
			return fmt.Errorf("watch %s: %w", t.name, err)
		}
		if len(list) == 0 {
			return fmt.Errorf("watch %s: no process has that name", t.name)
		}
		for i, name := range names(list, w.names()) {
			w.add(list[i], name)
		}
	}
	return nil
}

// discover adds the servers under test and the processes that those work with, except
// those that are watched already.
func (w *Watcher) discover(s *sockets) {
	self := w.generators()
	pids, notes := servers(s, w.opt.Addrs, self)
	for _, n := range notes {
		w.keep(n) // Not logged: if an address is wrong, the login fails and gives the reason.
	}
	watchedPIDs := w.pids()
	var list []found
	for _, pid := range pids {
		if watchedPIDs[pid] {
			continue
		}
		if f, err := describe(pid, s); err == nil { // else it has just ended
			list = append(list, f)
		}
	}
	for i, name := range names(list, w.names()) {
		w.add(list[i], name)
	}
}

// generators returns the process ids of the generators.
func (w *Watcher) generators() map[int]bool {
	m := map[int]bool{}
	for _, p := range w.list {
		if p.generator {
			m[p.pid] = true
		}
	}
	return m
}

// moreSearches is the number of searches for servers after New. With very many
// connections a search takes a good part of a second of processor time, so the last one
// ends before counting begins.
const moreSearches = 2

// search looks for servers again, unless it has run moreSearches times.
func (w *Watcher) search() {
	if w.searches >= moreSearches {
		return
	}
	w.searches++
	if s, err := readSockets(w.generators()); err == nil {
		w.discover(s)
	}
}

// add starts to watch a process.
func (w *Watcher) add(f found, name string) *watched {
	p := &watched{found: f, name: name, base: f.stat.ticks, meter: meter{perSecond: w.hertz}}
	p.alive = uptime(w.hertz)
	p.before, _ = exactResident(f.pid) // 0: it has just ended, and the next sample records that
	p.now, p.max = p.before, p.before
	w.list = append(w.list, p)
	w.log.Debug("watching a process", "name", name, "pid", f.pid)
	return p
}

func (w *Watcher) pids() map[int]bool {
	m := map[int]bool{}
	for _, p := range w.list {
		if !p.gone {
			m[p.pid] = true
		}
	}
	return m
}

func (w *Watcher) names() map[string]bool {
	m := map[string]bool{Machine: true, Watched: true, "coordinator": true}
	for _, p := range w.list {
		m[p.name] = true
	}
	return m
}

// note keeps a sentence for Notes and logs it, unless it is known.
func (w *Watcher) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); w.keep(text) {
		w.log.Info("watching processes", "note", text)
	}
}

// keep keeps a sentence for Notes, unless it is known. It reports whether the sentence is
// new.
func (w *Watcher) keep(text string) bool {
	if w.noted[text] || len(w.notes) >= maxNotes {
		return false
	}
	w.noted[text] = true
	w.notes = append(w.notes, text)
	return true
}

// Notes returns sentences about the run: processes that ended or restarted, servers that
// could not be found. There are at most 20.
func (w *Watcher) Notes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.notes...)
}

// Begin starts the counting. Some servers connect to others only when the run warms up,
// because a database pool fills when it is used. Sample and Begin therefore search for
// processes again, at most twice in all.
func (w *Watcher) Begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.search()
	w.searches = moreSearches
	w.read()
	w.begun, w.ended = w.opt.now(), time.Time{}
	w.measure(w.begun)
	for _, p := range w.list {
		p.meter.begin = p.used
	}
	w.machine.begin = w.total.busy
	w.taken = w.total.taken
}

// End stops the counting and reads the values that Processes returns.
func (w *Watcher) End() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read()
	w.ended = w.opt.now()
	for _, p := range w.list {
		if p.gone {
			continue
		}
		if n, err := exactResident(p.pid); err == nil {
			p.now = n
			p.max = max(p.max, n)
		}
		p.peak, p.files = highWater(p.pid), openFiles(p.pid)
	}
	d := w.ended.Sub(w.begun)
	if !w.begun.IsZero() && d > 0 {
		lost := float64(w.total.taken-w.taken) / w.hertz / d.Seconds()
		if lost > 0.05*float64(w.total.cores) {
			w.note("the hypervisor took %.2f of this machine's %d cores away", lost, w.total.cores)
		}
	}
}

// read updates all counters. A process that ended is not an error.
func (w *Watcher) read() {
	for _, p := range w.list {
		if !p.gone {
			w.readProcess(p)
		} else if !p.byPID {
			w.replace(p)
		}
	}
	if m, err := readMachine(); err == nil {
		w.total = m
		w.memMax = max(w.memMax, m.used)
	}
}

func (w *Watcher) readProcess(p *watched) {
	now := uptime(w.hertz)
	st, err := readStat(p.pid)
	if err == nil && st.start != p.stat.start {
		err = errGone // another process has its id
	}
	if err == nil {
		p.alive = now
		p.used = p.carried + st.ticks - p.base
		if n, err := resident(p.pid); err == nil {
			p.now = n
			p.max = max(p.max, n)
		}
		return
	}
	if !gone(err) {
		w.note("%s (process %d) cannot be read: %v", p.name, p.pid, err)
		return
	}
	p.gone, p.now, p.carried = true, 0, p.used
	w.note("%s (process %d) ended during the run", p.name, p.pid)
	if !p.byPID {
		w.replace(p)
	}
}

// replace looks for a process that replaced p, which ended.
func (w *Watcher) replace(p *watched) {
	f, ok := successor(p.found, p.alive, w.pids())
	if !ok {
		return
	}
	w.note("%s was restarted: process %d", p.name, f.pid)
	ports := p.ports
	p.found, p.gone = f, false
	p.ports = ports
	p.base = 0 // the new process has used all its time since
	w.readProcess(p)
}

// shortest is the shortest interval between two readings that clock ticks of 10 ms can
// measure.
const shortest = 100 * time.Millisecond

// Sample returns what each process, the machine and all watched processes together used
// since the last Sample, Begin or New. When less than 100 ms have passed since then, as
// in the interval that ends when counting begins, it returns the processor time of the
// last reading.
func (w *Watcher) Sample() (map[string]bench.Usage, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.search()
	w.read()
	if now := w.opt.now(); now.Sub(w.sampled) >= shortest {
		w.measure(now)
	}
	usage := make(map[string]bench.Usage, len(w.list)+2)
	var sum bench.Usage
	for _, p := range w.list {
		usage[p.name] = bench.Usage{CPU: p.meter.recent, RSS: p.now}
		sum.CPU += p.meter.recent
		sum.RSS += p.now
	}
	sum.CPU = round(sum.CPU)
	usage[Watched] = sum
	usage[Machine] = bench.Usage{CPU: w.machine.recent, RSS: w.total.used}
	return usage, nil
}

// measure computes the cores used since the last call.
func (w *Watcher) measure(now time.Time) {
	d := now.Sub(w.sampled)
	w.sampled = now
	for _, p := range w.list {
		p.meter.look(p.used, d)
	}
	w.machine.look(w.total.busy, d)
	w.machine.recent = w.atMost(w.machine.recent)
}

// Processes returns all watched processes: servers first, then generators, then the sums
// Watched and Machine. The processor time is that between Begin and End, or until now
// before End. The memory is that at New, at End, and the maximum in between.
func (w *Watcher) Processes() []bench.Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.counted()
	sum := bench.Process{Name: Watched, Command: "all of the above"}
	var list []bench.Process
	for _, generators := range []bool{false, true} {
		for _, p := range w.list {
			if p.generator != generators {
				continue
			}
			b := bench.Process{Name: p.name, PID: p.pid, Command: commandLine(p.found),
				Generator: p.generator,
				CPU:       round(p.meter.cores(p.used-p.meter.begin, d)), RSSBefore: p.before,
				RSSAfter: p.now, RSSMax: p.max, RSSPeak: max(p.peak, p.max), Files: p.files}
			list = append(list, b)
			sum.CPU += b.CPU
			sum.RSSBefore += b.RSSBefore
			sum.RSSAfter += b.RSSAfter
			sum.RSSMax += b.RSSMax
			sum.Files += b.Files
		}
	}
	sum.CPU = round(sum.CPU)
	all := bench.Process{Name: Machine,
		Command:   fmt.Sprintf("everything on this machine (%d cores)", w.total.cores),
		CPU:       w.atMost(round(w.machine.cores(w.total.busy-w.machine.begin, d))),
		RSSBefore: w.memBegin, RSSAfter: w.total.used, RSSMax: w.memMax}
	return append(list, sum, all)
}

// atMost limits a value to the cores of the machine: the kernel reports time that a
// hypervisor took late and all at once.
func (w *Watcher) atMost(cores float64) float64 { return min(cores, float64(w.total.cores)) }

// counted returns how long counting has lasted.
func (w *Watcher) counted() time.Duration {
	switch {
	case w.begun.IsZero():
		return 0
	case w.ended.IsZero():
		return w.opt.now().Sub(w.begun)
	}
	return w.ended.Sub(w.begun)
}

// Load returns the input of GeneratorBound for the time counted so far.
func (w *Watcher) Load() Load {
	l := Load{Loops: w.opt.Loops}
	for _, p := range w.Processes() {
		switch {
		case p.Generator:
			l.Generators = append(l.Generators, p.CPU)
		case p.Name == Machine:
			l.Machine = p.CPU
		case p.Name != Watched:
			l.Servers += p.CPU
		}
	}
	w.mu.Lock()
	l.Cores = w.total.cores
	w.mu.Unlock()
	return l
}

// longCommand is the longest command line that is kept, in bytes.
const longCommand = 200

// commandLine returns the command line of a process, cut to longCommand bytes, without
// values that may be secrets.
func commandLine(f found) string {
	if len(f.args) == 0 {
		return f.stat.comm
	}
	args := make([]string, len(f.args))
	hide := false
	for i, arg := range f.args {
		key, _, assigned := strings.Cut(arg, "=")
		switch {
		case hide:
			arg, hide = "…", false
		case strings.HasPrefix(arg, "-") && secret(key) && assigned:
			arg = key + "=…"
		case strings.HasPrefix(arg, "-") && secret(key):
			hide = true
		}
		args[i] = arg
	}
	text := strings.ToValidUTF8(strings.Join(args, " "), "?")
	if len(text) > longCommand {
		text = strings.ToValidUTF8(text[:longCommand], "") + "…"
	}
	return text
}

// secret reports whether the value of a flag must not appear in reports: a password, a
// key, or an address that contains one.
func secret(flag string) bool {
	flag = strings.ToLower(flag)
	for _, word := range []string{"password", "secret", "token", "key", "mysql", "redis"} {
		if strings.Contains(flag, word) {
			return true
		}
	}
	return false
}
