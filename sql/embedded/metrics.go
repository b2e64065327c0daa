package embedded

import "github.com/prometheus/client_golang/prometheus"

// metrics are the metrics of the store. Their names are those of the store on MySQL and
// Redis where both count the same.
type metrics struct {
	rows       prometheus.Counter
	batches    prometheus.Counter
	batchSize  prometheus.Histogram
	seconds    prometheus.Histogram
	bisects    prometheus.Counter
	failed     *prometheus.CounterVec
	duplicates prometheus.Counter
	errors     *prometheus.CounterVec
	calls      *prometheus.HistogramVec
	waiting    prometheus.GaugeFunc
	apart      prometheus.Counter

	reg prometheus.Registerer
	all []prometheus.Collector
}

// newMetrics makes the metrics. waiting returns the number of messages that wait.
func newMetrics(waiting func() int) *metrics {
	const prefix = "teamtalk_store_"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	}
	byKind := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help},
			[]string{"kind"})
	}
	m := &metrics{
		rows:    counter("rows_total", "Messages committed."),
		batches: counter("batches_total", "Batches of messages received."),
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{Name: prefix + "batch_size",
			Help: "Messages in a batch.", Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: prefix + "batch_seconds",
			Help:    "Time to store a batch, from its arrival to its commit.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16)}),
		bisects: counter("bisects_total",
			"Batches done again to find the message that the database rejects."),
		failed: byKind("failed_total", "Messages not stored, by the kind of error."),
		duplicates: counter("duplicates_total",
			"Messages recognised as duplicates by client_msg_id."),
		errors: byKind("errors_total", "Errors of the database, by kind."),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "call_seconds",
			Help:    "Time of a call of the store.",
			Buckets: prometheus.ExponentialBuckets(10e-6, 4, 11)}, []string{"op"}),
	}
	m.waiting = prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + "waiting_messages",
		Help: "Messages that are committed in the order of arrival, and are not yet in the " +
			"tables by conversation."}, func() float64 { return float64(waiting()) })
	m.apart = counter("apart_total", "Committed messages that the tables by conversation reject: "+
		"they stay in the table Arrived.")
	return m
}

// register registers the metrics unless reg is nil.
func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	m.reg = reg
	for _, c := range []prometheus.Collector{m.rows, m.batches, m.batchSize, m.seconds, m.bisects,
		m.failed, m.duplicates, m.errors, m.calls, m.waiting, m.apart} {
		if err := reg.Register(c); err != nil {
			return err
		}
		m.all = append(m.all, c)
	}
	return nil
}

// unregister unregisters the metrics, so that a store can be opened again in the same
// process.
func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}
