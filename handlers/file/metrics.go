package file

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	made, refused, logins, ended *prometheus.CounterVec
	relayed, uploaded, fetched   prometheus.Counter
	failures, unasked, unproven  prometheus.Counter
	violations                   prometheus.Counter
	compared, repairs            *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	m := &metrics{
		made: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_file_tasks_total",
			Help: "Tasks created, by mode: online, offline."}, []string{"mode"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_file_tasks_refused_total",
			Help: "Requests of message servers for a task that were refused, by code."},
			[]string{"code"}),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_file_logins_total",
			Help: "Logins of clients to tasks, by result code."}, []string{"code"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_file_ended_total",
			Help: "Transfers that ended, by outcome: relayed, uploaded, fetched, cancelled, " +
				"refused, lost (one side disconnected), expired, taken (the receiver removed it " +
				"from its list)."}, []string{"how"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_file_spool_failures_total",
			Help: "Reads and writes of the spool that failed."}),
		unasked: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_file_unasked_total",
			Help: "Logins refused because no route server answered whether the user is online."}),
		unproven: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_file_unproven_total",
			Help: "Logins accepted although the route server reported the user as offline: it " +
				"does not count phones."}),
		violations: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_file_violations_total",
			Help: "Connections closed because a client sent segments that were not requested, or " +
				"requested too many."}),
		compared: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_file_list_comparisons_total",
			Help: "Comparisons of the spool with the list of offline files, by result: done, " +
				"failed."}, []string{"result"}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_file_list_repairs_total",
			Help: "Differences that the comparisons found: listed (a file missing from the list " +
				"was added), forgotten (a row without a file was deleted), removed (a file that " +
				"its receiver had removed from the list was deleted), refused (a file cannot be " +
				"listed)."},
			[]string{"what"}),
	}
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_file_bytes_total",
		Help: "Bytes of files moved, by way: relayed, uploaded, fetched."},
		[]string{"way"})
	m.relayed, m.uploaded, m.fetched = bytes.WithLabelValues("relayed"),
		bytes.WithLabelValues("uploaded"), bytes.WithLabelValues("fetched")
	if reg != nil {
		reg.MustRegister(m.made, m.refused, m.logins, m.ended, bytes, m.failures, m.unasked,
			m.unproven, m.violations, m.compared, m.repairs,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_file_tasks",
				Help: "Tasks with a client logged in, and all tasks between two clients."},
				func() float64 {
					s.mu.Lock()
					defer s.mu.Unlock()
					return float64(len(s.tasks))
				}),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_file_spool_files",
				Help: "Files in the spool, including unfinished uploads."},
				func() float64 { n, _ := s.spool.Usage(); return float64(n) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_file_spool_bytes",
				Help: "Bytes of files in the spool. Unfinished uploads count with their full " +
					"size."},
				func() float64 { _, n := s.spool.Usage(); return float64(n) }))
	}
	return m
}
