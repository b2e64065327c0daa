package sim

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/mono"
	"teamtalk/core/registry"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/core/whereabouts/whereaboutstest"
	"teamtalk/handlers/mesh"
	"teamtalk/handlers/msg"
)

// In a part of the seeds there is no route server, and each of three message servers has a mesh.
// The Redis that they share is modelled here: the leases of the registry, and the whereabouts.

// cluster is what the message servers without a route server share.
type cluster struct {
	w      *world
	where  *whereaboutstest.Memory
	epoch  uint64
	leases map[string]*lease // by name of the process
}

// lease is a registration.
type lease struct {
	node registry.Node
	end  time.Duration
}

// member is what one life of a message server has of the cluster.
type member struct {
	mesh          *mesh.Server
	view          *registry.View
	epoch, lapses atomic.Uint64
	cut           time.Duration // until when it does not reach Redis
	mood          mood          // of the whereabouts
	moods         int           // how often it changed
}

// meshOf reports whether the message servers of a seed have no route server.
func meshOf(seed uint64) bool { return newSched(seed).source("mesh").chance(0.25) }

// startMesh starts what takes the place of the route server, and links m to it.
func (p *proc) startMesh(m *msg.Server) *link.Group {
	c, life, reg := p.w.cluster, p.life, &settings.Registry
	b := &member{view: registry.NewView()}
	p.member = b
	src := p.w.source(fmt.Sprintf("%s.%d where", p.name, p.lives))
	store := &whereStore{w: p.w, life: life, name: src.name, turn: p.turns("where"),
		runs: map[string]int{}}
	b.mesh = mesh.New(mesh.Options{
		Store: &whereaboutstest.Faulty{Store: c.where, Before: store.before, After: store.after},
		Nodes: b.view, Name: p.name, Now: p.now, Dial: p.dialMesh(),
		Self: func() mesh.Self {
			return mesh.Self{Epoch: b.epoch.Load(), Lapses: b.lapses.Load()}
		},
		Window: settings.Msg.PresenceWindow / 2, Turn: p.turns("mesh"),
		LinkTimeout: settings.Link.Timeout, LinkHeartbeat: settings.Link.Heartbeat})
	p.links = p.addLoop(session.LoopOptions{Links: b.mesh.Servers()})
	pipe, err := link.Local(link.LocalOptions{Name: "route", CallerName: p.name,
		Caller: m.RouteLink(), Callee: b.mesh.Local(), CallTimeout: settings.Link.CallTimeout,
		Rand: lockedRand(p.w.sched, src), Turn: p.turns("pipe")})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go b.mesh.Run(ctx)
	p.end = cancel
	g := link.NewGroup("route", nil, link.Server{Name: "route", Conns: []link.Peer{pipe}})
	p.dialed = append(p.dialed, g)
	beats := p.w.source(fmt.Sprintf("%s.%d lease", p.name, p.lives))
	var renew func()
	renew = func() {
		if !life.dead.Load() {
			p.renew()
			p.w.after(reg.Poll, p.name+" renews", renew)
		}
	}
	p.w.after(beats.between(time.Millisecond, 20*time.Millisecond), p.name+" registers", renew)
	return g
}

// dialMesh returns what dials other message servers.
func (p *proc) dialMesh() func(registry.Node, session.LinkHandler) mesh.Link {
	life, dials := p.life, map[string]int{}
	return func(n registry.Node, h session.LinkHandler) mesh.Link {
		dials[n.Name]++
		src := p.w.source(fmt.Sprintf("%s.%d-%s %d", p.name, p.lives, n.Name, dials[n.Name]))
		return link.Dial(link.Options{
			Name: n.Name, Addr: n.Addr, Handler: h, DialTimeout: settings.Link.DialTimeout,
			Heartbeat: settings.Link.Heartbeat, IdleLimit: settings.Link.Timeout,
			MaxBackoff:  min(settings.Link.BackoffMax, maxMeshBackoff),
			CallTimeout: settings.Link.CallTimeout, MaxFrame: int(settings.Link.MaxFrame),
			Rand: lockedRand(p.w.sched, src), Turn: p.turns(src.name),
			Dial: func(ctx context.Context, addr string) (net.Conn, error) {
				return p.w.net.dial(ctx, src, p, life, addr)
			},
		})
	}
}

// maxMeshBackoff is that of package system.
const maxMeshBackoff = 5 * time.Second

// renew renews the lease of a process and reads the list, unless it does not reach Redis.
func (p *proc) renew() {
	c, b, now := p.w.cluster, p.member, p.w.now()
	if now < b.cut || p.stopping && b.epoch.Load() == 0 {
		return
	}
	l := c.leases[p.name]
	switch {
	case b.epoch.Load() == 0:
		c.epoch++
		b.epoch.Store(c.epoch)
		l = nil
	case l == nil || l.end <= now:
		b.lapses.Add(1)
		l = nil
	}
	if l == nil {
		l = &lease{node: registry.Node{Role: "msg", Name: p.name, Epoch: b.epoch.Load(),
			Addr: p.name}}
		c.leases[p.name] = l
	}
	l.end = now + settings.Registry.Lease
	var list []registry.Node
	for _, name := range p.w.msgs {
		if o := c.leases[name]; o != nil && o.end > now {
			list = append(list, o.node)
		}
	}
	b.view.Update(list, true)
}

// deregister ends the lease of a process that stops.
func (c *cluster) deregister(p *proc) {
	if l := c.leases[p.name]; l != nil && l.node.Epoch == p.member.epoch.Load() {
		delete(c.leases, p.name)
	}
}

// knows reports whether a message server has the others in its list, as they are now.
func (w *world) knows(p *proc) bool {
	list, _ := p.member.view.Nodes("msg")
	for _, name := range w.msgs {
		if o := w.procs[name]; o.up && !slices.ContainsFunc(list, func(n registry.Node) bool {
			return n.Name == name && n.Epoch == o.member.epoch.Load()
		}) {
			return false
		}
	}
	return true
}

// whereStore is the whereabouts as one life of a message server reaches them.
type whereStore struct {
	w    *world
	life *life
	name string
	turn mono.Turn

	mu   sync.Mutex
	runs map[string]int // calls so far, by name
}

// source returns the source of a call. Several goroutines of a mesh call the store at the same
// instant, in any order, so each call has a source of its own: its name says what it is for.
func (s *whereStore) source(when string, c whereaboutstest.Call) *source {
	name := fmt.Sprintf("%s %s %s %v %v", s.name, when, c.Operation, c.Users, c.Groups)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs[name]++
	return s.w.source(fmt.Sprintf("%s/%d", name, s.runs[name]))
}

// before lets a call take effect some time later.
func (s *whereStore) before(ctx context.Context, c whereaboutstest.Call) error {
	src := s.source("takes", c)
	return s.wait(ctx, src, func(m mood) (time.Duration, error) {
		d := src.between(50*time.Microsecond, 2*time.Millisecond)
		switch {
		case m == moodFail && src.chance(0.7):
			return d, errAway
		case m == moodStall:
			d += src.between(0, 2500*time.Millisecond)
		}
		return d, nil
	})
}

// after returns the answer of a call some time later, or loses it.
func (s *whereStore) after(ctx context.Context, c whereaboutstest.Call) error {
	src := s.source("answers", c)
	return s.wait(ctx, src, func(m mood) (time.Duration, error) {
		d := src.between(20*time.Microsecond, time.Millisecond)
		switch {
		case m == moodDoubt && src.chance(0.6):
			return d, errDoubt
		case m == moodStall:
			d += src.between(0, 2500*time.Millisecond)
		}
		return d, nil
	})
}

// wait waits for what the mood of Redis says.
func (s *whereStore) wait(ctx context.Context, src *source,
	f func(m mood) (time.Duration, error)) error {
	done := make(chan error, 1)
	s.w.post(src, func() {
		if s.life.dead.Load() {
			done <- errAway
			return
		}
		d, err := f(s.life.member.mood)
		if s.w.now() < s.life.member.cut {
			err = errAway
		}
		s.w.after(d, src.name, func() {
			if s.life.dead.Load() {
				err = errAway
			}
			done <- err
		})
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done(): // those of two calls may end at the same instant
		s.turn.Wait(src.name)
		return ctx.Err()
	}
}

// found returns what a db_proxy finds of the users of a message that it has stored.
func (c *cluster) found(src *source, m *im.Message) []byte {
	if c == nil || !m.WantWhereabouts || m.Type.IsGroup() || src.chance(0.2) {
		return nil
	}
	f := c.where.Lookup(context.Background(), []uint32{m.To, m.From})
	return whereabouts.OfMessage{Receiver: f[0].Entries, Sender: f[1].Entries}.Encode()
}

// redisSteps returns the faults of Redis: those of the whereabouts, losses of all of them, and
// message servers that are cut off from Redis alone.
func redisSteps(w *world, written []step) (steps []step) {
	src := w.source("redis")
	for range src.rand.IntN(6) {
		p := step{at: src.between(3*time.Second, active), a: src.rand.IntN(1000),
			act: []act{actRedis, actRedis, actForget, actCutOff}[src.rand.IntN(4)],
			n:   1 + src.rand.IntN(moods), d: src.between(100*time.Millisecond, 12*time.Second)}
		if src.chance(0.6) {
			p.at = written[src.rand.IntN(len(written))].at + src.between(0, 15*time.Millisecond)
		}
		steps = append(steps, p)
	}
	return steps
}

// redisLasts is how long what is sent again may take after Redis works again.
const redisLasts = 10 * time.Second

// setRedis changes how the whereabouts treat the calls of a message server, or of all, for d.
func (w *world) setRedis(p step) {
	list := []*proc{w.procs[w.msgs[p.a%len(w.msgs)]]}
	if p.a%4 == 0 {
		list = nil
		for _, name := range w.msgs {
			list = append(list, w.procs[name])
		}
	}
	for _, o := range list {
		if !o.up {
			continue
		}
		b := o.member
		b.mood = mood(p.n)
		b.moods++
		n := b.moods
		w.after(p.d, o.name+" has Redis back", func() {
			if b.moods == n {
				b.mood = moodWell
			}
		})
	}
	w.troubleFor(p.d + redisLasts)
}

// forget loses all whereabouts. Message servers notice it when they look.
func (w *world) forget() {
	w.cluster.where.Lose()
	src := w.source(fmt.Sprintf("forget %v", w.now()))
	for _, name := range w.msgs {
		life := w.procs[name].life
		w.after(src.between(time.Millisecond, settings.Registry.Poll), name+" notices", func() {
			if !life.dead.Load() {
				life.member.mesh.Reassert()
			}
		})
	}
	w.troubleFor(redisLasts)
}

// cutOff cuts a message server off from Redis. When its lease has ended the others count it as
// gone, and its users find in the history what is written meanwhile.
func (w *world) cutOff(p *proc, d time.Duration) {
	if !p.up {
		return
	}
	p.member.cut = w.now() + d
	w.troubleFor(d + redisLasts)
	if d+2*settings.Registry.Poll > settings.Registry.Lease {
		w.lossFor(d + redisLasts)
	}
}
