package messages

import (
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/sql/store/database"
)

// metrics are the metrics of messages and their transactions.
type metrics struct {
	rows       prometheus.Counter
	batches    prometheus.Counter
	batchSize  prometheus.Histogram
	seconds    prometheus.Histogram
	bisects    prometheus.Counter
	failed     *prometheus.CounterVec
	duplicates prometheus.Counter
	resent     *prometheus.CounterVec
	where      *prometheus.CounterVec
	previous   *prometheus.CounterVec
}

// newMetrics adds the metrics to those of the store.
func newMetrics(m *database.Metrics) metrics {
	return metrics{
		rows:    m.Counter("rows", "Messages committed."),
		batches: m.Counter("batches", "Batches of messages received."),
		batchSize: m.Histogram("batch_size", "Messages in a batch.",
			prometheus.ExponentialBuckets(1, 2, 11)),
		seconds: m.Histogram("batch_seconds",
			"Time to store a batch, from its arrival until its unread counts are applied.",
			prometheus.ExponentialBuckets(0.0005, 2, 15)),
		bisects: m.Counter("bisects",
			"Batches halved to find the message that the database rejects."),
		failed: m.CounterVec("failed", "Messages not stored, by the kind of error.", "kind"),
		duplicates: m.Counter("duplicates",
			"Messages recognised as duplicates by client_msg_id."),
		resent: m.CounterVec("resent", "Messages that may be repeats, by what told whether they "+
			"are: the memory of the last messages of their conversation, or the table. Read "+
			"counts how often a conversation was read into memory.", "by"),
		where: m.CounterVec("whereabouts", "Messages for which both users' whereabouts were "+
			"asked for: found, or failed, then the message server looks again. Refused are "+
			"values in Redis that were left out because they are no entries.", "what"),
		previous: m.CounterVec("previous", "Messages between users that were looked up because "+
			"another process had stored them before one of this process, or this one perhaps, "+
			"by outcome: named (message servers wait for it), old, failed (not known). Old are "+
			"also those that this process did not store.", "outcome"),
	}
}
