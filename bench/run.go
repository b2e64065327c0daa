package bench

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Run does what the scenario says. When ctx ends before counting begins, it fails; later the run is only shorter than planned, so that hours are not
// lost. What went wrong with messages is no error but stands in Result.Checks; an error is
// what makes a result impossible, such as a server that is not there or users who do not exist.
func Run(ctx context.Context, s Scenario, opt Options) (*Result, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s.normalize()
	result := s // says soak where the run says of what
	if s.Kind == KindSoak {
		s.Kind = s.Of
		s.normalize()
		result = s
		result.Kind = KindSoak
	}
	r := &run{scenario: s, opt: &opt, result: &Result{Version: ResultVersion, Scenario: result, Machine: thisMachine(), Build: opt.Build}}
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

// normalize makes explicit what follows from other settings.
func (s *Scenario) normalize() {
	if len(s.IDs) > 0 {
		s.Groups = len(s.IDs)
	}
	switch {
	case s.Kind == KindIdle:
		s.Warmup, s.Duration = 0, max(s.Hold, Duration(2*time.Second))
	case s.Kind == KindFile && s.clientType().IsMobile():
		s.Client = "windows" // phones are not told of files
	case s.Kind == KindMixed && s.Rate == 0:
		s.Rate = float64(s.Population) / 5
	case s.Kind == KindConnect && s.After == "stay":
		s.Warmup = 0 // the first logins are part of it
	}
}

// run is one run, as the process sees it that was asked for it.
type run struct {
	scenario Scenario
	opt      *Options
	result   *Result
	parts    []part
	groups   []uint32
	users    []uint32 // ids, where the scenario needs them
	plan     plan
	total    recorder

	mu      sync.Mutex
	merging map[int]*merging // intervals that not all generators have told of
	next    int              // number of the next interval to be told of
	stride  int              // how many seconds each of the result's intervals takes in
	before  map[string]Usage // before anybody connected
}

// merging is an interval with the generators it has been told by.
type merging struct {
	interval
	parts int
}

func (r *run) close() {
	for _, p := range r.parts {
		p.close()
	}
}

// gather gets the generators together.
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

// prepare has everybody connect and log in, and makes the groups.
func (r *run) prepare(ctx context.Context) error {
	s := &r.scenario
	if err := r.sample(&r.before); err != nil {
		return err
	}
	r.opt.phase(fmt.Sprintf("connecting to %d message servers", len(s.Addrs)))
	runID := uint8(rand.Uint32())
	prepared := make([]*prepared, len(r.parts))
	err := r.onAll(func(i int, p part) (err error) {
		prepared[i], err = p.prepare(ctx, job{Scenario: *s, Password: s.Password, Part: i, Parts: len(r.parts), Run: runID})
		return err
	})
	if err != nil {
		return err
	}
	seconds := 0.0
	users := make([]uint32, s.Users())
	for _, p := range prepared {
		seconds = max(seconds, p.Seconds)
		if s.Kind == KindIdle {
			r.total.merge(p.rec)
		}
		for i, index := range p.Indexes {
			users[index] = p.Users[i]
		}
	}
	switch s.Kind {
	case KindGroup:
		return r.makeGroups(ctx, users)
	case KindMixed:
		r.users = users[:s.Population]
		return r.makeGroups(ctx, users)
	case KindIdle:
		r.value("logins", "1/s", float64(s.Connections)/seconds, "higher")
		return r.idleMemory(ctx)
	}
	return nil
}

func (r *run) value(name, unit string, v float64, better string) {
	r.result.Values = append(r.result.Values, Value{Name: name, Unit: unit, Value: v, Better: better})
}

// sample asks the watcher.
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

// idleMemory says what a connection costs each process that is watched.
func (r *run) idleMemory(ctx context.Context) error {
	s := &r.scenario
	r.opt.phase(fmt.Sprintf("%d connections; memory is read in %v", s.Connections, s.Settle))
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
			r.value("memory per connection, "+name, "B", float64(after[name].RSS-before.RSS)/float64(s.Connections), "lower")
		}
	}
	return nil
}

// makeGroups has each group made by its first member.
func (r *run) makeGroups(ctx context.Context, users []uint32) error {
	s := &r.scenario
	r.groups = make([]uint32, s.Groups)
	if len(s.IDs) > 0 {
		for i, id := range s.IDs {
			r.groups[i] = uint32(id)
		}
		return nil
	}
	r.opt.phase(fmt.Sprintf("making %d groups of %d", s.Groups, s.Members))
	specs := make([][]groupSpec, len(r.parts))
	for g := range s.Groups {
		spec := groupSpec{Group: g, Creator: s.memberOf(g, 0)}
		for j := range s.Members {
			spec.Members = append(spec.Members, users[s.memberOf(g, j)])
		}
		owner := s.owner(g, 0, len(r.parts))
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
	// A moment for every generator to hear of it.
	r.plan.Start = time.Now().Add(50*time.Millisecond + time.Duration(len(r.opt.Agents))*50*time.Millisecond).UnixNano()
	r.plan.Begin = r.plan.Start + int64(s.Warmup)
	r.plan.End = r.plan.Begin + int64(s.Duration)
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
	ctx = context.WithoutCancel(ctx) // what is left takes no longer than Settle
	if err := r.settle(ctx); err != nil {
		return err
	}
	return r.check(ctx)
}

// watch calls a method of the watcher: one at a time.
func (r *run) watch(f func(Watcher)) {
	if r.opt.Watch != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		f(r.opt.Watch)
	}
}

// untilEnd waits for the end of counting, or until nobody has anything left to do.
func (r *run) untilEnd(ctx context.Context) error {
	end := time.Unix(0, r.plan.End)
	for time.Now().Before(end) {
		early := pause(ctx, min(20*time.Millisecond, time.Until(end))) != nil
		if early {
			r.opt.phase("stopped early")
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

// endNow ends counting before its time.
func (r *run) endNow(ctx context.Context) error {
	now := time.Now().UnixNano()
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
				return fmt.Errorf("generator %s ended: %w", a.name, a.whyEnded())
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

// settle waits until everything sent is acked and delivered, or nothing has come for a while.
func (r *run) settle(ctx context.Context) error {
	r.opt.phase("waiting for what is still on its way")
	wait := max(time.Duration(r.scenario.Settle), 100*time.Millisecond)
	var last status
	for since := time.Now(); time.Since(since) < wait; {
		st, err := r.status(ctx)
		if err != nil {
			return err
		}
		if st.Waiting == 0 && st.Delivered >= st.Expected {
			return nil
		}
		if st != last {
			last, since = st, time.Now()
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// check joins what all sent with what all received, and completes the result.
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
	r.mu.Lock()
	defer r.mu.Unlock()
	res := r.result
	open := int64(0)
	for _, f := range finals {
		res.Checks.add(&f.Checks)
		open += f.Open
		if f.CPU > 0.9*float64(f.Loops) {
			res.GeneratorBound = true
		}
	}
	if n := r.total.counts[countFileBytes]; n > 0 {
		r.value("files moved", "MB/s", float64(n)/1e6/res.Seconds, "higher")
	}
	if r.scenario.Kind == KindIdle {
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
	if res.Checks.Behind*20 > r.total.counts[countSent]+r.total.counts[countLogins] {
		res.GeneratorBound = true
	}
	if r.opt.Watch != nil {
		res.Processes = r.opt.Watch.Processes()
	}
	return nil
}

// take takes a generator's part of an interval, and tells of the interval when all have told of theirs.
func (r *run) take(in interval) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.merging[in.Index]
	if m == nil {
		m = &merging{interval: interval{Index: in.Index, Start: in.Start, End: in.End, rec: &recorder{}}}
		r.merging[in.Index] = m
	}
	m.rec.merge(in.rec)
	m.Waiting += in.Waiting
	m.Open += in.Open
	m.Checks.add(&in.Checks)
	m.End = max(m.End, in.End)
	m.parts++
	for m = r.merging[r.next]; m != nil && m.parts == len(r.parts); m = r.merging[r.next] {
		delete(r.merging, r.next)
		r.next++
		r.tell(&m.interval)
	}
}

// tell adds an interval to the result, and to the totals when it was counted.
func (r *run) tell(m *interval) {
	for i, n := range m.rec.counts {
		if m.Start >= r.plan.Begin && m.Start < r.plan.End {
			r.total.counts[i] += n
		}
	}
	in := &Interval{At: float64(m.Start-r.plan.Begin) / 1e9, Seconds: float64(m.End-m.Start) / 1e9, Counts: map[string]int64{}, Latencies: map[string]Latency{},
		Waiting: m.Waiting, Open: m.Open, Checks: m.Checks}
	for i, n := range m.rec.counts {
		if n != 0 {
			in.Counts[counterNames[i]] = n
		}
	}
	for i := range ops {
		mergeInto(&r.total.counted[i], m.rec.counted[i])
		mergeInto(&m.rec.other[i], m.rec.counted[i])
		if h := m.rec.other[i]; h != nil && h.TotalCount() > 0 {
			in.Latencies[opNames[i]] = latencyOf(h, false)
		}
	}
	if err := r.sample(&in.Processes); err != nil {
		r.opt.Log.Warn("a process that was watched is gone", "err", err)
	}
	if r.opt.Progress != nil {
		shown := *in
		r.opt.Progress(&shown)
	}
	in.Checks.Examples = nil // they stand in the result once
	r.keep(in)
}

// era says whether an interval was before counting, counted, or after it.
func (r *run) era(in *Interval) int {
	switch {
	case in.At < 0:
		return -1
	case int64(math.Round(in.At*1e9)) < r.plan.End-r.plan.Begin:
		return 0
	}
	return 1
}

// keepIntervals bounds Result.Intervals: beyond it every two become one.
const keepIntervals = 1000

// keep appends an interval, or adds it to the last one.
func (r *run) keep(in *Interval) {
	r.stride = max(1, r.stride)
	list := r.result.Intervals
	if n := len(list); n > 0 && list[n-1].Seconds < float64(r.stride)-0.5 && r.stride > 1 && r.era(&list[n-1]) == r.era(in) {
		list[n-1] = JoinIntervals(list[n-1], *in)
		return
	}
	list = append(list, *in)
	if len(list) > keepIntervals {
		r.stride *= 2
		joined := list[:0]
		for i := 0; i < len(list); i++ {
			if i+1 < len(list) && r.era(&list[i]) == r.era(&list[i+1]) {
				joined = append(joined, JoinIntervals(list[i], list[i+1]))
				i++
			} else {
				joined = append(joined, list[i])
			}
		}
		list = joined
	}
	r.result.Intervals = list
}

// JoinIntervals makes one interval of two that follow each other. Percentiles of both are not kept: of the two the worse stands for both, and the mean is exact.
func JoinIntervals(a, b Interval) Interval {
	out := Interval{At: a.At, Seconds: a.Seconds + b.Seconds, Counts: map[string]int64{}, Latencies: map[string]Latency{}, Waiting: b.Waiting, Open: b.Open, Checks: b.Checks}
	for _, in := range []*Interval{&a, &b} {
		for k, n := range in.Counts {
			out.Counts[k] += n
		}
		for k, l := range in.Latencies {
			o := out.Latencies[k]
			if n := o.Count + l.Count; n > 0 {
				o.Mean = (o.Mean*float64(o.Count) + l.Mean*float64(l.Count)) / float64(n)
			}
			o.Count += l.Count
			o.P50, o.P90, o.P99, o.P999, o.Max = max(o.P50, l.P50), max(o.P90, l.P90), max(o.P99, l.P99), max(o.P999, l.P999), max(o.Max, l.Max)
			out.Latencies[k] = o
		}
	}
	for name, u := range b.Processes {
		if out.Processes == nil {
			out.Processes = map[string]Usage{}
		}
		was, ok := a.Processes[name]
		if ok {
			u.CPU = (u.CPU*b.Seconds + was.CPU*a.Seconds) / out.Seconds
		}
		out.Processes[name] = u
	}
	return out
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
