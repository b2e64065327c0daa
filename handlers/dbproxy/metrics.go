package dbproxy

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	seconds       *prometheus.HistogramVec
	failures      *prometheus.CounterVec
	stored        prometheus.Counter
	duplicate     prometheus.Counter
	failed        prometheus.Counter
	refusedLogins *prometheus.CounterVec
	locks         *prometheus.CounterVec
	// countsUnavailable counts the failures of the store to keep the counts of wrong
	// passwords.
	countsUnavailable prometheus.Counter
	unsent            prometheus.Counter
	inParts           prometheus.Counter
	listsCut          *prometheus.CounterVec
	withdrawn         prometheus.Gauge

	syncs       *prometheus.CounterVec
	syncSeconds prometheus.Histogram
	synced      prometheus.Counter
}

// newMetrics returns the metrics; open returns the number of requests that are not
// answered.
func newMetrics(reg prometheus.Registerer, open func() int64) *metrics {
	const prefix = "teamtalk_dbproxy_"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help},
			labels)
	}
	seconds := func(name, help string) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Name: prefix + name, Help: help,
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}
	}
	messages := vec("messages_total", "Messages by result: stored, duplicate, failed.", "result")
	m := &metrics{
		stored:    messages.WithLabelValues("stored"),
		duplicate: messages.WithLabelValues("duplicate"),
		failed:    messages.WithLabelValues("failed"),
		seconds: prometheus.NewHistogramVec(seconds("request_seconds",
			"Duration from a request to its answer, including its time in queues, in seconds, "+
				"by command."), []string{"cmd"}),
		failures: vec("failures_total", "Requests that failed, by command and kind of error.",
			"cmd", "kind"),
		refusedLogins: vec("logins_refused_total",
			"Logins refused, by reason: unknown, password, status, locked (wrong passwords for "+
				"the name from this network), network_locked (wrong passwords from the "+
				"network), locked_from_others (wrong passwords for the name from all "+
				"networks).", "reason"),
		locks: vec("login_locks_total",
			"Locks after too many different wrong passwords, by reason as in "+
				"logins_refused_total: locked, network_locked, locked_from_others.", "reason"),
		countsUnavailable: counter("login_counts_unavailable_total",
			"Failures of the store to keep the counts of wrong passwords. The next 5 s they "+
				"are kept in this process only."),
		unsent: counter("unsent_total", "Answers dropped because the link had ended or was full."),
		inParts: counter("answers_in_parts_total",
			"Answers longer than link.max_frame, which were sent in parts."),
		listsCut: vec("lists_cut_total",
			"Answers with a part of a list that is too long for one answer, by list: unread, "+
				"sessions, groups, group_infos.", "list"),
		withdrawn: prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "withdrawn",
			Help: "1 while the store fails or this server drains, and other db_proxies get the " +
				"requests."}),
		syncs: vec("session_syncs_total", "Runs that update the conversation lists of groups' "+
			"members, by result: done, failed, busy (not started).", "result"),
		syncSeconds: prometheus.NewHistogram(seconds("session_sync_seconds",
			"Duration of a run that updates the conversation lists, in seconds.")),
		synced: counter("session_synced_total",
			"Entries of conversation lists written by these runs."),
	}
	if reg != nil {
		reg.MustRegister(m.syncs, m.syncSeconds, m.synced, m.seconds, m.failures, messages,
			m.refusedLogins, m.locks, m.countsUnavailable, m.unsent, m.inParts, m.listsCut,
			m.withdrawn,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + "requests_open",
				Help: "Requests accepted and not answered."},
				func() float64 { return float64(open()) }))
	}
	return m
}

// groupMetrics count how groups are limited.
type groupMetrics struct {
	refused *prometheus.CounterVec
	// unavailable counts the failures of the store to keep budgets.
	unavailable prometheus.Counter
}

func newGroupMetrics(reg prometheus.Registerer) groupMetrics {
	m := groupMetrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_dbproxy_group_refused_total",
			Help: "Refusals of groups and memberships, by reason: creations and adds (requests " +
				"of users over these limits), and of users that were left out: left (left the " +
				"group by themselves), gains (others put them into too many groups within an " +
				"hour), memberships (… into too many groups), gains_share and memberships_share " +
				"(the same for one other user)."}, []string{"reason"}),
		unavailable: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_dbproxy_group_budgets_unavailable_total",
			Help: "Failures of the store to keep the budgets of groups. The next 5 s groups are " +
				"not limited."}),
	}
	if reg != nil {
		reg.MustRegister(m.refused, m.unavailable)
	}
	return m
}
