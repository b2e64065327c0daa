package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/bench/scenario"
	"teamtalk/bench/swarm"
	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// local is the generator of this process.
type local struct {
	job
	scenario *scenario.Scenario
	addrs    []netip.AddrPort
	password string
	client   pb.ClientType
	run      uint8
	emit     func(interval)

	swarm   *swarm.Swarm
	workers []*worker
	clients []*client
	userIDs []uint32 // of all users, for scenarios that need them

	beatFrame, logoutFrame []byte
	snapshots              chan snapshot
	collected              sync.WaitGroup
	recorders              sync.Pool
	ended                  atomic.Bool
	script                 script
	cpu                    cpuClock
}

// script is the behaviour of a kind of scenario.
type script interface {
	// cast creates the clients of this generator.
	cast(p *local)
	// needs reports whether a client logs in before the start.
	needs(c *client) bool
	// begin prepares a worker's traffic before plan.Start. groups are the ids of the
	// groups by number. Loop only.
	begin(w *worker, groups []uint32)
	// done reports whether the work is finished. Loop only.
	done(w *worker) bool
}

// newLocal returns a generator that passes each interval to emit.
func newLocal(emit func(interval)) *local {
	p := &local{emit: emit, snapshots: make(chan snapshot, 256)}
	p.recorders.New = func() any { return &recorder{} }
	p.beatFrame = pdu.AppendHeader(nil, pb.CmdHeartBeat, 9)
	p.logoutFrame = pdu.AppendHeader(nil, pb.CmdLogoutReq, 2)
	return p
}

func (p *local) recorder() *recorder { return p.recorders.Get().(*recorder) }

func (p *local) prepare(ctx context.Context, j job) (*prepared, error) {
	p.job, p.scenario, p.run = j, &j.Scenario, j.Run
	p.password, p.client = im.ClientPassword(j.Password), j.Scenario.ClientType()
	if err := p.resolve(ctx); err != nil {
		return nil, err
	}
	encrypted, err := p.scenario.ClientTLS()
	if err != nil {
		return nil, err
	}
	sw, err := swarm.New(swarm.Options{Loops: p.scenario.GeneratorLoops(), TLS: encrypted,
		WebSocket:      p.scenario.WebSocket,
		ConnectTimeout: time.Duration(p.scenario.Timeout)})
	if err != nil {
		return nil, err
	}
	p.swarm = sw
	p.script = scriptOf(p.scenario)
	fill := filler(int(p.scenario.Size))
	for i, l := range sw.Loops() {
		w := &worker{part: p, loop: l, plan: plan{End: never}, rec: p.recorder(),
			rng: rand.New(rand.NewPCG(uint64(p.scenario.Seed), uint64(j.Part*1000+i)))}
		w.text = append(make([]byte, stampLen), fill...)
		p.workers = append(p.workers, w)
	}
	p.script.cast(p)
	if err := p.checkLimit(); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := p.loginAll(ctx); err != nil {
		return nil, err
	}
	out := &prepared{Seconds: time.Since(began).Seconds(), rec: &recorder{}}
	p.each(func(w *worker) {
		out.rec.merge(w.rec) // each runs workers one after another
		w.rec.reset()
	})
	if p.scenario.Groups > 0 {
		for _, c := range p.clients {
			out.Users, out.Indexes = append(out.Users, c.id), append(out.Indexes, c.index)
		}
	}
	return out, nil
}

// checkLimit raises the limit of open files as far as needed. It fails when that is
// impossible, because a run would otherwise fail half-way.
func (p *local) checkLimit() error {
	const reserve = 64 // for the loops and the rest of the process
	n := 0
	for _, c := range p.clients {
		if p.script.needs(c) {
			n++
		}
	}
	if limit := swarm.OpenFiles(len(p.clients) + reserve); limit < n+reserve {
		return fmt.Errorf("%d connections need as many open files, but the limit of this "+
			"process is %d (ulimit -n)", n, limit)
	}
	return nil
}

func (p *local) resolve(ctx context.Context) error {
	for _, addr := range p.scenario.Addrs {
		ap, err := lookup(ctx, addr)
		if err != nil {
			return fmt.Errorf("message server %q: %w", addr, err)
		}
		p.addrs = append(p.addrs, ap)
	}
	return nil
}

// lookup returns the address of host:port. An empty host means this machine.
func lookup(ctx context.Context, addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, errors.New("want host:port")
	}
	n, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" {
		host = "127.0.0.1"
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(n)), nil
}

// addClient creates a client. Clients with the same key share a loop.
func (p *local) addClient(index, key int) *client {
	w := p.workers[key%len(p.workers)]
	c := &client{w: w, index: index, kind: p.client}
	w.clients = append(w.clients, c)
	p.clients = append(p.clients, c)
	return c
}

// each runs f on the loop of each worker, one after another, and waits for it.
func (p *local) each(f func(w *worker)) {
	for _, w := range p.workers {
		done := make(chan struct{})
		if !w.loop.Do(func() { f(w); close(done) }) {
			return
		}
		<-done
	}
}

// start starts the traffic.
func (p *local) start(_ context.Context, pl plan, groups, users []uint32) error {
	p.userIDs = users
	snapshots := p.snapshots // close may run before the goroutine starts
	p.collected.Go(func() { p.collect(snapshots) })
	p.each(func(w *worker) {
		w.plan = pl
		w.rec.reset()
		w.started = pl.Start
		p.script.begin(w, groups)
		w.loop.At(pl.boundary(0), w.boundary)
	})
	p.cpu.schedule(pl)
	return nil
}

// collect merges the snapshots of the workers into intervals.
func (p *local) collect(snapshots <-chan snapshot) {
	open := map[int]*interval{}
	seen := map[int]int{}
	for s := range snapshots {
		in := open[s.index]
		if in == nil {
			in = &interval{Index: s.index, Start: s.start, End: s.end, rec: &recorder{}}
			open[s.index] = in
		}
		in.rec.merge(s.rec)
		s.rec.reset()
		p.recorders.Put(s.rec)
		in.Waiting += s.waiting
		in.Open += s.open
		in.Checks.add(&s.checks)
		in.End = max(in.End, s.end)
		if seen[s.index]++; seen[s.index] == len(p.workers) {
			delete(open, s.index)
			delete(seen, s.index)
			p.emit(*in)
		}
	}
}

func (p *local) stop(_ context.Context, end int64) error {
	p.each(func(w *worker) {
		if end >= w.plan.End {
			return
		}
		w.plan.End = end
		if w.plan.boundary(w.interval) == end {
			w.snapshot(end)
		}
	})
	return nil
}

func (p *local) status(context.Context) (status, error) {
	st := status{Done: true}
	p.each(func(w *worker) {
		st.Waiting += w.waiting + w.beats + w.overdue()
		st.Expected += w.expected
		st.Delivered += w.delivered
		st.Progress += w.progress
		st.Done = st.Done && p.script.done(w)
	})
	return st, nil
}

func (p *local) sent(context.Context) ([]sentStream, error) {
	var out []sentStream
	p.each(func(w *worker) {
		w.play.over()
		unacked := map[uint64][]uint32{}
		for _, c := range w.clients {
			c.requests.waiting(func(r request) { w.giveUp(c, r) })
			w.waiting -= int64(c.requests.open)
			c.requests = requests{}
			if c.beatSent != 0 {
				c.beatLost()
			}
		}
		for _, r := range w.unacked {
			key := uint64(r.conv)<<16 | uint64(r.sender)
			unacked[key] = append(unacked[key], r.number)
		}
		for _, c := range w.clients {
			for _, o := range c.outboxes {
				out = append(out, sentStream{Conv: o.conv, Sender: o.sender, Sent: o.sent,
					Unacked: unacked[uint64(o.conv)<<16|uint64(o.sender)]})
			}
		}
	})
	return out, nil
}

func (p *local) finish(_ context.Context, all []sentStream) (*final, error) {
	byKey := make(map[uint64]*sentStream, len(all))
	for i := range all {
		byKey[uint64(all[i].Conv)<<16|uint64(all[i].Sender)] = &all[i]
	}
	p.ended.Store(true)
	out := &final{Loops: len(p.workers), CPU: p.cpu.cores()}
	p.each(func(w *worker) {
		for _, c := range w.clients {
			c.missing(byKey)
		}
		out.Open += int64(w.loop.Open())
	})
	last := p.swarm.Now() // the same for all workers
	p.each(func(w *worker) { w.snapshot(last) })
	p.each(func(w *worker) { out.Checks.add(&w.checks) })
	close(p.snapshots)
	p.collected.Wait()
	p.snapshots = nil
	return out, nil
}

// missing counts the acked messages that a client should have received and did not.
// Messages with an unreadable stamp did arrive, so they are subtracted.
func (c *client) missing(all map[uint64]*sentStream) {
	lost := int64(0)
	for i := range c.inboxes {
		in := &c.inboxes[i]
		for sender := range in.streams {
			if sender == in.own {
				continue
			}
			s, sent := &in.streams[sender], all[uint64(in.conv)<<16|uint64(sender)]
			if sent == nil {
				continue
			}
			n := int64(sent.Sent) - int64(s.count)
			for _, number := range sent.Unacked {
				if !s.has(number) {
					n--
				}
			}
			lost += max(0, n)
			if n > 0 {
				c.w.checks.example("user %s: conversation %d, sender %d: %d messages acked and "+
					"never delivered, among the numbers %v",
					c.name(), in.conv, sender, n, s.missing(sent.Sent, 10))
			}
		}
	}
	c.w.checks.Lost += max(0, lost-c.damaged)
}

func (p *local) close() {
	if p.swarm != nil {
		p.swarm.Close()
	}
	if p.snapshots != nil {
		close(p.snapshots)
		p.snapshots = nil
	}
	p.collected.Wait()
}
