package obs

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// The states of a check in teamtalk_check_state.
const (
	stateOK       = "ok"
	stateDegraded = "degraded"
	stateFailed   = "failed"
)

var states = []string{stateOK, stateDegraded, stateFailed}

// stateMetrics are the checks of a process as metrics. A scrape runs the checks, as a request for
// /readyz does.
type stateMetrics struct {
	ready        *Ready
	whole, check *prometheus.Desc
}

// StateMetrics returns a collector with teamtalk_ready, and teamtalk_check_state for each check.
// Any goroutine.
func (r *Ready) StateMetrics() prometheus.Collector {
	return stateMetrics{ready: r,
		whole: prometheus.NewDesc("teamtalk_ready",
			"1 while the process can do its work, as /readyz says.", nil, nil),
		check: prometheus.NewDesc("teamtalk_check_state",
			"1 for the present state of a check of /readyz: ok, degraded (the process works, "+
				"this part does not), failed (the process is not ready).",
			[]string{"check", "state"}, nil)}
}

// Describe sends the descriptions of both metrics.
func (m stateMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.whole
	to <- m.check
}

// Collect runs the checks and sends their states.
func (m stateMetrics) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, on bool, labels ...string) {
		value := 0.0
		if on {
			value = 1
		}
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	ready, errs := m.ready.check(context.Background())
	gauge(m.whole, ready)
	for name, err := range errs {
		for _, s := range states {
			gauge(m.check, stateOf(err) == s, name, s)
		}
	}
}

// stateOf returns the state of a check with that result.
func stateOf(err error) string {
	var d degraded
	switch {
	case err == nil:
		return stateOK
	case errors.As(err, &d):
		return stateDegraded
	}
	return stateFailed
}
