package pool

import "github.com/prometheus/client_golang/prometheus"

// metrics count always. They are exported only with a Registerer.
type metrics struct {
	tasks   prometheus.Counter
	busy    prometheus.Counter
	panics  prometheus.Counter
	dropped prometheus.Counter
	wait    prometheus.Histogram
}

// secondsBuckets reach from a task that finds a free worker (10 µs) to one that outlasts
// its client's patience (about 20 s).
func secondsBuckets() []float64 { return prometheus.ExponentialBuckets(10e-6, 4, 11) }

func newMetrics(p *Pool, reg prometheus.Registerer) *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "teamtalk", Subsystem: "pool", Name: name, Help: help,
			ConstLabels: prometheus.Labels{"pool": p.name}}
	}
	m := &metrics{
		tasks: prometheus.NewCounter(prometheus.CounterOpts(opts("tasks_total",
			"Tasks finished, panicked ones included."))),
		busy: prometheus.NewCounter(prometheus.CounterOpts(opts("busy_total",
			"Tasks refused because a queue was full."))),
		panics: prometheus.NewCounter(prometheus.CounterOpts(opts("panics_total",
			"Panics in tasks and batches."))),
		dropped: prometheus.NewCounter(prometheus.CounterOpts(opts("dropped_total",
			"Tasks and items given up at the deadline of a shutdown."))),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "teamtalk", Subsystem: "pool", Name: "wait_seconds",
			Help:        "From posting a task to its start.",
			ConstLabels: prometheus.Labels{"pool": p.name}, Buckets: secondsBuckets(),
		}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.tasks, m.busy, m.panics, m.dropped, m.wait,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("queue_depth",
			"Tasks posted to strands and not finished.")),
			func() float64 { return float64(p.queued.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("queue_limit",
			"Tasks in all strands at which further ones are refused.")),
			func() float64 { return float64(p.queueLimit) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("workers", "Workers of the pool.")),
			func() float64 { return float64(p.workers) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("workers_busy",
			"Workers that run something.")),
			func() float64 { return float64(p.busyWorkers()) }))
	return m
}

// batchMetrics are the metrics of one Batcher.
type batchMetrics struct {
	busy    prometheus.Counter
	items   prometheus.Histogram
	bytes   prometheus.Histogram
	wait    prometheus.Histogram
	seconds prometheus.Histogram
}

func newBatchMetrics(pool, batcher string, limit int, depth func() float64,
	reg prometheus.Registerer) *batchMetrics {
	labels := prometheus.Labels{"pool": pool, "batcher": batcher}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "teamtalk",
			Subsystem: "pool", Name: name, Help: help,
			ConstLabels: labels, Buckets: buckets})
	}
	m := &batchMetrics{
		busy: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "teamtalk", Subsystem: "pool",
			Name: "batch_busy_total",
			Help: "Items refused because a batcher's queue was full.", ConstLabels: labels}),
		items: histogram("batch_items", "Items in a batch.",
			prometheus.ExponentialBuckets(1, 2, 11)),
		bytes: histogram("batch_bytes", "Bytes in a batch.",
			prometheus.ExponentialBuckets(64, 4, 9)),
		wait: histogram("batch_wait_seconds",
			"From adding a batch's oldest item to the batch's start.", secondsBuckets()),
		seconds: histogram("batch_seconds", "Duration of a batch.", secondsBuckets()),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.busy, m.items, m.bytes, m.wait, m.seconds,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "teamtalk", Subsystem: "pool",
			Name: "batch_queue_depth",
			Help: "Items added and not finished.", ConstLabels: labels}, depth),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "teamtalk", Subsystem: "pool",
			Name:        "batch_queue_limit",
			Help:        "Items that fit the queues of all shards. Each has an equal part.",
			ConstLabels: labels}, func() float64 { return float64(limit) }))
	return m
}
