package prune

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of runs.
const (
	finished = "done"
	paused   = "paused" // the process or the hours have ended
	failed   = "failed"
	passed   = "passed" // another process does it
)

// ruleMetrics count the runs of a Rule.
type ruleMetrics struct {
	runs    *prometheus.CounterVec // by result
	deleted *prometheus.CounterVec // by kind
	ended   *atomic.Pointer[time.Time]
}

// newRuleMetrics returns the metrics, registered unless reg is nil. Until a run is known, the age
// of the last one counts from now on.
func newRuleMetrics(reg prometheus.Registerer, clock func() time.Time) ruleMetrics {
	start := clock()
	m := ruleMetrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_dbproxy_message_expiries_total",
			Help: "Runs that delete messages older than the limit (setting " +
				"dbproxy.message_expiry), by result: done, paused (the process or the hours " +
				"ended), failed, passed (another process does it)."}, []string{"result"}),
		deleted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_dbproxy_messages_expired_total",
			Help: "Messages deleted by these runs, by kind: text, sound, group_text, " +
				"group_sound."}, []string{"kind"}),
		ended: &atomic.Pointer[time.Time]{},
	}
	m.ended.Store(&start)
	for _, result := range []string{finished, paused, failed, passed} {
		m.runs.WithLabelValues(result)
	}
	for _, kind := range []string{"text", "sound", "group_text", "group_sound"} {
		m.deleted.WithLabelValues(kind)
	}
	if reg != nil {
		reg.MustRegister(m.runs, m.deleted, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "teamtalk_dbproxy_message_expiry_age_seconds",
			Help: "Seconds since a run was finished, in any process of the store, or since this " +
				"process started while it knows of none.",
		}, func() float64 { return max(0, clock().Sub(*m.ended.Load()).Seconds()) }))
	}
	return m
}

// end records the end of a finished run.
func (m *ruleMetrics) end(at time.Time) { m.ended.Store(&at) }

// count counts what a step has deleted.
func (m *ruleMetrics) count(d Report) {
	m.deleted.WithLabelValues("text").Add(float64(d.Texts.Messages))
	m.deleted.WithLabelValues("sound").Add(float64(d.Sounds.Messages))
	m.deleted.WithLabelValues("group_text").Add(float64(d.GroupTexts.Messages))
	m.deleted.WithLabelValues("group_sound").Add(float64(d.GroupSounds.Messages))
}
