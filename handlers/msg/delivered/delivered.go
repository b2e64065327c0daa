// Package delivered remembers which messages a message server has delivered lately.
//
// A db_proxy that dies around a commit leaves a message stored that no message server
// knows of. Its sender repeats it, perhaps on another connection, and db_proxy answers
// with the id of the first one. Whether the first one was delivered is then decided here,
// by each message server for its own devices.
package delivered

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/hash"
	"teamtalk/core/recent"
)

const (
	// keep is how long deliveries are remembered, at least. A repeat of an older message
	// is not delivered. maxConversations bounds the conversations remembered, at about
	// 100 bytes each. Beyond, the time is shorter.
	keep             = 5 * time.Minute
	maxConversations = 1 << 18
	// maxRepeats bounds the repeats remembered.
	maxRepeats = 1 << 16
	// margin is how much older than a message a connection must be to receive its repeat:
	// times of creation are in whole seconds, and db_proxies may write them a second
	// later. A younger connection finds the message in the history.
	margin = 2 * time.Second

	shards = 64
)

// Options sets up a Record.
type Options struct {
	// Since returns an id of a connection: those with that id or a higher one began less
	// than age ago, others before that. It looks back for keep at least.
	Since      func(age time.Duration) uint64
	Now        func() time.Time
	Registerer prometheus.Registerer // nil: the metrics are not registered
}

// Record remembers the ids that were delivered, by conversation. Any goroutine.
type Record struct {
	opt     Options
	metrics metrics
	shards  [shards]shard
}

// shard is the conversations of some keys.
type shard struct {
	mu      sync.Mutex
	known   recent.Map[uint64, *ids]
	repeats recent.Map[message, struct{}] // delivered as repeats
}

type message struct {
	conversation uint64
	id           uint32
}

// New returns a Record that knows no delivery.
func New(opt Options) *Record {
	r := &Record{opt: opt, metrics: newMetrics(opt.Registerer)}
	for i := range r.shards {
		r.shards[i].known = recent.Map[uint64, *ids]{Age: keep,
			Max: maxConversations / 2 / shards}
		r.shards[i].repeats = recent.Map[message, struct{}]{Age: keep,
			Max: maxRepeats / 2 / shards}
	}
	return r
}

func (r *Record) shard(conversation uint64) *shard {
	return &r.shards[hash.Next(conversation)%shards]
}

// First takes a message that is stored, and reports whether it is to be delivered: it is
// not, if a repeat of it was.
func (r *Record) First(conversation uint64, id uint32) bool {
	sh, now := r.shard(conversation), r.opt.Now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.repeats.Len() > 0 {
		if _, before := sh.repeats.Get(message{conversation, id}); before {
			r.metrics.overtaken.Inc()
			return false
		}
	}
	sh.add(conversation, id, now)
	return true
}

// Repeat takes the repeat of a message that was stored at the time created, in unix
// seconds. known says that the message was delivered, or that this cannot be known any
// more. Otherwise it is to be delivered now, to the connections with ids below before,
// which are older than the message.
func (r *Record) Repeat(conversation uint64, id, created uint32) (before uint64, known bool) {
	sh, now := r.shard(conversation), r.opt.Now()
	age := time.Duration(max(0, now.Unix()-int64(created))) * time.Second
	stored := now.Add(-age - margin)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	list, _ := sh.known.Get(conversation)
	if list.has(id) || age > keep || stored.Before(sh.known.Since()) ||
		stored.Before(sh.repeats.Since()) {
		r.metrics.known.Inc()
		return 0, true
	}
	sh.add(conversation, id, now)
	sh.repeats.Put(message{conversation, id}, struct{}{}, now)
	r.metrics.delivered.Inc()
	return r.opt.Since(age + margin), false
}

// add records a delivery. With mu held.
func (sh *shard) add(conversation uint64, id uint32, now time.Time) {
	list, ok := sh.known.Get(conversation)
	if !ok {
		list = &ids{}
	}
	list.add(id)
	sh.known.Put(conversation, list, now)
}

// metrics counts the repeats.
type metrics struct{ delivered, known, overtaken prometheus.Counter }

func newMetrics(reg prometheus.Registerer) metrics {
	repeats := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_msg_repeats_total",
		Help: "Repeated messages that db_proxy recognised, by what this server did: delivered " +
			"(it had not delivered the first one, whose answer was lost), known (it had, or " +
			"too long ago to know). And overtaken: first ones that arrived after their repeat " +
			"was delivered, and were dropped.",
	}, []string{"outcome"})
	if reg != nil {
		reg.MustRegister(repeats)
	}
	return metrics{repeats.WithLabelValues("delivered"), repeats.WithLabelValues("known"),
		repeats.WithLabelValues("overtaken")}
}
