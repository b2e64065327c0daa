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
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_dbproxy_messages_total",
		Help: "Messages by result: stored, duplicate, failed."}, []string{"result"})
	m := &metrics{
		stored:    messages.WithLabelValues("stored"),
		duplicate: messages.WithLabelValues("duplicate"),
		failed:    messages.WithLabelValues("failed"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "teamtalk_dbproxy_request_seconds",
			Help: "Duration from a request to its answer, including its time in queues, in " +
				"seconds, by command.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)},
			[]string{"cmd"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_dbproxy_failures_total",
			Help: "Requests that failed, by command and kind of error."}, []string{"cmd", "kind"}),
		refusedLogins: prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "teamtalk_dbproxy_logins_refused_total",
				Help: "Logins refused, by reason: unknown, password, status, locked."},
			[]string{"reason"}),
		locks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_dbproxy_login_locks_total",
			Help: "Login names locked after too many different wrong passwords."}),
		unsent: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_dbproxy_unsent_total",
			Help: "Answers dropped because the link had ended or was full."}),
		soundSeconds: prometheus.NewHistogramVec(
			prometheus.HistogramOpts{Name: "teamtalk_dbproxy_sound_seconds",
				Help: "Duration of storing or reading the sound of an audio message, in seconds, " +
					"by op: put, get.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)},
			[]string{"op"}),
		soundFailures: prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "teamtalk_dbproxy_sound_failures_total",
				Help: "Sounds not stored (the message is then not stored either) or not found " +
					"(the message is returned without its sound), by op: put, get."},
			[]string{"op"}),
		directoryReads: prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "teamtalk_dbproxy_directory_reads_total",
				Help: "Reads of the directory from the store, by list (users, departments) and " +
					"extent (all, changes)."}, []string{"list", "what"}),
		directoryRows: prometheus.NewGaugeVec(
			prometheus.GaugeOpts{Name: "teamtalk_dbproxy_directory_rows",
				Help: "Rows of the directory in memory, by list (users, departments)."},
			[]string{"list"}),
		syncs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_dbproxy_session_syncs_total",
			Help: "Runs that update the conversation lists of groups' members, by result: done, " +
				"failed, busy (not started)."}, []string{"result"}),
		syncSeconds: prometheus.NewHistogram(
			prometheus.HistogramOpts{Name: "teamtalk_dbproxy_session_sync_seconds",
				Help:    "Duration of a run that updates the conversation lists, in seconds.",
				Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}),
		synced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_dbproxy_session_synced_total",
			Help: "Entries of conversation lists written by these runs."}),
	}
	if reg != nil {
		reg.MustRegister(m.directoryReads, m.directoryRows, m.syncs, m.syncSeconds, m.synced,
			m.soundSeconds, m.soundFailures, m.seconds, m.failures, messages, m.refusedLogins,
			m.locks, m.unsent,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_dbproxy_requests_open",
				Help: "Requests accepted and not answered."},
				func() float64 { return float64(s.open.Load()) }))
	}
	return m
}
