package database

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the metrics of the store.
type Metrics struct {
	Rows       prometheus.Counter
	Batches    prometheus.Counter
	BatchSize  prometheus.Histogram
	Seconds    prometheus.Histogram
	Retries    prometheus.Counter
	Bisects    prometheus.Counter
	Failed     *prometheus.CounterVec
	Duplicates prometheus.Counter
	Restores   prometheus.Counter
	Outbox     *prometheus.CounterVec
	errors     *prometheus.CounterVec
	Loads      prometheus.Counter
	Changes    *prometheus.CounterVec
	Rewrites   prometheus.Counter
	Repairs    *prometheus.CounterVec
	Syncs      *prometheus.CounterVec
	SyncRows   prometheus.Counter
	SyncTime   prometheus.Histogram
	Evicts     *prometheus.GaugeVec
	ReadMarks  *prometheus.CounterVec
	Rebuilds   *prometheus.CounterVec
	Rebuilt    prometheus.Counter
	LeftOut    prometheus.Counter

	ReplicaReads *prometheus.CounterVec
	ReplicaUp    prometheus.Gauge

	reg prometheus.Registerer
	all []prometheus.Collector
}

// newMetrics makes the metrics, and registers them unless reg is nil.
func newMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{reg: reg}
	m.addMessages()
	m.addGroups()
	m.addReplica()
	if reg == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := reg.Register(c); err != nil {
			m.all = m.all[:i]
			m.unregister()
			return nil, err
		}
	}
	return m, nil
}

// addMessages adds the metrics of messages and their transactions.
func (m *Metrics) addMessages() {
	m.Rows = m.counter("rows", "Messages committed.")
	m.Batches = m.counter("batches", "Batches of messages received.")
	m.BatchSize = m.histogram("batch_size", "Messages in a batch.",
		prometheus.ExponentialBuckets(1, 2, 11))
	m.Seconds = m.histogram("batch_seconds",
		"Time to store a batch, from its arrival until its unread counts are applied.",
		prometheus.ExponentialBuckets(0.0005, 2, 15))
	m.Retries = m.counter("retries",
		"Transactions run again after a deadlock, a lock wait or a lost connection.")
	m.Bisects = m.counter("bisects",
		"Batches halved to find the message that the database rejects.")
	m.Failed = m.vec("failed", "Messages not stored, by the kind of error.", "kind")
	m.Duplicates = m.counter("duplicates", "Messages recognised as duplicates by client_msg_id.")
	m.Restores = m.counter("ids_restored",
		"Counters of message ids that Redis had lost, raised to the last id in the table.")
	m.Outbox = m.vec("outbox",
		"Outbox rows by outcome: applied after the commit, deferred because Redis was "+
			"unavailable, recovered later, or dropped as damaged. Reapplied counts the batches "+
			"that Redis may have lost.", "what")
	m.ReadMarks = m.vec("read_marks", "Read marks: stored in MySQL, or dropped because too many "+
		"waited for it. Forgotten counts reads that are not repeated after a loss of Redis, "+
		"because there were too many within a minute.", "what")
	m.Rebuilds = m.vec("unread_rebuilds", "Rebuilds of the unread counts from the tables, after "+
		"Redis had lost them: done or failed.", "what")
	m.Rebuilt = m.counter("unread_rebuilt", "Unread counts that a rebuild has raised.")
	m.LeftOut = m.counter("unread_left_out",
		"Conversations left out of answers with unread counts, because the Redis "+
			"Cluster did not serve the slot of a count.")
	m.Evicts = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "teamtalk_store_redis_evicts",
		Help: "1 for a Redis server whose maxmemory-policy lets it drop keys that are stored " +
			"nowhere else."}, []string{"server"})
	m.all = append(m.all, m.Evicts)
	m.errors = m.vec("errors", "Errors of the databases, by kind.", "kind")
}

// addGroups adds the metrics of groups and of their members' sessions.
func (m *Metrics) addGroups() {
	m.Loads = m.counter("group_loads",
		"Groups whose members were read because the cache lacked them or they had changed.")
	m.Changes = m.vec("group_changes",
		"Changes of groups: created, added, removed, renamed. Deferred counts the changes of "+
			"members that Redis gets later.", "what")
	m.Rewrites = m.counter("group_members_rewritten",
		"Groups whose members were wrong in Redis and were written anew.")
	m.Repairs = m.vec("group_unread_repaired",
		"Unread counts of groups repaired after Redis had lost the member's count (read) or "+
			"the group's count (sent).", "what")
	m.Syncs = m.vec("session_syncs",
		"Runs of the synchronisation of group members' sessions: done, failed, or passed "+
			"because another process ran it.", "what")
	m.SyncRows = m.counter("session_sync_rows",
		"Sessions of group members that the synchronisation wrote.")
	m.SyncTime = m.histogram("session_sync_seconds", "Time of a run of the synchronisation.",
		prometheus.ExponentialBuckets(0.001, 2, 16))
}

// addReplica adds the metrics of the replica for reads.
func (m *Metrics) addReplica() {
	m.ReplicaReads = m.vec("replica_reads",
		"Reads for the replica, by what became of them. The replica answered (replica), or the "+
			"master did: because the replica lacked changes (behind), failed (failed), was out "+
			"of use after that (away), or because the master's position was unknown (unknown). "+
			"Or the caller gave up (canceled).", "what")
	m.ReplicaUp = prometheus.NewGauge(prometheus.GaugeOpts{Name: "teamtalk_store_replica_up",
		Help: "Whether the replica for reads is in use (1). 0 also without a replica."})
	m.all = append(m.all, m.ReplicaUp)
}

// counter adds a counter.
func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "teamtalk_store_" + name + "_total", Help: help})
	m.all = append(m.all, c)
	return c
}

// vec adds a counter with a label.
func (m *Metrics) vec(name, help, label string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_store_" + name + "_total", Help: help}, []string{label})
	m.all = append(m.all, c)
	return c
}

// histogram adds a histogram.
func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "teamtalk_store_" + name, Help: help, Buckets: buckets})
	m.all = append(m.all, h)
	return h
}

// unregister unregisters the metrics, so that a Store can be opened again in the same
// process.
func (m *Metrics) unregister() {
	if m == nil || m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}
