package dbproxy

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	seconds       *prometheus.HistogramVec
	failures      *prometheus.CounterVec
	stored        prometheus.Counter
	duplicate     prometheus.Counter
	failed        prometheus.Counter
	refusedLogins *prometheus.CounterVec
	locks         prometheus.Counter
	unsent        prometheus.Counter
	soundSeconds  *prometheus.HistogramVec
	soundFailures *prometheus.CounterVec

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
			"Logins refused, by reason: unknown, password, status, locked.", "reason"),
		locks: counter("login_locks_total",
			"Login names locked after too many different wrong passwords."),
		unsent: counter("unsent_total", "Answers dropped because the link had ended or was full."),
		soundSeconds: prometheus.NewHistogramVec(seconds("sound_seconds",
			"Duration of storing or reading the sound of an audio message, in seconds, by op: "+
				"put, get."), []string{"op"}),
		soundFailures: vec("sound_failures_total", "Sounds not stored (the message is then not "+
			"stored either) or not found (the message is returned without its sound), by op: "+
			"put, get.", "op"),
		syncs: vec("session_syncs_total", "Runs that update the conversation lists of groups' "+
			"members, by result: done, failed, busy (not started).", "result"),
		syncSeconds: prometheus.NewHistogram(seconds("session_sync_seconds",
			"Duration of a run that updates the conversation lists, in seconds.")),
		synced: counter("session_synced_total",
			"Entries of conversation lists written by these runs."),
	}
	if reg != nil {
		reg.MustRegister(m.syncs, m.syncSeconds, m.synced, m.soundSeconds, m.soundFailures,
			m.seconds, m.failures, messages, m.refusedLogins, m.locks, m.unsent,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + "requests_open",
				Help: "Requests accepted and not answered."},
				func() float64 { return float64(open()) }))
	}
	return m
}
