package link

import (
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
)

// Metrics counts the work of links, by peer. All links of a process share one.
type Metrics struct {
	up, pending                                             *prometheus.GaugeVec
	dials, in, out, inBytes, outBytes, writes               *prometheus.CounterVec
	late, malformed, busy, panics, ignored, fails, dropouts *prometheus.CounterVec
	inParts, tooLong                                        *prometheus.CounterVec
	seconds                                                 *prometheus.HistogramVec
}

// NewMetrics returns the metrics teamtalk_link_*, registered with reg unless it is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		opts := prometheus.CounterOpts{Name: "teamtalk_link_" + name + "_total", Help: help}
		return prometheus.NewCounterVec(opts, append([]string{"peer"}, more...))
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		opts := prometheus.GaugeOpts{Name: "teamtalk_link_" + name, Help: help}
		return prometheus.NewGaugeVec(opts, []string{"peer"})
	}
	m := &Metrics{
		up:        gauge("up", "Connections that are up."),
		pending:   gauge("pending_calls", "Calls without an answer yet."),
		dials:     counter("dials", "Attempts to connect, by result.", "result"),
		in:        counter("frames_in", "Messages received, heartbeats excluded."),
		out:       counter("frames_out", "Messages accepted for sending, heartbeats excluded."),
		inBytes:   counter("bytes_in", "Bytes received."),
		outBytes:  counter("bytes_out", "Bytes written."),
		writes:    counter("writes", "Writes; each may hold many frames."),
		late:      counter("late_answers", "Answers dropped because their call had ended."),
		malformed: counter("malformed", "Frames that do not decode."),
		busy:      counter("busy", "Messages refused because a queue was full."),
		panics:    counter("panics", "Panics in handlers."),
		ignored:   counter("ignored", "Messages dropped because the link has no handler."),
		fails:     counter("call_errors", "Calls that ended with an error, by kind.", "kind"),
		inParts:   counter("answers_in_parts", "Answers put together from parts."),
		tooLong:   counter("too_long", "Answers and other frames dropped because of their length."),
		dropouts:  counter("disconnects", "Connections that ended."),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "teamtalk_link_call_seconds", Help: "From a call to its answer.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 3, 12)}, []string{"peer"}),
	}
	if reg != nil {
		reg.MustRegister(m.up, m.pending, m.dials, m.in, m.out, m.inBytes, m.outBytes, m.writes,
			m.late, m.malformed, m.busy, m.panics, m.ignored, m.fails, m.dropouts, m.inParts,
			m.tooLong, m.seconds)
	}
	return m
}

// peerMetrics are the metrics of one peer, looked up once.
type peerMetrics struct {
	up, pending                                      prometheus.Gauge
	dialed, dialFailed                               prometheus.Counter
	in, out, inBytes, outBytes, writes               prometheus.Counter
	late, malformed, busy, panics, ignored, dropouts prometheus.Counter
	inParts, tooLong                                 prometheus.Counter
	fails                                            *prometheus.CounterVec
	seconds                                          prometheus.Observer
}

func (m *Metrics) peer(name string) *peerMetrics {
	if m == nil {
		m = NewMetrics(nil)
	}
	return &peerMetrics{
		up: m.up.WithLabelValues(name), pending: m.pending.WithLabelValues(name),
		dialed:     m.dials.WithLabelValues(name, "ok"),
		dialFailed: m.dials.WithLabelValues(name, "failed"),
		in:         m.in.WithLabelValues(name), out: m.out.WithLabelValues(name),
		inBytes: m.inBytes.WithLabelValues(name), outBytes: m.outBytes.WithLabelValues(name),
		writes: m.writes.WithLabelValues(name),
		late:   m.late.WithLabelValues(name), malformed: m.malformed.WithLabelValues(name),
		busy: m.busy.WithLabelValues(name), panics: m.panics.WithLabelValues(name),
		ignored: m.ignored.WithLabelValues(name), dropouts: m.dropouts.WithLabelValues(name),
		inParts: m.inParts.WithLabelValues(name), tooLong: m.tooLong.WithLabelValues(name),
		fails:   m.fails.MustCurryWith(prometheus.Labels{"peer": name}),
		seconds: m.seconds.WithLabelValues(name),
	}
}

func (m *peerMetrics) failed(err error) { m.fails.WithLabelValues(im.KindOf(err).String()).Inc() }
