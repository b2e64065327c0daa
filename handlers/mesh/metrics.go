package mesh

import "github.com/prometheus/client_golang/prometheus"

// metrics counts links, frames, and what was dropped. Package outgoing counts what is sent.
type metrics struct {
	accepted        prometheus.Gauge
	received        *prometheus.CounterVec
	nobody          *prometheus.CounterVec
	drops           *prometheus.CounterVec
	writes, lookups *prometheus.CounterVec
	floods, late    prometheus.Counter
	changes, merged prometheus.Counter
}

// dropsHelp describes the metric of what is dropped.
const dropsHelp = "Messages, logins and other things dropped, by reason: local_away, " +
	"local_full (the message server of this process is not connected, or does not keep up), " +
	"lookups_full (too many messages wait for the whereabouts), link_full (a link, or " +
	"what waits for it), unreachable, unknown_node (messages for a message server " +
	"without a link, or not in the list, for 3 s), ended (it has ended), logins_full, " +
	"login_timeout (logins that wait for the whereabouts), login_given_up (a client " +
	"that did not come), kicks_full, presence_full (users elsewhere that are not " +
	"followed), changes_full (changes of users: too many wait for the end of a window), " +
	"not_encoded (changes of users), not_introduced (links refused)."

func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	name := func(n string) string { return "teamtalk_mesh_" + n }
	counter := func(n, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name(n), Help: help})
	}
	vec := func(n, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name(n), Help: help},
			[]string{label})
	}
	gauge := func(n, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name(n), Help: help})
	}
	m := &metrics{
		accepted: gauge("links_accepted", "Links open that other servers dialed."),
		received: vec("frames_received_total",
			"Messages of other message servers for the clients here, by command.", "cmd"),
		nobody: vec("forwards_nobody_total", "Messages not forwarded because no other message "+
			"server has one of their users, by command.", "cmd"),
		drops:  vec("drops_total", dropsHelp, "reason"),
		writes: vec("writes_total", "Users whose whereabouts were written, by result.", "result"),
		lookups: vec("lookups_total", "Users and groups whose whereabouts were read, by "+
			"result: ok, failed, message (db_proxy had read them).", "result"),
		floods: counter("floods_total", "Messages sent to all message servers because the "+
			"whereabouts could not be read."),
		late: counter("late_total", "Notifies and kicks that a later change has overtaken."),
		changes: counter("changes_total", "Changes of users here that other message servers are "+
			"told: status, sign info, avatar. Those of a window are one message."),
		merged: counter("changes_merged_total", "Those among them that replaced one that was not "+
			"sent yet."),
	}
	if reg == nil {
		return m
	}
	size := func(n, help string, f func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name(n), Help: help},
			func() float64 {
				s.mu.Lock()
				defer s.mu.Unlock()
				return float64(f())
			})
	}
	reg.MustRegister(m.accepted, m.received, m.nobody, m.drops, m.writes, m.lookups,
		m.floods, m.late, m.changes, m.merged,
		size("users", "Users connected to this message server, or about to be.",
			func() int { return len(s.users) }),
		size("writes_waiting", "Users whose whereabouts wait to be written.",
			func() int { return len(s.writer.dirty) }),
		size("lookups_waiting", "Messages and questions that wait for whereabouts.",
			func() int { return len(s.lookups.waiting) }),
		size("logins_waiting", "Logins that wait for the whereabouts or for their client.",
			func() int { return len(s.coming) }))
	return m
}
