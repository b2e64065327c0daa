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
		made: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_file_tasks_total", Help: "Tasks made, by mode: online, offline."}, []string{"mode"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_file_tasks_refused_total",
			Help: "Tasks asked for by message servers and not made, by code."}, []string{"code"}),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_file_logins_total",
			Help: "Logins of clients to tasks, by result code."}, []string{"code"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_file_ended_total",
			Help: "Transfers by what became of them: relayed, uploaded, fetched, cancelled, refused, lost (one side went), expired, taken (the receiver took it off its list)."}, []string{"how"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_file_spool_failures_total", Help: "Reads and writes of the spool that failed."}),
		unasked: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_file_unasked_total",
			Help: "Logins refused because no route server could say whether the user is online."}),
		unproven: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_file_unproven_total",
			Help: "Logins accepted although the route server called the user offline: it does not count phones."}),
		violations: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_file_violations_total",
			Help: "Connections closed because of bytes nobody asked for, or of too much asked for."}),
		compared: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_file_list_comparisons_total",
			Help: "Comparisons of the files with the list of those that wait, by result: done, failed."}, []string{"result"}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_file_list_repairs_total",
			Help: "What these found and put right: listed (a file that was not on the list), forgotten (a row without a file), removed (a file that its receiver had taken off the list), and refused (a file that cannot be listed)."},
			[]string{"what"}),
	}
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_file_bytes_total", Help: "Bytes of files moved, by way: relayed, uploaded, fetched."},
		[]string{"way"})
	m.relayed, m.uploaded, m.fetched = bytes.WithLabelValues("relayed"), bytes.WithLabelValues("uploaded"), bytes.WithLabelValues("fetched")
	if reg != nil {
		reg.MustRegister(m.made, m.refused, m.logins, m.ended, bytes, m.failures, m.unasked, m.unproven, m.violations, m.compared, m.repairs,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_file_tasks", Help: "Tasks that somebody is logged in to, or between two clients."},
				func() float64 {
					s.mu.Lock()
					defer s.mu.Unlock()
					return float64(len(s.tasks))
				}),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_file_spool_files", Help: "Files in the spool, unfinished ones included."},
				func() float64 { n, _ := s.spool.Usage(); return float64(n) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_file_spool_bytes", Help: "Bytes of files in the spool, unfinished ones by their full size."},
				func() float64 { _, n := s.spool.Usage(); return float64(n) }))
	}
	return m
}
