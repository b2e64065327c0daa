package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"net"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"teamtalk/core/config"
	"teamtalk/core/link"
	"teamtalk/core/mono"
	"teamtalk/core/session"
	"teamtalk/handlers/dbproxy"
	"teamtalk/handlers/dbproxy/lockout"
	"teamtalk/handlers/login"
	"teamtalk/handlers/msg"
	"teamtalk/handlers/route"
	"teamtalk/pool"
	"teamtalk/proto/pb"
)

// proc is a server process. A crash ends it between two events, so at any point at which
// one of its goroutines waits. Its remaining goroutines change nothing in the world.
type proc struct {
	w     *world
	name  string
	lives int // how often it was started
	up    bool
	clock atomic.Int64 // by how much its wall clock is wrong

	stopping bool // it was told to stop, and drains
	told     time.Duration

	mood          mood // of the store, for a db_proxy
	moods         int  // how often it changed
	crashAtCommit bool

	*life
}

// life is a process from a start to its crash.
type life struct {
	dead    atomic.Bool
	gone    chan struct{} // closed when it is dead
	loops   []*loop
	links   *loop // accepts links
	clients []*loop
	dialed  []*link.Group
	routes  *link.Group    // of a message server
	stores  *link.Group    // the same: the db_proxies
	short   map[string]int // the same: how often a db_proxy is left out of its list
	end     func()         // ends its goroutines
	drain   func(context.Context) error
	abort   func() // ends drain

	msg     *msg.Server // of a message server
	*member             // the same, without a route server
}

// loop is a session loop of a process. The scheduler runs it.
type loop struct {
	*session.Loop
	proc *life
	src  *source
	due  time.Duration // of the next tick; session.Never: none
}

// wall has a monotonic reading. Times in a bubble have none, and the servers need one: a
// step of the wall clock must not change their durations.
var wall = func() time.Time {
	t := time.Now()
	t = t.Add(-time.Duration(t.Nanosecond()))
	return mono.Step(t, time.Unix(1_700_000_000, 0).Sub(t.Round(0)))
}()

// now returns the time by the clock of the process. Any goroutine.
func (p *proc) now() time.Time {
	p.w.shake()
	return mono.Step(wall.Add(p.w.now()), time.Duration(p.clock.Load()))
}

// start starts the process.
func (p *proc) start() {
	p.lives++
	p.life = &life{abort: func() {}, gone: make(chan struct{}), short: map[string]int{}}
	p.up, p.stopping = true, false
	switch p.name {
	case "db1", "db2":
		p.startDB()
	case "route":
		p.startRoute()
	case "login":
		p.startLogin()
	default:
		p.startMsg()
	}
}

// crash ends the process. With silent, nobody is told.
func (p *proc) crash(silent bool) {
	if !p.up {
		return
	}
	p.w.net.kill(p, silent)
	p.over()
}

// over ends what is left of a process without connections.
func (p *proc) over() {
	p.up = false
	p.dead.Store(true)
	close(p.gone)
	p.abort()
	p.w.db.gone(p)
	for _, g := range p.dialed {
		_ = g.Close() // nobody is left to be told
	}
	if p.end != nil {
		p.end()
	}
}

// addLoop makes a loop.
func (p *proc) addLoop(opt session.LoopOptions) *loop {
	l := &loop{proc: p.life,
		src: p.w.source(fmt.Sprintf("%s.%d loop %d", p.name, p.lives, len(p.loops)))}
	life, s := p.life, p.w.sched
	opt.Now = p.now
	opt.Wake = func(*session.Loop, bool) {
		s.post(l.src, func() {
			s.after(l.src.between(time.Microsecond, 200*time.Microsecond), l.src.name, func() {
				if !life.dead.Load() {
					l.Turn()
				}
			})
		})
	}
	opt.Schedule = func(d time.Duration) {
		if l.due = session.Never; d >= 0 {
			l.due = p.w.now() + d
		}
	}
	l.due = session.Never
	l.Loop = session.NewLoop(opt)
	p.loops = append(p.loops, l)
	return l
}

var settings = config.Default()

// timers returns what sets the timers of the process. They end as events, so that those that
// end at the same time have an order: that in which they were set.
func (p *proc) timers() func(time.Duration, func()) func() bool {
	src := p.w.source(fmt.Sprintf("%s.%d timer", p.name, p.lives))
	life, s := p.life, p.w.sched
	return func(d time.Duration, f func()) func() bool {
		var over atomic.Bool
		end := s.now() + d
		s.post(src, func() {
			s.at(end, src.name, func() {
				if !life.dead.Load() && over.CompareAndSwap(false, true) {
					f()
				}
			})
		})
		return func() bool { return over.CompareAndSwap(false, true) }
	}
}

// turns returns what the goroutines of a part of the process wait for before they work. They run
// one after the other when all goroutines wait, sorted by name.
func (p *proc) turns(part string) mono.Turn {
	life, s, name := p.life, p.w.sched, fmt.Sprintf("%s.%d %s ", p.name, p.lives, part)
	return func(worker string) {
		begin := make(chan struct{})
		s.post(&source{name: name + worker}, func() {
			close(begin)
			synctest.Wait()
		})
		select {
		case <-begin:
		case <-life.gone:
		}
	}
}

// group dials servers.
func (p *proc) group(name string, h session.LinkHandler, to ...string) *link.Group {
	var features uint32
	if name == "dbproxy" && !p.w.plain {
		features = uint32(pb.ServerFeature_SERVER_FEATURE_REFUSALS)
	}
	life, dials := p.life, map[string]int{}
	dial := func(t string) []link.Peer {
		from := fmt.Sprintf("%s.%d-%s", p.name, p.lives, t)
		if dials[t]++; dials[t] > 1 {
			from += fmt.Sprintf(" %d", dials[t])
		}
		src := p.w.source(from)
		peer := link.Dial(link.Options{
			Name: t, Addr: t, Handler: h, DialTimeout: settings.Link.DialTimeout,
			Heartbeat: settings.Link.Heartbeat, IdleLimit: settings.Link.Timeout,
			MaxBackoff: settings.Link.BackoffMax, CallTimeout: settings.Link.CallTimeout,
			MaxFrame: int(settings.Link.MaxFrame), Features: features,
			Rand: lockedRand(p.w.sched, src), Turn: p.turns(from),
			Dial: func(ctx context.Context, addr string) (net.Conn, error) {
				return p.w.net.dial(ctx, src, p, life, addr)
			},
		})
		// The timers of two links never fire at the same instant.
		time.Sleep(src.between(time.Microsecond, 50*time.Microsecond))
		return []link.Peer{peer}
	}
	var g *link.Group
	if name == "dbproxy" {
		g = link.NewChangingGroup(name, nil, func(a link.Address) []link.Peer {
			return dial(a.Addr)
		})
		g.SetServers(addresses(to))
	} else {
		var all []link.Server
		for _, t := range to {
			all = append(all, link.Server{Name: t, Conns: dial(t)})
		}
		g = link.NewGroup(name, nil, all...)
	}
	p.dialed = append(p.dialed, g)
	return g
}

// addresses returns servers whose addresses are their names.
func addresses(names []string) (list []link.Address) {
	for _, n := range names {
		list = append(list, link.Address{Name: n, Addr: n})
	}
	return list
}

func lockedRand(s *sched, src *source) func() uint64 {
	var mu sync.Mutex
	r := s.source(src.name + " rand").rand
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Uint64()
	}
}

func (p *proc) startMsg() {
	m, err := msg.New(msg.Options{
		MaxConns: settings.Msg.MaxConnections, HostName: p.name,
		Policy: msg.DevicePolicy(settings.Msg.DevicePolicy), Ack: msg.AckPolicy(settings.Msg.Ack),
		Presence:       msg.Presence(settings.Msg.Tells()),
		PresenceWindow: settings.Msg.PresenceWindow, AckWait: settings.Msg.AckWait,
		RedeliverAfter: settings.Msg.RedeliverAfter, ResendWindow: settings.Msg.ResendWindow,
		Hold:      settings.Msg.Hold,
		Announces: p.w.cluster != nil, Whereabouts: p.w.cluster != nil,
		Rate: settings.Msg.Rate, RateBurst: float64(settings.Msg.RateBurst),
		LoginDeadline: settings.Msg.LoginDeadline, PCTimeout: settings.Msg.PCTimeout,
		MobileTimeout: settings.Msg.MobileTimeout, LoginKey: loginKey, Now: p.now,
		AfterFunc: p.timers(),
	})
	if err != nil {
		panic(err)
	}
	p.msg, p.drain = m, m.Drain
	db := p.group("dbproxy", m.DBLink(), "db1", "db2")
	var routes *link.Group
	if p.w.cluster != nil {
		routes = p.startMesh(m)
		p.member.mesh.Connect(db.Class(link.ClassLogin))
	} else {
		routes = p.group("route", m.RouteLink(), "route")
	}
	p.routes, p.stores = routes, db
	m.Connect(db.Class(link.ClassMessage), db.Class(link.ClassLogin), routes)
	m.Announce("192.0.2.1", "", 8000)
	p.group("login", m.LoginLink(), "login")
	for range 2 {
		p.clients = append(p.clients, p.addLoop(session.LoopOptions{Clients: m}))
	}
}

// loginKey returns the key of a login. Its db_proxy is the same in all runs of a seed.
func loginKey(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	return h.Sum64()
}

func (p *proc) startRoute() {
	p.links = p.addLoop(session.LoopOptions{Links: route.New(route.Options{Now: p.now,
		LinkTimeout: settings.Link.Timeout, LinkHeartbeat: settings.Link.Heartbeat})})
}

func (p *proc) startLogin() {
	p.links = p.addLoop(session.LoopOptions{Links: login.New(login.Options{
		LinkTimeout: settings.Link.Timeout, LinkHeartbeat: settings.Link.Heartbeat}).Servers()})
}

func (p *proc) startDB() {
	workers := pool.New(pool.Options{Workers: 4})
	st := &store{Memory: p.w.db.logins, db: p.w.db, proc: p, life: p.life,
		src:    p.w.source(fmt.Sprintf("%s.%d store", p.name, p.lives)),
		stored: map[uint64]uint32{}}
	c := &settings.DBProxy
	db := dbproxy.New(dbproxy.Options{
		Store: st, Tasks: &tasks{workers, p.w.sched, st.src.name},
		HistoryLimit: c.HistoryLimit, MaxFrame: int(settings.Link.MaxFrame),
		MaxAnswer: int(settings.Link.MaxAnswer),
		Lock: lockout.Limits{Attempts: c.LoginLockAttempts, Window: c.LoginLockWindow,
			NetworkAttempts: c.LoginLockNetwork, NameAttempts: c.LoginLockName,
			NameWindow: c.LoginNameWindow, Known: c.LoginKnown},
		Timeout:     settings.Link.CallTimeout * 4 / 5,
		LinkTimeout: settings.Link.Timeout, LinkHeartbeat: settings.Link.Heartbeat, Now: p.now,
	})
	batches := pool.BatchOptions[*dbproxy.Pending]{Shards: 2, Failed: db.FailBatch}
	size := (*dbproxy.Pending).Size
	db.SetMessages(pool.NewBatcher(workers, batches, size, db.AppendBatch))
	ctx, cancel := context.WithCancel(context.Background())
	p.drain = db.Drain
	var background sync.WaitGroup
	background.Go(func() { db.RunSync(ctx, settings.DBProxy.SessionSync) })
	p.end = func() {
		cancel()
		_ = workers.Close(ctx) // what it drops is lost, as in a crash
		background.Wait()
	}
	p.links = p.addLoop(session.LoopOptions{Links: db})
}
