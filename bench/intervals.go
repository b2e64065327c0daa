package bench

import "math"

// merging is an interval with the number of generators that have reported it.
type merging struct {
	interval
	parts int
}

// take adds a generator's part of an interval. It reports the interval once all
// generators have.
func (r *run) take(in interval) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.merging[in.Index]
	if m == nil {
		m = &merging{interval: interval{Index: in.Index, Start: in.Start, End: in.End,
			rec: &recorder{}}}
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
	in := &Interval{At: float64(m.Start-r.plan.Begin) / 1e9, Seconds: float64(m.End-m.Start) / 1e9,
		Counts: map[string]int64{}, Latencies: map[string]Latency{},
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
		r.opt.Log.Warn("a watched process has ended", "err", err)
	}
	r.deserted = m.Open == 0
	if r.opt.Progress != nil {
		shown := *in
		r.opt.Progress(&shown)
	}
	in.Checks.Examples = nil // the result lists them once
	r.keep(in)
}

// era returns -1 for an interval before counting, 0 for a counted one, 1 for one after
// it.
func (r *run) era(in *Interval) int {
	switch {
	case in.At < 0:
		return -1
	case int64(math.Round(in.At*1e9)) < r.plan.End-r.plan.Begin:
		return 0
	}
	return 1
}

// keepIntervals bounds Result.Intervals. Beyond it pairs of intervals are joined.
const keepIntervals = 1000

// keep appends an interval, or joins it to the last one.
func (r *run) keep(in *Interval) {
	r.stride = max(1, r.stride)
	list := r.result.Intervals
	if n := len(list); n > 0 && list[n-1].Seconds < float64(r.stride)-0.5 && r.stride > 1 &&
		r.era(&list[n-1]) == r.era(in) {
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

// JoinIntervals joins two successive intervals. The mean is exact. Percentiles of the
// union cannot be computed, so the higher of both is used.
func JoinIntervals(a, b Interval) Interval {
	out := Interval{At: a.At, Seconds: a.Seconds + b.Seconds, Counts: map[string]int64{},
		Latencies: map[string]Latency{}, Waiting: b.Waiting, Open: b.Open, Checks: b.Checks}
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
			o.P50, o.P90, o.P99, o.P999, o.Max = max(o.P50, l.P50), max(o.P90, l.P90),
				max(o.P99, l.P99), max(o.P999, l.P999), max(o.Max, l.Max)
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
