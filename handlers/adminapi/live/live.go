// Package live keeps what a process did in the last hour: rates, latencies and the numbers of
// connections and waiting requests, sampled from its own metrics. The memory is bounded.
package live

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/mono"
)

const (
	// Interval is the time between two samples.
	Interval = 10 * time.Second
	// Kept is the number of samples that are kept: those of an hour.
	Kept = 360
)

// kind is the way in which a metric becomes a value.
type kind uint8

const (
	rate     kind = iota // of a counter, a second
	level                // of a gauge
	quantile             // of a histogram, over the time since the sample before; in seconds
)

// series is one value of each sample. A metric with several label values counts with the sum of
// them.
type series struct {
	name   string
	metric string
	kind   kind
	q      float64 // of a quantile
}

// all are the series, in the order of the values of a sample.
var all = []series{
	{"messages_received_per_s", "teamtalk_msg_received_total", rate, 0},
	{"messages_stored_per_s", "teamtalk_dbproxy_messages_total", rate, 0},
	{"deliveries_per_s", "teamtalk_msg_deliveries_total", rate, 0},
	{"frames_per_s", "teamtalk_router_frames_total", rate, 0},
	{"bytes_written_per_s", "teamtalk_session_written_bytes_total", rate, 0},
	{"file_bytes_per_s", "teamtalk_file_bytes_total", rate, 0},
	{"pushes_per_s", "teamtalk_push_notifications_total", rate, 0},
	{"clients_online", "teamtalk_msg_clients_online", level, 0},
	{"users_online", "teamtalk_msg_users_online", level, 0},
	{"connections", "teamtalk_session_open", level, 0},
	{"logins_waiting", "teamtalk_msg_logins_waiting", level, 0},
	{"store_queue", "teamtalk_pool_queue_depth", level, 0},
	{"message_queue", "teamtalk_pool_batch_queue_depth", level, 0},
	{"calls_pending", "teamtalk_link_pending_calls", level, 0},
	{"push_queue", "teamtalk_push_queue", level, 0},
	{"ack_p50_s", "teamtalk_msg_ack_seconds", quantile, 0.5},
	{"ack_p99_s", "teamtalk_msg_ack_seconds", quantile, 0.99},
	{"batch_p50_s", "teamtalk_pool_batch_seconds", quantile, 0.5},
	{"batch_p99_s", "teamtalk_pool_batch_seconds", quantile, 0.99},
}

// Names returns the names of the series.
func Names() []string {
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.name
	}
	return names
}

// Sample is the values of one moment. NaN stands for a value that is not known: this process
// has no such metric, or nothing happened that has a latency.
type Sample struct {
	Time   time.Time
	Values []float64 // as Names
}

// reading is a metric at the last sample.
type reading struct {
	value   float64
	buckets []bucket
}

// bucket is a cumulative bucket of a histogram.
type bucket struct{ bound, count float64 }

// Ring keeps the samples. Any goroutine.
type Ring struct {
	from prometheus.Gatherer

	mu      sync.Mutex
	samples []Sample // a ring of Kept
	next    int
	last    time.Time
	before  map[string]reading
}

// New returns a ring without samples. from are the metrics of the process.
func New(from prometheus.Gatherer) *Ring { return &Ring{from: from} }

// Run samples every Interval until stop is closed, at the moments at which the watches of the
// process wake it anyway.
func (r *Ring) Run(stop <-chan struct{}) {
	r.Sample(time.Now()) // the base of the first rates
	mono.Every(stop, Interval, func() { r.Sample(time.Now()) })
}

// Sample reads the metrics. The first call keeps no sample, because rates need two readings.
func (r *Ring) Sample(now time.Time) {
	current := r.gather()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.before != nil {
		r.add(Sample{now, r.values(current, now.Sub(r.last).Seconds())})
	}
	r.before, r.last = current, now
}

// add keeps a sample. With mu held.
func (r *Ring) add(s Sample) {
	if len(r.samples) < Kept {
		r.samples = append(r.samples, s)
		return
	}
	r.samples[r.next] = s
	r.next = (r.next + 1) % Kept
}

// values returns the values of a sample after so many seconds. With mu held.
func (r *Ring) values(current map[string]reading, seconds float64) []float64 {
	list := make([]float64, len(all))
	for i, s := range all {
		list[i] = math.NaN()
		now, ok := current[s.metric]
		if !ok {
			continue
		}
		before := r.before[s.metric]
		switch s.kind {
		case level:
			list[i] = now.value
		case rate:
			if seconds > 0 {
				list[i] = max(0, now.value-before.value) / seconds
			}
		case quantile:
			list[i] = quantileOf(s.q, before.buckets, now.buckets)
		}
	}
	return list
}

// add adds the cumulative count of a bucket of a histogram.
func (r *reading) add(i int, bound float64, count uint64) {
	if i == len(r.buckets) {
		r.buckets = append(r.buckets, bucket{bound: bound})
	}
	r.buckets[i].count += float64(count)
}

// gather reads the metrics of all series, each as the sum over its labels.
func (r *Ring) gather() map[string]reading {
	families, _ := r.from.Gather() // a broken collector must not hide the others
	current := make(map[string]reading, len(all))
	for _, f := range families {
		if !slices.ContainsFunc(all, func(s series) bool { return s.metric == f.GetName() }) {
			continue
		}
		var sum reading
		for _, m := range f.GetMetric() {
			sum.value += m.GetCounter().GetValue() + m.GetGauge().GetValue() +
				float64(m.GetHistogram().GetSampleCount())
			for i, b := range m.GetHistogram().GetBucket() {
				sum.add(i, b.GetUpperBound(), b.GetCumulativeCount())
			}
		}
		if len(sum.buckets) > 0 { // the last bucket, without a bound, is that of the count
			sum.buckets = append(sum.buckets, bucket{math.Inf(1), sum.value})
		}
		current[f.GetName()] = sum
	}
	return current
}

// quantileOf returns a quantile of the events between two readings of a histogram: within its
// bucket they count as spread evenly. Beyond the last bound it returns that bound. NaN: there
// were no events.
func quantileOf(q float64, before, now []bucket) float64 {
	count := func(i int) float64 {
		if i < 0 {
			return 0
		}
		if i < len(before) {
			return now[i].count - before[i].count
		}
		return now[i].count
	}
	n := len(now)
	if n == 0 || count(n-1) <= 0 {
		return math.NaN()
	}
	rank := q * count(n-1)
	i := 0
	for i < n-1 && count(i) < rank {
		i++
	}
	low := 0.0
	if i > 0 {
		low = now[i-1].bound
	}
	in := count(i) - count(i-1)
	if math.IsInf(now[i].bound, 1) || in <= 0 {
		return low
	}
	return low + (now[i].bound-low)*(rank-count(i-1))/in
}

// Since returns the samples after a time, oldest first, each as the mean of up to group samples
// that follow each other.
func (r *Ring) Since(after time.Time, group int) []Sample {
	r.mu.Lock()
	list := slices.Concat(r.samples[r.next:], r.samples[:r.next])
	r.mu.Unlock()
	list = slices.DeleteFunc(list, func(s Sample) bool { return !s.Time.After(after) })
	if group <= 1 {
		return list
	}
	var means []Sample
	for part := range slices.Chunk(list, group) {
		means = append(means, mean(part))
	}
	return means
}

// mean returns the mean of samples, without the values that are not known, at the time of the
// last one.
func mean(part []Sample) Sample {
	m := Sample{part[len(part)-1].Time, make([]float64, len(all))}
	for i := range all {
		sum, n := 0.0, 0.0
		for _, s := range part {
			if !math.IsNaN(s.Values[i]) {
				sum, n = sum+s.Values[i], n+1
			}
		}
		m.Values[i] = sum / n // NaN without any
	}
	return m
}
