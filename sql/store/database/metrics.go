package database

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the metrics of the store: those of the connections, and those that the parts add.
// It collects all of them.
type Metrics struct {
	Retries prometheus.Counter // transactions that are run again

	errors       *prometheus.CounterVec
	evicts       *prometheus.GaugeVec
	replicaReads *prometheus.CounterVec
	replicaUp    prometheus.Gauge

	all []prometheus.Collector
}

// newMetrics makes the metrics of the connections.
func newMetrics() *Metrics {
	m := &Metrics{}
	m.Retries = m.Counter("retries",
		"Transactions run again after a deadlock, a lock wait or a lost connection.")
	m.errors = m.CounterVec("errors", "Errors of the databases, by kind.", "kind")
	m.evicts = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "teamtalk_store_redis_evicts",
		Help: "1 for a Redis server whose maxmemory-policy lets it drop keys that are stored " +
			"nowhere else."}, []string{"server"})
	m.replicaReads = m.CounterVec("replica_reads",
		"Reads for the replica, by what became of them. The replica answered (replica), or the "+
			"master did: because the replica lacked changes (behind), failed (failed), was out "+
			"of use after that (away), or because the master's position was unknown (unknown). "+
			"Or the caller gave up (canceled).", "what")
	m.replicaUp = prometheus.NewGauge(prometheus.GaugeOpts{Name: "teamtalk_store_replica_up",
		Help: "Whether the replica for reads is in use (1). 0 also without a replica."})
	m.all = append(m.all, m.evicts, m.replicaUp)
	return m
}

// Counter adds a counter. Its name gets teamtalk_store_ in front and _total behind.
func (m *Metrics) Counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "teamtalk_store_" + name + "_total", Help: help})
	m.all = append(m.all, c)
	return c
}

// CounterVec adds a counter with a label.
func (m *Metrics) CounterVec(name, help, label string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_store_" + name + "_total", Help: help}, []string{label})
	m.all = append(m.all, c)
	return c
}

// Histogram adds a histogram.
func (m *Metrics) Histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "teamtalk_store_" + name, Help: help, Buckets: buckets})
	m.all = append(m.all, h)
	return h
}

// Describe sends the descriptions of all metrics; see prometheus.Collector.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range m.all {
		c.Describe(to)
	}
}

// Collect sends the values of all metrics; see prometheus.Collector.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range m.all {
		c.Collect(to)
	}
}
