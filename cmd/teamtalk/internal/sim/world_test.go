package sim

import (
	"fmt"
	"slices"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts/whereaboutstest"
	"teamtalk/handlers/dbproxy/lockout"
)

// users is the number of users. Each has a PC, and some have a phone.
const users = 4

// world is a run: the processes, the network, the database, the clients, and the record
// of what happened.
type world struct {
	*sched
	net     *network
	db      *database
	procs   map[string]*proc
	order   []*proc
	msgs    []string // the message servers
	cluster *cluster // nil: there is a route server
	clients []*client
	stock   string // the server of the first implementation
	skewed  bool   // the clock of a message server is wrong by much, or was
	plain   bool   // message servers do not understand refusals, like C++ ones

	texts    map[string]*text // by body
	stored   map[string][]uint32
	sessions []online
	troubles []trouble // messages may not reach other message servers
	losses   []trouble // texts may not reach the other message server at all
	faults   []trouble // of db_proxies and of links to them
	hangs    []trouble // the same, those that message servers do not notice at once
	last     map[string]uint32
	seen     map[string]bool
	failures []failure
}

// online is a time in which a client was logged in on one connection that worked.
type online struct {
	c          *client
	gen        int
	since, end time.Duration
}

// trouble is a time in which something is lost.
type trouble struct{ since, end time.Duration }

// failure is a broken promise. Runs with the same kind have the same fault.
type failure struct {
	kind string
	at   time.Duration
	text string
}

func (w *world) fail(kind, format string, args ...any) {
	if w.weaker(kind) {
		return
	}
	w.failures = append(w.failures, failure{kind, w.now(), fmt.Sprintf(format, args...)})
}

// newWorld makes the processes and clients of a seed, with a route server or with meshes. Nothing
// runs yet.
func newWorld(seed uint64, meshes bool) *world {
	w := &world{sched: newSched(seed), procs: map[string]*proc{}, texts: map[string]*text{},
		stored: map[string][]uint32{}, last: map[string]uint32{}, seen: map[string]bool{}}
	w.net = &network{sched: w.sched, procs: w.procs, dials: map[string]int{},
		apart: map[[2]string]bool{}}
	w.db = &database{logins: lockout.NewMemory(), sched: w.sched, convs: map[uint64]*conv{},
		names: map[string]*im.Message{},
		runs:  map[string]int{}, committed: w.committed, groups: newGroups(),
		unread: map[[2]uint32]int{}}
	w.msgs = []string{"msg1", "msg2"}
	names := []string{"db1", "db2", "route", "login"}
	if meshes {
		names, w.msgs = []string{"db1", "db2", "login"}, append(w.msgs, "msg3")
		w.cluster = &cluster{w: w, where: whereaboutstest.NewMemory(), leases: map[string]*lease{}}
	}
	for _, name := range append(names, w.msgs...) {
		p := &proc{w: w, name: name}
		off := w.source(name+" clock").rand.Int64N(7) - 3 // seconds
		p.clock.Store(int64(time.Duration(off) * time.Second))
		w.procs[name] = p
		w.order = append(w.order, p)
	}
	w.plain = w.source("versions").chance(0.2)
	if w.stock = stockOf(w.source("stock")); meshes {
		w.stock = "" // servers of the first implementation need a route server
	}
	w.net.stock = w.stock
	src := w.source("clients")
	for u := uint32(1); u <= users; u++ {
		k := ours
		if src.chance(0.4) {
			k = windows
		}
		w.add(u, k)
		if src.chance(0.5) {
			w.add(u, phone)
		}
	}
	return w
}

func (w *world) add(user uint32, k kind) {
	name := fmt.Sprintf("c%d%s", user, [...]string{"o", "w", "p"}[k])
	w.clients = append(w.clients, &client{w: w, name: name, user: user, kind: k,
		src: w.source(name), asks: w.source(name + " asks"),
		persists: k == windows && w.source(name+" persists").chance(0.5)})
}

// run carries out a plan and returns what went wrong.
func (w *world) run(steps []step) []failure {
	for _, p := range w.order {
		p.start()
	}
	for _, c := range w.clients {
		w.every(time.Second, c.name, c.tick)
	}
	w.every(session.TickInterval, "tick", w.tick)
	for _, p := range steps {
		w.at(p.at, p.String(), func() { w.apply(p) })
	}
	w.runUntil(active)
	w.mend()
	for w.now() < active+patience && !w.quiet() {
		w.runUntil(w.now() + 5*time.Second)
	}
	w.runUntil(max(w.now()+10*time.Second, active+healing))
	w.finale()
	w.check()
	for _, c := range w.clients {
		c.hangUp(time.Hour)
	}
	for _, p := range w.order {
		p.crash(false)
	}
	w.settle()
	return w.failures
}

// healing is how long the traces of faults last: half-open links, and pauses between
// attempts to connect.
const healing = 75 * time.Second

// finale has every client write to everybody, twice, and then read everything.
func (w *world) finale() {
	for range 2 {
		for _, c := range w.clients {
			w.writeToAll(c)
		}
		w.runUntil(w.now() + 5*time.Second)
	}
	w.runUntil(w.now() + 5*time.Second)
	for _, c := range w.clients {
		if c.online {
			c.readAll()
		}
	}
	w.runUntil(w.now() + 10*time.Second)
}

// writeToAll has a client write to every other user and to its groups.
func (w *world) writeToAll(c *client) {
	for u := uint32(1); u <= users; u++ {
		if u != c.user {
			c.write(u)
		}
	}
	for id := uint32(firstGroup + 1); id <= firstGroup+groups; id++ {
		if slices.Contains(w.db.groups[id].Members, c.user) {
			c.write(id)
		}
	}
}

// every calls f once in each interval, beginning at a random time.
func (w *world) every(d time.Duration, name string, f func()) {
	var again func()
	again = func() {
		w.after(d, name, again)
		f()
	}
	w.after(w.source(name+" begins").between(0, d), name, again)
}

// tick runs the ticks of all loops and looks whether the message servers reach each
// other.
func (w *world) tick() {
	well := w.cluster != nil || w.procs["route"].up
	for _, p := range w.order {
		if !p.up {
			continue
		}
		for _, l := range p.loops {
			if l.due <= w.now() {
				l.due = session.Never
				l.Tick()
			}
		}
	}
	for _, name := range w.msgs {
		p := w.procs[name]
		well = well && p.up && p.routes.Up() && (w.cluster == nil || w.knows(p))
		if !p.up {
			w.lossFor(time.Second)
		} else if len(p.short) > 0 && !p.stores.Up() {
			w.faultFor(aftermath) // the only db_proxy in its list is away
		}
	}
	if !well {
		w.troubleFor(time.Second)
	}
	w.checkQueries()
}

// faultFor records that the answer of a db_proxy may be lost for d.
func (w *world) faultFor(d time.Duration) {
	w.faults = append(w.faults, trouble{w.now(), w.now() + d})
}

// during reports whether one of the times in list overlaps the time from since to end.
func during(list []trouble, since, end time.Duration) bool {
	return slices.ContainsFunc(list, func(t trouble) bool { return t.since < end && since < t.end })
}

// troubleFor records that messages may not reach other message servers for d.
func (w *world) troubleFor(d time.Duration) {
	now := w.now()
	if n := len(w.troubles); n > 0 && w.troubles[n-1].end >= now {
		w.troubles[n-1].end = max(w.troubles[n-1].end, now+d)
		return
	}
	w.troubles = append(w.troubles, trouble{max(0, now-time.Second), now + d})
}

// lossFor records that texts may not reach the other message server at all for d.
func (w *world) lossFor(d time.Duration) {
	w.losses = append(w.losses, trouble{max(0, w.now()-time.Second), w.now() + d})
}

// mend ends all faults.
func (w *world) mend() {
	for _, p := range w.order {
		p.mood, p.crashAtCommit = moodWell, false
		p.revive()
		if p.member != nil {
			p.member.mood, p.member.cut = moodWell, 0
		}
	}
}

// revive starts a process that has crashed.
func (p *proc) revive() {
	if !p.up {
		p.start()
	}
}

// quiet reports whether nobody waits for anything.
func (w *world) quiet() bool {
	for _, c := range w.clients {
		if !c.online || c.conn.harmed != 0 || len(c.out) > 0 {
			return false
		}
	}
	return len(w.db.open) == 0
}
