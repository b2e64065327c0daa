package bench

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"teamtalk/bench/scenario"
)

// Run executes the scenario. When ctx ends before counting begins, Run fails. Later the
// run only becomes shorter, so that the result of hours is not lost. Failed checks of
// messages are no error: Result.Checks counts them. Run returns an error for what makes a
// result impossible, such as an unreachable server or missing users.
func Run(ctx context.Context, s scenario.Scenario, opt Options) (*Result, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s.Normalize()
	result := s // named soak where the run has the kind that the soak repeats
	if s.Kind == scenario.KindSoak {
		s.Kind = s.Of
		s.Normalize()
		result = s
		result.Kind = scenario.KindSoak
	}
	r := &run{scenario: s, opt: &opt, result: &Result{Version: ResultVersion, Scenario: result,
		Machine: ThisMachine(), Build: opt.Build}}
	defer r.close()
	if err := r.gather(ctx); err != nil {
		return nil, err
	}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	if err := r.traffic(ctx); err != nil {
		return nil, err
	}
	return r.result, nil
}

// run is one run in the process that coordinates it.
type run struct {
	scenario scenario.Scenario
	opt      *Options
	result   *Result
	parts    []part
	groups   []uint32
	users    []uint32 // ids, for scenarios that need them
	plan     plan
	total    recorder

	mu       sync.Mutex
	merging  map[int]*merging // intervals that some generators have not reported
	next     int              // number of the next interval to report
	stride   int              // seconds that each interval of the result covers
	before   map[string]Usage // before the first connection
	deserted bool             // no connection is left
}

func (r *run) close() {
	for _, p := range r.parts {
		p.close()
	}
}

// gather starts the generators.
func (r *run) gather(ctx context.Context) error {
	r.merging = map[int]*merging{}
	if len(r.opt.Agents) == 0 {
		r.parts = []part{newLocal(r.take)}
		return nil
	}
	for _, a := range r.opt.Agents {
		p, err := a.start(ctx, r.take)
		if err != nil {
			return err
		}
		r.parts = append(r.parts, p)
		if r.opt.Started != nil {
			r.opt.Started(a.Name, p.pid())
		}
	}
	return nil
}

// onAll calls f for each generator, all at the same time, and returns the first error.
func (r *run) onAll(f func(i int, p part) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(r.parts))
	for i, p := range r.parts {
		wg.Go(func() { errs[i] = f(i, p) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// prepare logs in all users and creates the groups.
func (r *run) prepare(ctx context.Context) error {
	s := &r.scenario
	if err := r.sample(&r.before); err != nil {
		return err
	}
	r.opt.phase(fmt.Sprintf("logging in to %s", strings.Join(s.Addrs, ", ")))
	runID := uint8(rand.Uint32())
	prepared := make([]*prepared, len(r.parts))
	err := r.onAll(func(i int, p part) (err error) {
		prepared[i], err = p.prepare(ctx, job{Scenario: *s, Password: s.Password, Part: i,
			Parts: len(r.parts), Run: runID})
		return err
	})
	if err != nil {
		return err
	}
	seconds := 0.0
	users := make([]uint32, s.Users())
	for _, p := range prepared {
		seconds = max(seconds, p.Seconds)
		if s.Kind == scenario.KindIdle {
			mergeInto(&r.total.counted[opLogin], p.rec.counted[opLogin])
		}
		for i, index := range p.Indexes {
			users[index] = p.Users[i]
		}
	}
	switch s.Kind {
	case scenario.KindGroup:
		return r.makeGroups(ctx, users)
	case scenario.KindMixed:
		r.users = users[:s.Population]
		return r.makeGroups(ctx, users)
	case scenario.KindIdle:
		r.value("logins", "1/s", float64(s.Connections)/seconds, "higher")
		return r.idleMemory(ctx)
	}
	return nil
}

func (r *run) value(name, unit string, v float64, better string) {
	r.result.Values = append(r.result.Values, Value{Name: name, Unit: unit, Value: v,
		Better: better})
}

// sample reads the watcher.
func (r *run) sample(into *map[string]Usage) error {
	if r.opt.Watch == nil {
		return nil
	}
	u, err := r.opt.Watch.Sample()
	if err != nil {
		return fmt.Errorf("watch processes: %w", err)
	}
	*into = u
	return nil
}

// idleMemory adds the memory of a connection in each watched process to the values.
func (r *run) idleMemory(ctx context.Context) error {
	s := &r.scenario
	r.opt.phase(fmt.Sprintf("%d connections, memory is read in %v", s.Connections, s.Settle))
	if err := pause(ctx, time.Duration(s.Settle)); err != nil {
		return err
	}
	var after map[string]Usage
	if err := r.sample(&after); err != nil {
		return err
	}
	for _, name := range sortedKeys(after) {
		before, ok := r.before[name]
		if ok {
			r.value("memory per connection, "+name, "B",
				float64(after[name].RSS-before.RSS)/float64(s.Connections), "lower")
		}
	}
	return nil
}

// makeGroups creates each group as its first member.
func (r *run) makeGroups(ctx context.Context, users []uint32) error {
	s := &r.scenario
	r.groups = make([]uint32, s.Groups)
	if len(s.IDs) > 0 {
		for i, id := range s.IDs {
			r.groups[i] = uint32(id)
		}
		return nil
	}
	r.opt.phase(fmt.Sprintf("creating %d groups of %d", s.Groups, s.Members))
	specs := make([][]groupSpec, len(r.parts))
	for g := range s.Groups {
		spec := groupSpec{Group: g, Creator: s.MemberOf(g, 0)}
		for j := range s.Members {
			spec.Members = append(spec.Members, users[s.MemberOf(g, j)])
		}
		owner := s.Owner(g, 0, len(r.parts))
		specs[owner] = append(specs[owner], spec)
	}
	return r.onAll(func(i int, p part) error {
		ids, err := p.createGroups(ctx, specs[i])
		if err != nil {
			return err
		}
		for k, spec := range specs[i] {
			r.groups[spec.Group] = ids[k]
		}
		return nil
	})
}

// traffic runs the scenario from its start to the last check.
func (r *run) traffic(ctx context.Context) error {
	s := &r.scenario
	// time for each generator to receive the plan
	r.plan.Start = whole(time.Now().Add(50*time.Millisecond +
		time.Duration(len(r.opt.Agents))*50*time.Millisecond).UnixNano())
	r.plan.Begin = r.plan.Start + whole(int64(s.Warmup))
	r.plan.End = r.plan.Begin + whole(int64(s.Duration))
	r.result.Started = time.Unix(0, r.plan.Begin)
	err := r.onAll(func(_ int, p part) error { return p.start(ctx, r.plan, r.groups, r.users) })
	if err != nil {
		return err
	}
	if s.Warmup > 0 {
		r.opt.phase("warm-up, " + s.Warmup.String())
	}
	if err := pause(ctx, time.Until(time.Unix(0, r.plan.Begin))); err != nil {
		return err
	}
	r.opt.phase("counting, " + s.Duration.String())
	r.watch(Watcher.Begin)
	if err := r.untilEnd(ctx); err != nil {
		return err
	}
	r.watch(Watcher.End)
	ctx = context.WithoutCancel(ctx) // the rest takes no longer than Settle
	if err := r.settle(ctx); err != nil {
		return err
	}
	return r.check(ctx)
}

// watch calls a method of the watcher, one at a time.
func (r *run) watch(f func(Watcher)) {
	if r.opt.Watch != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		f(r.opt.Watch)
	}
}

// untilEnd waits for the end of counting, or until no client has work left.
func (r *run) untilEnd(ctx context.Context) error {
	end := time.Unix(0, r.plan.End)
	for time.Now().Before(end) {
		early := pause(ctx, min(20*time.Millisecond, time.Until(end))) != nil
		if early {
			r.opt.phase("stopped early")
		} else if r.isDeserted() {
			r.opt.phase("no connection is left")
			r.result.Notes = append(r.result.Notes, "ended early: no connection was left")
			early = true
		} else if r.scenario.After == "stay" {
			st, err := r.status(ctx)
			if err != nil {
				return err
			}
			early = st.Done
		}
		if early {
			if err := r.endNow(context.WithoutCancel(ctx)); err != nil {
				return err
			}
			break
		}
		if err := r.alive(); err != nil {
			return err
		}
	}
	r.result.Seconds = float64(r.plan.End-r.plan.Begin) / 1e9
	return nil
}

// isDeserted reports whether all connections that were to stay have ended, so that
// waiting is pointless.
func (r *run) isDeserted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deserted && r.scenario.Kind != scenario.KindConnect
}

// endNow ends counting before its planned time.
func (r *run) endNow(ctx context.Context) error {
	now := whole(time.Now().UnixNano())
	r.mu.Lock()
	if now < r.plan.End {
		r.plan.End = now
	}
	now = r.plan.End
	r.mu.Unlock()
	return r.onAll(func(_ int, p part) error { return p.stop(ctx, now) })
}

// alive fails when a generator has ended.
func (r *run) alive() error {
	for _, p := range r.parts {
		if a, ok := p.(*remote); ok {
			select {
			case <-a.ended:
				return fmt.Errorf("%s ended: %w", a.name, a.whyEnded())
			default:
			}
		}
	}
	return nil
}

func (r *run) status(ctx context.Context) (status, error) {
	all := status{Done: true}
	for _, p := range r.parts {
		st, err := p.status(ctx)
		if err != nil {
			return status{}, err
		}
		all.Waiting += st.Waiting
		all.Expected += st.Expected
		all.Delivered += st.Delivered
		all.Progress += st.Progress
		all.Done = all.Done && st.Done
	}
	return all, nil
}

// settlePoll is the pause between two looks at the progress of a run that settles.
const settlePoll = 20 * time.Millisecond

// settle waits until all messages are acked and delivered, or nothing has arrived for a
// while. A generator that got no processor meanwhile has not read what arrived, so it must
// also have answered half of the looks that fit into that time.
func (r *run) settle(ctx context.Context) error {
	r.opt.phase("waiting for messages in flight")
	wait := max(time.Duration(r.scenario.Settle), 100*time.Millisecond)
	var last status
	looks := 0 // since the last progress
	for since := time.Now(); time.Since(since) < wait || looks < int(wait/settlePoll/2); {
		st, err := r.status(ctx)
		if err != nil {
			return err
		}
		if st.Waiting == 0 && st.Delivered >= st.Expected || r.isDeserted() {
			return nil
		}
		if looks++; st != last {
			last, since, looks = st, time.Now(), 0
		}
		if err := pause(ctx, settlePoll); err != nil {
			return err
		}
	}
	return nil
}

// check compares the messages sent by all with those received by all, and completes the
// result.
func (r *run) check(ctx context.Context) error {
	sent := make([][]sentStream, len(r.parts))
	err := r.onAll(func(i int, p part) (err error) {
		sent[i], err = p.sent(ctx)
		return err
	})
	if err != nil {
		return err
	}
	var all []sentStream
	for _, list := range sent {
		all = append(all, list...)
	}
	finals := make([]*final, len(r.parts))
	err = r.onAll(func(i int, p part) (err error) {
		finals[i], err = p.finish(ctx, all)
		return err
	})
	if err != nil {
		return err
	}
	r.complete(finals)
	return nil
}

// complete adds the results of the generators, the totals and the processes to the result.
func (r *run) complete(finals []*final) {
	r.mu.Lock()
	defer r.mu.Unlock()
	res := r.result
	open := int64(0)
	for _, f := range finals {
		res.Checks.add(&f.Checks)
		open += f.Open
		if f.CPU > 0.9*float64(f.Loops) {
			res.GeneratorBound = true
			res.Notes = append(res.Notes,
				fmt.Sprintf("a generator used %.2f of the %d cores its event loops can use", f.CPU,
					f.Loops))
		}
	}
	if n := r.total.counts[countFileBytes]; n > 0 {
		r.value("files moved", "MB/s", float64(n)/1e6/res.Seconds, "higher")
	}
	if r.scenario.Kind == scenario.KindIdle {
		r.value("still connected", "", float64(open), "higher")
	}
	res.Totals, res.Latencies = map[string]int64{}, map[string]Latency{}
	for i, n := range r.total.counts {
		if n != 0 {
			res.Totals[counterNames[i]] = n
		}
	}
	for i, h := range r.total.counted {
		if h != nil && h.TotalCount() > 0 {
			res.Latencies[opNames[i]] = latencyOf(h, true)
		}
	}
	if begun := r.total.begun(); res.Checks.Behind*20 > begun {
		res.GeneratorBound = true
		res.Notes = append(res.Notes,
			fmt.Sprintf("the generator started %d of %d things more than 10 ms late",
				res.Checks.Behind, begun))
	}
	if r.opt.Watch != nil {
		res.Processes = r.opt.Watch.Processes()
	}
}

// pause waits, or fails when ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopped: %w", context.Cause(ctx))
	}
}
