// Package trace records the way of single messages through the servers, as spans of OpenTelemetry,
// and sends them to a collector by OTLP over HTTP.
//
// # Ids
//
// The protocol between the servers has no room for the context of a trace, and some of the servers
// may be those of the first implementation. So the ids are computed: from the conversation of a
// message and its message id, which every server knows that sees the message after it was stored.
// All servers compute the same trace id, and decide alike whether the trace is sampled, as
// TraceIDRatioBased of OpenTelemetry does: by the last eight bytes of the trace id. The id of a
// span is computed from the trace id and its stage, so that a server knows the parent of its span
// although another server records it. A message that was not stored has no id and no trace: the
// log and the metrics tell of it.
//
// Message ids count up in each conversation. Two deployments have the same conversations and ids,
// so each needs a collector, or a tenant, of its own.
//
// # Cost
//
// A nil *Tracer records nothing, and costs a comparison. Record never waits: it appends to a
// bounded queue, and drops and counts the span when the queue is full.
package trace

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/hash"
	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/core/opt"
)

// Message names a stored message.
type Message struct {
	Conversation uint64 // im.Message.Key
	ID           uint32 // message id in the conversation, not 0
}

// ID is a trace id.
type ID [16]byte

// Of names the message id of a user to another one, or to a group.
func Of(from, to uint32, group bool, id uint32) Message {
	if group {
		return Message{Conversation: im.GroupKey(to), ID: id}
	}
	return Message{Conversation: im.ConversationKey(from, to), ID: id}
}

// TraceID returns the id of the trace of m. Its results must not change: servers of all versions
// record spans of the same trace.
func (m Message) TraceID() (id ID) {
	high := hash.Next(hash.Next(m.Conversation) ^ uint64(m.ID))
	binary.BigEndian.PutUint64(id[:8], high)
	binary.BigEndian.PutUint64(id[8:], hash.Next(high))
	return id
}

// Span is a part of the way of a message.
type Span struct {
	Stage   Stage
	Message Message
	// Begin and End are read from the clock of this process.
	Begin, End time.Time
	// Instance tells spans of one stage and message apart that this process records, such as
	// those of the devices of a user. 0: there is one.
	Instance uint64
	// Count is what the stage counts, see Stage. 0: nothing.
	Count int
}

// Options configures a Tracer.
type Options struct {
	// Endpoint is the URL of the collector. Without a path it gets /v1/traces. Required.
	Endpoint string
	// Ratio is the share of messages that are traced, 0 to 1.
	Ratio float64
	// Node names this process, and Version its build, in the resource of each span.
	Node, Version string
	// Queue bounds the spans that wait to be sent. As many may be on their way. Default 8,192,
	// about 2 MiB together.
	Queue int
	// Interval is the longest time that a span waits before it is sent. Default 1 s.
	Interval time.Duration
	// Timeout bounds one request to the collector. Default 10 s.
	Timeout time.Duration
	// Log receives failures, at most one line a second. Default: discarded.
	Log *slog.Logger
	// Registerer registers the metrics teamtalk_trace_*. Default: none.
	Registerer prometheus.Registerer
}

// Tracer records spans. A nil Tracer records none. Any goroutine.
type Tracer struct {
	opt     Options
	url     string
	shown   string // url in errors: user, password and query may be secret
	below   uint64 // a trace is sampled when half of its last eight bytes is below
	salt    uint64 // of this process
	client  *http.Client
	ctx     context.Context // of the requests
	cancel  context.CancelFunc
	metrics metrics
	often   obs.Often

	mu      sync.Mutex
	waiting []span
	full    chan struct{} // has room for one: wakes the sender
	stop    chan struct{}
	done    chan struct{}
	once    sync.Once
}

// span is a Span of a sampled trace.
type span struct {
	Span
	trace ID
}

// metrics count the spans.
type metrics struct {
	sent         prometheus.Counter
	full, failed prometheus.Counter
	rejected     prometheus.Counter
}

// New returns a Tracer that sends spans until Close. It returns an error for an endpoint that is no
// http or https URL, and for a ratio out of range.
func New(o Options) (*Tracer, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("trace: want a URL such as http://127.0.0.1:4318")
	}
	if !(o.Ratio >= 0 && o.Ratio <= 1) {
		return nil, fmt.Errorf("trace: ratio %g is not between 0 and 1", o.Ratio)
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/traces"
	}
	opt.Default(&o.Queue, 8192)
	opt.Default(&o.Interval, time.Second)
	opt.Default(&o.Timeout, 10*time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	t := &Tracer{opt: o, url: u.String(), shown: u.Scheme + "://" + u.Host + u.Path,
		below: threshold(o.Ratio), salt: rand.Uint64(),
		client:  &http.Client{Timeout: o.Timeout, CheckRedirect: stay},
		metrics: newMetrics(o.Registerer),
		full:    make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	go t.run()
	return t, nil
}

// stay follows no redirection: after most of them the client would get a page with status 200, and
// spans that no collector has would count as sent.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// threshold returns the number of half of 64 bits below which a share of ratio lies.
func threshold(ratio float64) uint64 {
	if ratio >= 1 {
		return math.MaxUint64
	}
	return uint64(ratio * (1 << 63))
}

func newMetrics(reg prometheus.Registerer) metrics {
	sent := prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_trace_spans_total",
		Help: "Spans of traced messages that the collector took."})
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_trace_spans_dropped_total",
		Help: "Spans lost, by reason: full (the queue), failed (the collector did not take " +
			"them), rejected (it took the others of the request).",
	}, []string{"reason"})
	if reg != nil {
		reg.MustRegister(sent, dropped)
	}
	return metrics{sent: sent, full: dropped.WithLabelValues("full"),
		failed: dropped.WithLabelValues("failed"), rejected: dropped.WithLabelValues("rejected")}
}

// sampled returns the id of the trace of m, and whether the trace is recorded. Every server with
// the same ratio decides alike.
func (t *Tracer) sampled(m Message) (id ID, ok bool) {
	id = m.TraceID()
	return id, m.ID != 0 && binary.BigEndian.Uint64(id[8:])>>1 < t.below
}

// Record records a span if its message is traced. It never waits.
func (t *Tracer) Record(s Span) {
	if t == nil {
		return
	}
	id, ok := t.sampled(s.Message)
	if !ok {
		return
	}
	t.mu.Lock()
	n := len(t.waiting)
	if n < t.opt.Queue {
		t.waiting = append(t.waiting, span{s, id})
	}
	t.mu.Unlock()
	switch {
	case n >= t.opt.Queue:
		t.metrics.full.Inc()
	case n == 0, n+1 == maxBatch:
		t.wake()
	}
}

// On reports whether t records spans of some messages.
func (t *Tracer) On() bool { return t != nil }

// Samples reports whether t records the spans of m. Callers ask before they read the clock for a
// span: that takes longer than to ask.
func (t *Tracer) Samples(m Message) bool {
	if t == nil {
		return false
	}
	_, ok := t.sampled(m)
	return ok
}
