package session

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/pdu"
)

// Metrics counts the work of loops. All loops of a listener share one Metrics.
type Metrics struct {
	sessions     prometheus.Gauge
	writes       prometheus.Counter
	writtenBytes prometheus.Counter
	mailboxDrops prometheus.Counter
	encodeErrors prometheus.Counter
	panics       prometheus.Counter
	slow         prometheus.Counter
	ignored      prometheus.Counter
	large        prometheus.Counter
	largeRefused prometheus.Counter
	longTurns    prometheus.Histogram
	closes       *prometheus.CounterVec
}

// NewMetrics returns the metrics of one listener and registers them with reg, which may
// be nil. The name of the listener becomes a label.
func NewMetrics(reg prometheus.Registerer, listener string) *Metrics {
	labels := prometheus.Labels{"listener": listener}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_session_" + name, Help: help, ConstLabels: labels,
		})
	}
	m := &Metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "teamtalk_session_open", Help: "Connections now open.", ConstLabels: labels,
		}),
		writes:       counter("writes_total", "Writes to connections; each may hold many frames."),
		writtenBytes: counter("written_bytes_total", "Bytes written to connections."),
		mailboxDrops: counter("mailbox_drops_total",
			"Frames dropped because a loop's mailbox was full; their sessions are closed."),
		encodeErrors: counter("encode_errors_total",
			"Messages that could not be encoded: a fault of this program."),
		panics: counter("panics_total", "Handlers that panicked; their session is closed."),
		slow:   counter("slow_closed_total", "Sessions closed because the peer did not read."),
		ignored: counter("ignored_frames_total",
			"Frames dropped from sessions that linger: the server waits for the peer to close."),
		large: counter("large_frames_total", "Frames of 64 KiB and more sent."),
		largeRefused: counter("large_refused_total",
			"Frames of 64 KiB and more refused because too many wait for one peer."),
		longTurns: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:        "teamtalk_session_long_turn_seconds",
			Help:        "Turns of a loop that took a millisecond or more; sockets wait meanwhile.",
			ConstLabels: labels, Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1},
		}),
		closes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_session_closed_total",
			Help: "Sessions closed, by reason.", ConstLabels: labels,
		}, []string{"reason"}),
	}
	if reg != nil {
		reg.MustRegister(m.sessions, m.writes, m.writtenBytes, m.mailboxDrops, m.encodeErrors,
			m.panics, m.slow, m.ignored, m.large, m.largeRefused, m.longTurns, m.closes)
	}
	return m
}

// reasons maps the errors of this package, and that of a frame that is too long or too short, to
// the labels of closes. Every other error is one of the connection itself and counts as "other".
var reasons = []struct {
	err  error
	name string
}{
	{ErrSlow, "slow"}, {ErrOverflow, "overflow"}, {ErrIdle, "idle"},
	{ErrLoginDeadline, "login_deadline"}, {ErrMalformed, "malformed"},
	{ErrPanic, "panic"}, {ErrShutdown, "shutdown"}, {ErrDisplaced, "displaced"},
	{ErrPlain, "plaintext"}, {pdu.ErrLength, "frame_length"},
}

// closed counts a session that was closed because of err; nil means that the peer closed
// it.
func (m *Metrics) closed(err error) {
	if err == nil {
		m.closes.WithLabelValues("peer").Inc()
		return
	}
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			m.closes.WithLabelValues(r.name).Inc()
			return
		}
	}
	m.closes.WithLabelValues("other").Inc()
}
