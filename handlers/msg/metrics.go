package msg

import (
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/session"
)

type metrics struct {
	logins                                   *prometheus.CounterVec
	kicks                                    *prometheus.CounterVec
	loginsHeld                               *prometheus.CounterVec
	loginsCut                                *prometheus.CounterVec
	loginsWaiting                            prometheus.Gauge
	received                                 prometheus.Counter
	dropped                                  *prometheus.CounterVec
	notStored                                prometheus.Counter
	resends                                  prometheus.Counter
	deliveries                               prometheus.Counter
	redelivered                              prometheus.Counter
	unanswered                               prometheus.Counter
	acks                                     *prometheus.CounterVec
	acksSingle, acksOwn, acksGroup, acksRead prometheus.Counter // of acks
	waitsHere, waitsElsewhere                prometheus.Counter // of ackWaits
	acksUnmatched                            prometheus.Counter
	ackWaits                                 *prometheus.CounterVec
	ackTimeouts                              prometheus.Counter
	reads                                    *prometheus.CounterVec
	queriesFailed                            *prometheus.CounterVec
	notForwarded                             *prometheus.CounterVec
	p2pDropped                               *prometheus.CounterVec
	news                                     prometheus.Counter
	newsMerged                               prometheus.Counter
	newsDropped                              prometheus.Counter
	files                                    *prometheus.CounterVec
	filesRefused                             *prometheus.CounterVec
	androidCut                               *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, online *session.Registry) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_msg_" + name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_msg_" + name, Help: help}, []string{label})
	}
	m := metrics{
		logins: vec("logins_total", "Logins, by result.", "result"),
		kicks:  vec("kicks_total", "Clients ended because of another login or on request of their phone.", "reason"),
		loginsHeld: vec("logins_held_total",
			"Logins made to wait, by reason: refused (the answer waits), kicked (the client was kicked just before).", "reason"),
		loginsCut: vec("logins_cut_total",
			"Waits of logins ended early because too many waited, by reason: address (from one address), full (on one loop).", "reason"),
		loginsWaiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "teamtalk_msg_logins_waiting", Help: "Logins that wait now."}),
		received:      counter("received_total", "Messages taken from clients and given to db_proxy."),
		dropped:       vec("dropped_total", "Messages from clients not taken, by reason. They get no ack.", "reason"),
		notStored:     counter("not_stored_total", "Messages that db_proxy did not store. They get no ack."),
		resends:       counter("resends_total", "Messages recognised as repeats: acked, not stored or delivered again."),
		deliveries:    counter("deliveries_total", "Messages put into the mailboxes of connected devices."),
		redelivered:   counter("redelivered_total", "Messages sent to a device again because it did not answer."),
		unanswered: counter("unanswered_total",
			"Deliveries given up without an ack: most are to clients that never acknowledge."),
		acks: vec("delivery_acks_total",
			"Deliveries that devices acknowledged, by kind: single, own, group, and read (by a read ack).",
			"kind"),
		acksUnmatched: counter("delivery_acks_unmatched_total",
			"Acks of devices that match no delivery; they change nothing."),
		ackWaits: vec("ack_waits_total",
			"Acks to senders held back for the receiver's device, by where that is: here, elsewhere.", "where"),
		reads: vec("read_acks_total",
			"Read acks of clients, by result: told (the user's other devices), known (the mark does not "+
				"move), merged (into a later one), dropped (too many conversations at once), failed "+
				"(no db_proxy took it).", "result"),
		ackTimeouts:   counter("ack_timeouts_total", "Acks sent because the recipient's devices took longer than ack_wait."),
		queriesFailed: vec("queries_failed_total", "Queries that got no answer from another server, by kind of error.", "kind"),
		notForwarded:  vec("not_forwarded_total", "Messages for devices on other message servers that no route server took, by command.", "cmd"),
		p2pDropped:    vec("p2p_dropped_total", "P2P commands from clients not passed on, by reason.", "reason"),
		news:          counter("notifies_total", "Changes heard of that all clients are told: status, sign info, avatar."),
		newsMerged:    counter("notifies_merged_total", "Those among them that took the place of one not told yet."),
		files:         vec("file_transfers_total", "Transfers of files made, by mode: online, offline.", "mode"),
		filesRefused:  vec("files_refused_total", "Requests about files that were refused or not passed on, by reason.", "reason"),
		newsDropped:   counter("notifies_dropped_total", "Those among them not told because too many waited. Clients see the old state until they ask."),
		androidCut: vec("android_cut_total",
			"Answers and deliveries to Android that are too long for it, by what became of them: "+
				"parts, shortened (the older end is left out), sound (a text in its place), dropped.", "how"),
	}
	m.acksSingle, m.acksOwn = m.acks.WithLabelValues("single"), m.acks.WithLabelValues("own")
	m.acksGroup, m.acksRead = m.acks.WithLabelValues("group"), m.acks.WithLabelValues("read")
	m.waitsHere = m.ackWaits.WithLabelValues("here")
	m.waitsElsewhere = m.ackWaits.WithLabelValues("elsewhere")
	if reg != nil {
		reg.MustRegister(m.androidCut)
		reg.MustRegister(m.logins, m.kicks, m.loginsHeld, m.loginsCut, m.loginsWaiting, m.received, m.dropped, m.notStored, m.resends, m.deliveries, m.redelivered, m.unanswered,
			m.acks, m.acksUnmatched, m.ackWaits, m.reads,
			m.ackTimeouts, m.queriesFailed, m.notForwarded, m.p2pDropped, m.news, m.newsMerged, m.newsDropped, m.files, m.filesRefused,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_msg_users_online", Help: "Users connected to this message server."},
				func() float64 { return float64(online.Users()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_msg_clients_online", Help: "Logged-in connections."},
				func() float64 { return float64(online.Count()) }))
	}
	return m
}

func (m *metrics) unansweredLost(n int) {
	if n > 0 {
		m.unanswered.Add(float64(n))
	}
}

// acked counts a delivery that a device acknowledged.
func (m *metrics) acked(kind kinds) {
	switch kind {
	case kindGroup:
		m.acksGroup.Inc()
	case kindOwn:
		m.acksOwn.Inc()
	default:
		m.acksSingle.Inc()
	}
}
