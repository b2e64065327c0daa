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
	evicts     *prometheus.GaugeVec
	readMarks  *prometheus.CounterVec
	rebuilds   *prometheus.CounterVec
	rebuilt    prometheus.Counter
	leftOut    prometheus.Counter

	replicaReads *prometheus.CounterVec
	replicaUp    prometheus.Gauge

	reg prometheus.Registerer
	all []prometheus.Collector
}

// newMetrics makes the metrics, and registers them unless reg is nil.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{reg: reg}
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
func (m *metrics) addMessages() {
	m.rows = m.counter("rows", "Messages committed.")
	m.batches = m.counter("batches", "Batches of messages received.")
	m.batchSize = m.histogram("batch_size", "Messages in a batch.",
		prometheus.ExponentialBuckets(1, 2, 11))
	m.seconds = m.histogram("batch_seconds",
		"Time to store a batch, from its arrival until its unread counts are applied.",
		prometheus.ExponentialBuckets(0.0005, 2, 15))
	m.retries = m.counter("retries",
		"Transactions run again after a deadlock, a lock wait or a lost connection.")
	m.bisects = m.counter("bisects",
		"Batches halved to find the message that the database rejects.")
	m.failed = m.vec("failed", "Messages not stored, by the kind of error.", "kind")
	m.duplicates = m.counter("duplicates", "Messages recognised as duplicates by client_msg_id.")
	m.restores = m.counter("ids_restored",
		"Counters of message ids that Redis had lost, raised to the last id in the table.")
	m.outbox = m.vec("outbox",
		"Outbox rows by outcome: applied after the commit, deferred because Redis was "+
			"unavailable, recovered later, or dropped as damaged. Reapplied counts the batches "+
			"that Redis may have lost.", "what")
	m.readMarks = m.vec("read_marks", "Read marks: stored in MySQL, or dropped because too many "+
		"waited for it. Forgotten counts reads that are not repeated after a loss of Redis, "+
		"because there were too many within a minute.", "what")
	m.rebuilds = m.vec("unread_rebuilds", "Rebuilds of the unread counts from the tables, after "+
		"Redis had lost them: done or failed.", "what")
	m.rebuilt = m.counter("unread_rebuilt", "Unread counts that a rebuild has raised.")
	m.leftOut = m.counter("unread_left_out",
		"Conversations left out of answers with unread counts, because the Redis "+
			"Cluster did not serve the slot of a count.")
	m.evicts = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "teamtalk_store_redis_evicts",
		Help: "1 for a Redis server whose maxmemory-policy lets it drop keys that are stored " +
			"nowhere else."}, []string{"server"})
	m.all = append(m.all, m.evicts)
	m.errors = m.vec("errors", "Errors of the databases, by kind.", "kind")
}

// addGroups adds the metrics of groups and of their members' sessions.
func (m *metrics) addGroups() {
	m.loads = m.counter("group_loads",
		"Groups whose members were read because the cache lacked them or they had changed.")
	m.changes = m.vec("group_changes",
		"Changes of groups: created, added, removed, renamed. Deferred counts the changes of "+
			"members that Redis gets later.", "what")
	m.rewrites = m.counter("group_members_rewritten",
		"Groups whose members were wrong in Redis and were written anew.")
	m.repairs = m.vec("group_unread_repaired",
		"Unread counts of groups repaired after Redis had lost the member's count (read) or "+
			"the group's count (sent).", "what")
	m.syncs = m.vec("session_syncs",
		"Runs of the synchronisation of group members' sessions: done, failed, or passed "+
			"because another process ran it.", "what")
	m.syncRows = m.counter("session_sync_rows",
		"Sessions of group members that the synchronisation wrote.")
	m.syncTime = m.histogram("session_sync_seconds", "Time of a run of the synchronisation.",
		prometheus.ExponentialBuckets(0.001, 2, 16))
}

// addReplica adds the metrics of the replica for reads.
func (m *metrics) addReplica() {
	m.replicaReads = m.vec("replica_reads",
		"Reads for the replica, by what became of them. The replica answered (replica), or the "+
			"master did: because the replica lacked changes (behind), failed (failed), was out "+
			"of use after that (away), or because the master's position was unknown (unknown). "+
			"Or the caller gave up (canceled).", "what")
	m.replicaUp = prometheus.NewGauge(prometheus.GaugeOpts{Name: "teamtalk_store_replica_up",
		Help: "Whether the replica for reads is in use (1). 0 also without a replica."})
	m.all = append(m.all, m.replicaUp)
}

// counter adds a counter.
func (m *metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "teamtalk_store_" + name + "_total", Help: help})
	m.all = append(m.all, c)
	return c
}

// vec adds a counter with a label.
func (m *metrics) vec(name, help, label string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_store_" + name + "_total", Help: help}, []string{label})
	m.all = append(m.all, c)
	return c
}

// histogram adds a histogram.
func (m *metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "teamtalk_store_" + name, Help: help, Buckets: buckets})
	m.all = append(m.all, h)
	return h
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
