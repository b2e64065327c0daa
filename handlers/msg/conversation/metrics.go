package conversation

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	received    prometheus.Counter
	dropped     *prometheus.CounterVec
	notStored   prometheus.Counter
	storedLate  prometheus.Counter
	resends     prometheus.Counter
	redelivered prometheus.Counter
	unanswered  prometheus.Counter
	acks        *prometheus.CounterVec
	// of acks
	acksSingle, acksOwn, acksGroup, acksRead prometheus.Counter
	acksUnmatched                            prometheus.Counter
	ackSeconds                               prometheus.Histogram
	reads                                    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(
			prometheus.CounterOpts{Name: "teamtalk_msg_" + name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "teamtalk_msg_" + name, Help: help}, []string{label})
	}
	m := metrics{
		received: counter("received_total",
			"Messages accepted from clients and given to db_proxy."),
		dropped: vec("dropped_total",
			"Messages from clients not accepted, by reason. They get no ack.", "reason"),
		notStored: counter("not_stored_total",
			"Messages that db_proxy did not store. They get no ack."),
		storedLate: counter("stored_late_total",
			"Messages acked and delivered when db_proxy answered after the time-out of the call. "+
				"They are in not_stored_total, too."),
		resends: counter("resends_total",
			"Messages recognised as repeats: acked, and not stored again."),
		redelivered: counter("redelivered_total",
			"Messages sent to a device again because it did not acknowledge them."),
		unanswered: counter("unanswered_total",
			"Deliveries given up without an ack: most are to clients that never acknowledge."),
		acks: vec("delivery_acks_total",
			"Deliveries that devices acknowledged, by kind: single, own, group, and read (by a "+
				"read ack).",
			"kind"),
		acksUnmatched: counter("delivery_acks_unmatched_total",
			"Acks of devices that match no delivery; they change nothing."),
		ackSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "teamtalk_msg_ack_seconds",
			Help: "Time from the arrival of a message to the ack to its sender. It contains the " +
				"wait for the recipient's devices.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 10},
		}),
		reads: vec("read_acks_total",
			"Read acks of clients, by result: told (the user's other devices), known (the "+
				"mark does not move), corrected (told, as the mark was that of no message), "+
				"merged (into a later one), dropped (too many conversations at once), full "+
				"(those of all clients), failed (no db_proxy took it).", "result"),
	}
	m.acksSingle, m.acksOwn = m.acks.WithLabelValues("single"), m.acks.WithLabelValues("own")
	m.acksGroup, m.acksRead = m.acks.WithLabelValues("group"), m.acks.WithLabelValues("read")
	if reg != nil {
		reg.MustRegister(m.received, m.dropped, m.notStored, m.storedLate, m.resends, m.redelivered,
			m.unanswered, m.acks, m.acksUnmatched, m.ackSeconds, m.reads)
	}
	return m
}

func (m *metrics) unansweredLost(n int) {
	if n > 0 {
		m.unanswered.Add(float64(n))
	}
}

// ackCounts is the deliveries that the devices of a loop acknowledged since the last tick,
// by kind. Each delivery has an ack: to count all at one place would make the loops wait
// for each other.
type ackCounts struct{ single, own, group int }

// add counts a delivery.
func (n *ackCounts) add(kind kinds) {
	switch kind {
	case kindGroup:
		n.group++
	case kindOwn:
		n.own++
	default:
		n.single++
	}
}

// acked adds n to the metrics and sets it to zero.
func (m *metrics) acked(n *ackCounts) {
	if *n == (ackCounts{}) {
		return
	}
	m.acksSingle.Add(float64(n.single))
	m.acksOwn.Add(float64(n.own))
	m.acksGroup.Add(float64(n.group))
	*n = ackCounts{}
}
