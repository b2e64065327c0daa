package httpapi

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	answered, notForwarded *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		answered: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_http_calls_total",
			Help: "Calls answered, by name and error_code."}, []string{"call", "code"}),
		notForwarded: prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "teamtalk_http_not_forwarded_total",
				Help: "Messages that no route server accepted; clients find them in their " +
					"history."}, []string{"cmd"}),
	}
	if reg != nil {
		reg.MustRegister(m.answered, m.notForwarded)
	}
	return m
}

func (m metrics) calls(call string, code int) {
	m.answered.WithLabelValues(call, strconv.Itoa(code)).Inc()
}
