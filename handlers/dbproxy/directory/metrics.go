package directory

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what the books read and hold.
type Metrics struct {
	reads *prometheus.CounterVec
	rows  *prometheus.GaugeVec
}

// NewMetrics returns the metrics of all books, registered with reg unless it is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	const prefix = "teamtalk_dbproxy_directory_"
	m := &Metrics{
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "reads_total",
			Help: "Reads of the directory from the store, by list (users, departments) and " +
				"extent (all, changes)."}, []string{"list", "what"}),
		rows: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + "rows",
			Help: "Rows of the directory in memory, by list (users, departments)."},
			[]string{"list"}),
	}
	if reg != nil {
		reg.MustRegister(m.reads, m.rows)
	}
	return m
}
