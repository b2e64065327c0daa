package push

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	outcomes        *prometheus.CounterVec
	retries, unsent prometheus.Counter
	seconds         prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	m := &metrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_push_notifications_total",
			Help: "Notifications by outcome: sent, dead (invalid token), refused, later (all " +
				"attempts failed), " +
				"dropped (queue full)."}, []string{"outcome"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_push_retries_total",
			Help: "Attempts after the first one of a notification."}),
		unsent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_push_answers_unsent_total",
			Help: "Answers dropped because the message server had disconnected."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "teamtalk_push_attempt_seconds", Help: "Duration of one attempt, in seconds.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
	}
	if reg != nil {
		reg.MustRegister(m.outcomes, m.retries, m.unsent, m.seconds,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_push_queue",
				Help: "Notifications without an outcome yet, queued or in flight."},
				func() float64 { return float64(s.open.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_push_queue_limit",
				Help: "Notifications without an outcome at which further ones are dropped."},
				func() float64 { return float64(s.opt.Queue) }))
	}
	return m
}
