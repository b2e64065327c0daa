package file

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	made, refused, logins, ended *prometheus.CounterVec
	relayed, uploaded, fetched   prometheus.Counter
	failures, unasked, unproven  prometheus.Counter
	violations                   prometheus.Counter
	compared, repairs, notices   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	const prefix = "teamtalk_file_"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help},
			[]string{label})
	}
	m := &metrics{
		made: vec("tasks_total", "Tasks created, by mode: online, offline.", "mode"),
		refused: vec("tasks_refused_total",
			"Requests of message servers for a task that were refused, by code.", "code"),
		logins: vec("logins_total", "Logins of clients to tasks, by result code.", "code"),
		ended: vec("ended_total", "Transfers that ended, by outcome: relayed, uploaded, fetched, "+
			"cancelled, refused, lost (one side disconnected), expired, taken (the receiver "+
			"removed it from its list).", "how"),
		failures: counter("spool_failures_total", "Reads and writes of the spool that failed."),
		unasked: counter("unasked_total",
			"Logins refused because no route server answered whether the user is online."),
		unproven: counter("unproven_total", "Logins accepted although the route server reported "+
			"the user as offline: it does not count phones."),
		violations: counter("violations_total", "Connections closed because a client sent "+
			"segments that were not requested, or requested too many."),
		compared: vec("list_comparisons_total",
			"Comparisons of the spool with the list of offline files, by result: done, failed.",
			"result"),
		repairs: vec("list_repairs_total", "Differences that the comparisons found: listed (a "+
			"file missing from the list was added), forgotten (a row without a file was "+
			"deleted), removed (a file that its receiver had removed from the list was "+
			"deleted), refused (a file cannot be listed), kept (a row without a file stays, "+
			"because another server with this address has the lease).", "what"),
		notices: vec("notices_repeated_total", "Notifies of files repeated because their "+
			"receiver had not logged in to the transfer, by result: sent, no_route (no route "+
			"server that passes them on took it).", "result"),
	}
	bytes := vec("bytes_total", "Bytes of files moved, by way: relayed, uploaded, fetched.", "way")
	m.relayed, m.uploaded, m.fetched = bytes.WithLabelValues("relayed"),
		bytes.WithLabelValues("uploaded"), bytes.WithLabelValues("fetched")
	if reg != nil {
		reg.MustRegister(m.made, m.refused, m.logins, m.ended, bytes, m.failures, m.unasked,
			m.unproven, m.violations, m.compared, m.repairs, m.notices)
		registerGauges(reg, prefix, s)
	}
	return m
}

// registerGauges registers the gauges of the table of tasks and of the spool.
func registerGauges(reg prometheus.Registerer, prefix string, s *Server) {
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name,
			Help: help}, value))
	}
	gauge("tasks", "Tasks with a client logged in, and all tasks between two clients.",
		func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(len(s.tasks))
		})
	gauge("spool_files", "Files in the spool, including unfinished uploads.",
		func() float64 { n, _ := s.spool.Usage(); return float64(n) })
	gauge("spool_bytes",
		"Bytes of files in the spool. Unfinished uploads count with their full size.",
		func() float64 { _, n := s.spool.Usage(); return float64(n) })
}
