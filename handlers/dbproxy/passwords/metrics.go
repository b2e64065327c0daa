package passwords

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	derivations *prometheus.CounterVec
	seconds     prometheus.Counter
	remembered  *prometheus.CounterVec
	moves       *prometheus.CounterVec
}

// newMetrics returns the metrics; waiting returns the number of logins that wait.
func newMetrics(reg prometheus.Registerer, waiting func() int) *metrics {
	const prefix = "teamtalk_dbproxy_password_"
	vec := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help},
			[]string{"result"})
	}
	m := &metrics{
		derivations: vec("derivations_total", "Passwords of logins that needed argon2id, by "+
			"result: right, wrong, busy (not derived, the login is refused as busy)."),
		seconds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "derivation_seconds_total",
			Help: "Duration of all these derivations, without their time in the queue, in " +
				"seconds."}),
		remembered: vec("remembered_total", "Passwords of logins that needed no derivation, "+
			"because they were remembered, or shared that of an equal login, by result: "+
			"right, wrong."),
		moves: vec("moves_total", "Rows that were to be moved to argon2id, or to higher costs, "+
			"by result: moved, changed (the row changed meanwhile), failed (the store), dropped "+
			"(too many waited)."),
	}
	if reg != nil {
		reg.MustRegister(m.derivations, m.seconds, m.remembered, m.moves,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + "waiting",
				Help: "Logins that wait for the derivation of their password."},
				func() float64 { return float64(waiting()) }))
	}
	return m
}
