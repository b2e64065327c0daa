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

	directoryReads *prometheus.CounterVec
	directoryRows  *prometheus.GaugeVec
	syncs          *prometheus.CounterVec
	syncSeconds    prometheus.Histogram
	synced         prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_dbproxy_messages_total",
		Help: "Messages by what became of them: stored, duplicate, failed."}, []string{"result"})
	m := &metrics{
		stored: messages.WithLabelValues("stored"), duplicate: messages.WithLabelValues("duplicate"), failed: messages.WithLabelValues("failed"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "teamtalk_dbproxy_request_seconds",
			Help: "Time from a request to its answer, waiting included, by command.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}, []string{"cmd"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_dbproxy_failures_total",
			Help: "Requests that could not be done, by command and kind of error."}, []string{"cmd", "kind"}),
		refusedLogins: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_dbproxy_logins_refused_total",
			Help: "Logins refused, by reason: unknown, password, status, locked."}, []string{"reason"}),
		locks:  prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_dbproxy_login_locks_total", Help: "Names locked after too many different wrong passwords."}),
		unsent: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_dbproxy_unsent_total", Help: "Answers whose link was gone or full."}),
		soundSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "teamtalk_dbproxy_sound_seconds",
			Help: "Time to put the sound of an audio message, or get it, by op.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}, []string{"op"}),
		soundFailures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_dbproxy_sound_failures_total",
			Help: "Sounds not put (the message is not stored), or not found (it is answered without), by op: put, get."}, []string{"op"}),
		directoryReads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_dbproxy_directory_reads_total",
			Help: "Times the store was asked for the directory, by list (users, departments) and what was asked for (all, changes)."}, []string{"list", "what"}),
		directoryRows: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "teamtalk_dbproxy_directory_rows",
			Help: "Rows of the directory in memory, by list (users, departments)."}, []string{"list"}),
		syncs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_dbproxy_session_syncs_total",
			Help: "Runs that bring the conversation lists of groups' members up to date, by result: done, failed, busy (not begun)."}, []string{"result"}),
		syncSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "teamtalk_dbproxy_session_sync_seconds",
			Help: "Time of such a run.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}),
		synced: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_dbproxy_session_synced_total", Help: "Entries of conversation lists such runs have written."}),
	}
	if reg != nil {
		reg.MustRegister(m.directoryReads, m.directoryRows, m.syncs, m.syncSeconds, m.synced, m.soundSeconds, m.soundFailures, m.seconds, m.failures, messages, m.refusedLogins, m.locks, m.unsent,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_dbproxy_requests_open", Help: "Requests accepted and not answered."},
				func() float64 { return float64(s.open.Load()) }))
	}
	return m
}
