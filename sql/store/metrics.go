package store

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the metrics of the store.
type metrics struct {
	rows       prometheus.Counter
	batches    prometheus.Counter
	batchSize  prometheus.Histogram
	seconds    prometheus.Histogram
	retries    prometheus.Counter
	bisects    prometheus.Counter
	failed     *prometheus.CounterVec
	duplicates prometheus.Counter
	restores   prometheus.Counter
	outbox     *prometheus.CounterVec
	errors     *prometheus.CounterVec
	loads      prometheus.Counter
	changes    *prometheus.CounterVec
	rewrites   prometheus.Counter
	repairs    *prometheus.CounterVec
	syncs      *prometheus.CounterVec
	syncRows   prometheus.Counter
	syncTime   prometheus.Histogram

	reg prometheus.Registerer
	all []prometheus.Collector
}

// newMetrics makes the metrics, and registers them unless reg is nil.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{reg: reg}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_store_" + name +
			"_total", Help: help})
		m.all = append(m.all, c)
		return c
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_store_" + name +
			"_total", Help: help}, []string{label})
		m.all = append(m.all, c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "teamtalk_store_" + name,
			Help: help, Buckets: buckets})
		m.all = append(m.all, h)
		return h
	}
	m.rows = counter("rows", "Messages committed.")
	m.batches = counter("batches", "Batches of messages received.")
	m.batchSize = histogram("batch_size", "Messages in a batch.",
		prometheus.ExponentialBuckets(1, 2, 11))
	m.seconds = histogram("batch_seconds",
		"Time to store a batch, from its arrival until its unread counts are applied.",
		prometheus.ExponentialBuckets(0.0005, 2, 15))
	m.retries = counter("retries",
		"Transactions run again after a deadlock, a lock wait or a lost connection.")
	m.bisects = counter("bisects",
		"Batches halved to find the message that the database rejects.")
	m.failed = vec("failed", "Messages not stored, by the kind of error.", "kind")
	m.duplicates = counter("duplicates", "Messages recognised as duplicates by client_msg_id.")
	m.restores = counter("ids_restored",
		"Counters of message ids that Redis had lost, raised to the last id in the table.")
	m.outbox = vec("outbox",
		"Outbox rows by outcome: applied after the commit, deferred because Redis was "+
			"unavailable, recovered later, or dropped as damaged.", "what")
	m.errors = vec("errors", "Errors of the databases, by kind.", "kind")
	m.loads = counter("group_loads",
		"Groups whose members were read because the cache lacked them or they had changed.")
	m.changes = vec("group_changes",
		"Changes of groups: created, added, removed, renamed. Deferred counts the changes of "+
			"members that Redis gets later.", "what")
	m.rewrites = counter("group_members_rewritten",
		"Groups whose members were wrong in Redis and were written anew.")
	m.repairs = vec("group_unread_repaired",
		"Unread counts of groups repaired after Redis had lost the member's count (read) or "+
			"the group's count (sent).", "what")
	m.syncs = vec("session_syncs",
		"Runs of the synchronisation of group members' sessions: done, failed, or passed "+
			"because another process ran it.", "what")
	m.syncRows = counter("session_sync_rows",
		"Sessions of group members that the synchronisation wrote.")
	m.syncTime = histogram("session_sync_seconds", "Time of a run of the synchronisation.",
		prometheus.ExponentialBuckets(0.001, 2, 16))
	for i, c := range m.all {
		if reg == nil {
			break
		}
		if err := reg.Register(c); err != nil {
			m.all = m.all[:i]
			m.unregister()
			return nil, err
		}
	}
	return m, nil
}

// unregister unregisters the metrics, so that a Store can be opened again in the same
// process.
func (m *metrics) unregister() {
	if m == nil || m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}
