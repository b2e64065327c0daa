package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/bench/swarm"
	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// job is what one generator is to do.
type job struct {
	Scenario Scenario `json:"scenario"`
	Password string   `json:"password"`
	Part     int      `json:"part"` // its number among the generators, from 0
	Parts    int      `json:"parts"`
	Run      uint8    `json:"run"` // tells this run's messages from those of others
}

// part is a generator: this process, or another one.
type part interface {
	// prepare connects and logs in.
	prepare(ctx context.Context, j job) (*prepared, error)
	// createGroups makes groups and returns their ids.
	createGroups(ctx context.Context, specs []groupSpec) ([]uint32, error)
	// start begins the traffic at the time given. groups are the ids by number, of all groups; users those of all users, where the scenario needs them.
	start(ctx context.Context, p plan, groups, users []uint32) error
	// stop ends counting and traffic earlier than planned: at the time given, which is now.
	stop(ctx context.Context, end int64) error
	// status says how far it is.
	status(ctx context.Context) (status, error)
	// sent ends the traffic and says what was sent.
	sent(ctx context.Context) ([]sentStream, error)
	// finish checks what was received against what all generators sent.
	finish(ctx context.Context, all []sentStream) (*final, error)
	// close ends it.
	close()
}

// prepared is what is known once everybody is logged in.
type prepared struct {
	Users   []uint32 // ids, of the members of groups, in the order of the generator's own clients
	Indexes []int    // who they are among all users of the run
	Seconds float64  // that the logins took
	rec     *recorder
}

// groupSpec is a group to be made, by its first member.
type groupSpec struct {
	Group   int      `json:"group"`
	Creator int      `json:"creator"` // among all users of the run
	Members []uint32 `json:"members"`
}

// status is how far a generator is.
type status struct {
	Waiting   int64 `json:"waiting"`   // requests, messages and heartbeats not answered
	Expected  int64 `json:"expected"`  // deliveries of what it sent
	Delivered int64 `json:"delivered"` // deliveries to its clients
	Progress  int64 `json:"progress"`  // grows with whatever else moves
	Done      bool  `json:"done"`      // it has nothing more to do, before its time
}

// sentStream is what one sender sent to one conversation.
type sentStream struct {
	Conv    uint32   `json:"conv"`
	Sender  uint16   `json:"sender"`
	Sent    uint32   `json:"sent"`
	Unacked []uint32 `json:"unacked,omitempty"` // numbers
}

// final is what a generator found.
type final struct {
	Checks Checks
	Open   int64   // connections at the end
	CPU    float64 // cores used while counting, by the generator's own measure
	Loops  int
}

// interval is a generator's part of an Interval.
type interval struct {
	Index         int
	Start, End    int64
	Waiting, Open int64
	Checks        Checks
	rec           *recorder
}

// snapshot is a worker's part of an interval.
type snapshot struct {
	index         int
	start, end    int64
	rec           *recorder
	waiting, open int64
	checks        Checks
}

// local is the generator of this process.
type local struct {
	job
	scenario *Scenario
	addrs    []netip.AddrPort
	password string
	client   pb.ClientType
	run      uint8
	emit     func(interval)

	swarm   *swarm.Swarm
	workers []*worker
	clients []*client
	userIDs []uint32 // of all users, where the scenario needs them

	beatFrame, logoutFrame []byte
	snapshots              chan snapshot
	collected              sync.WaitGroup
	recorders              sync.Pool
	ended                  atomic.Bool
	script                 script
	cpu                    cpuClock
}

// script is a kind of scenario.
type script interface {
	// cast makes the clients of this generator.
	cast(p *local)
	// needs reports whether a client logs in before the start.
	needs(c *client) bool
	// begin sets a worker's traffic up, on its loop, before plan.Start. groups are the ids of the groups by number.
	begin(w *worker, groups []uint32)
	// done reports whether there is nothing more to do, on the loop.
	done(w *worker) bool
}

// newLocal makes a generator that tells emit of every interval.
func newLocal(emit func(interval)) *local {
	p := &local{emit: emit, snapshots: make(chan snapshot, 256)}
	p.recorders.New = func() any { return &recorder{} }
	p.beatFrame = pdu.AppendHeader(nil, pb.CmdHeartBeat, 9)
	p.logoutFrame = pdu.AppendHeader(nil, pb.CmdLogoutReq, 2)
	return p
}

func (p *local) recorder() *recorder { return p.recorders.Get().(*recorder) }

// loopCount is how many event loops a generator has.
func (s *Scenario) loopCount() int {
	if s.Loops > 0 {
		return s.Loops
	}
	return max(1, runtime.NumCPU()/2)
}

func (p *local) prepare(ctx context.Context, j job) (*prepared, error) {
	p.job, p.scenario, p.run = j, &j.Scenario, j.Run
	p.password, p.client = im.ClientPassword(j.Password), j.Scenario.clientType()
	if err := p.resolve(ctx); err != nil {
		return nil, err
	}
	sw, err := swarm.New(swarm.Options{Loops: p.scenario.loopCount(), ConnectTimeout: time.Duration(p.scenario.Timeout)})
	if err != nil {
		return nil, err
	}
	p.swarm = sw
	p.script = p.scenario.script()
	fill := filler(int(p.scenario.Size))
	for i, l := range sw.Loops() {
		w := &worker{part: p, loop: l, plan: plan{End: never}, rec: p.recorder(), rng: rand.New(rand.NewPCG(uint64(p.scenario.Seed), uint64(j.Part*1000+i)))}
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
		out.rec.merge(w.rec) // one worker after the other
		w.rec.reset()
	})
	if p.scenario.Groups > 0 {
		for _, c := range p.clients {
			out.Users, out.Indexes = append(out.Users, c.id), append(out.Indexes, c.index)
		}
	}
	return out, nil
}

// checkLimit raises the limit of open files as far as it has to be, and fails when that is not possible: half-way through a run is a bad time to find out.
func (p *local) checkLimit() error {
	const reserve = 64 // for the loops and the rest of the process
	n := 0
	for _, c := range p.clients {
		if p.script.needs(c) {
			n++
		}
	}
	if limit := swarm.OpenFiles(len(p.clients) + reserve); limit < n+reserve {
		return fmt.Errorf("%d connections need as many open files, and the limit of this process is %d (ulimit -n)", n, limit)
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

// lookup returns the address of host:port; without a host it is this machine's.
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

// addClient makes a client. Clients with the same key are on the same loop.
func (p *local) addClient(index, key int) *client {
	w := p.workers[key%len(p.workers)]
	c := &client{w: w, index: index, kind: p.client}
	w.clients = append(w.clients, c)
	p.clients = append(p.clients, c)
	return c
}

// each runs f on every worker's loop, one after the other, and waits for it.
func (p *local) each(f func(w *worker)) {
	for _, w := range p.workers {
		done := make(chan struct{})
		if !w.loop.Do(func() { f(w); close(done) }) {
			return
		}
		<-done
	}
}

// loginAll logs in those who are needed before the start.
func (p *local) loginAll(ctx context.Context) error {
	entries := make([]*entry, 0, len(p.workers))
	left := make(chan error, len(p.workers))
	p.each(func(w *worker) {
		w.loop.At(w.loop.Now(), func(now int64) int64 {
			w.deadlines.expire(now)
			return now + 50e6
		})
		w.beatAll()
		e := &entry{w: w, report: func(err error) { left <- err }}
		for _, c := range w.clients {
			if p.script.needs(c) {
				e.queue = append(e.queue, c)
			}
		}
		w.play = e
		entries = append(entries, e)
		e.fill(max(1, p.scenario.Parallel/len(p.workers)/p.Parts))
	})
	for range entries {
		select {
		case err := <-left:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// entry logs in a worker's clients, so many at once. It ends with the first that fails.
type entry struct {
	bystander
	w       *worker
	queue   []*client
	next    int
	working int
	ended   bool
	report  func(error)
}

func (e *entry) fill(n int) {
	for ; n > 0 && e.next < len(e.queue); n-- {
		e.working++
		c := e.queue[e.next]
		e.next++
		c.login(e.w.loop.Now())
	}
	if e.working == 0 && !e.ended {
		e.ended = true
		e.report(nil)
	}
}

func (e *entry) loggedIn(*client) {
	e.working--
	if !e.ended {
		e.fill(1)
	}
}

func (e *entry) gone(c *client, err error) {
	if e.ended {
		return
	}
	e.ended = true
	s := c.w.part.scenario
	if refused := (*loginError)(nil); errors.As(err, &refused) && refused.code == pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED {
		err = fmt.Errorf("%w; make the users with: teamtalk user add --count %d --format %s --password …", err, s.First-1+s.Users(), s.Format)
	}
	e.report(fmt.Errorf("user %s at %s: %w", c.name(), c.addr(), err))
}

// start begins the traffic.
func (p *local) start(_ context.Context, pl plan, groups, users []uint32) error {
	p.userIDs = users
	snapshots := p.snapshots // close may come before the goroutine has begun
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

// collect puts the workers' intervals together.
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
				out = append(out, sentStream{Conv: o.conv, Sender: o.sender, Sent: o.sent, Unacked: unacked[uint64(o.conv)<<16|uint64(o.sender)]})
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

// missing counts what a client should have got and did not: messages that were acked. With a stamp that cannot be read one came after all, as damaged.
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
				c.w.checks.example("user %s: of conversation %d, sender %d, %d messages acked and never delivered, among those with these numbers: %v",
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
