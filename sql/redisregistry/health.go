package redisregistry

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// operations are the calls to Redis whose failures are told.
var operations = []string{"renew", "poll"}

// errStarting is the state of a process that has not registered yet.
var errStarting = errors.New("this process is not registered yet")

// note notes the result of an operation.
func (r *Registry) note(operation string, err error) {
	begins, ended := r.health.Set(operation, err)
	if err != nil {
		r.metrics.failures.WithLabelValues(operation).Inc()
	}
	switch {
	case begins:
		what := "the servers that are known stay known, and others may count this one as gone"
		if r.epoch.Load() == 0 {
			what = "this process is not registered (settings registry.redis and redis.addrs)"
		}
		r.opt.Log.Warn("the registry in Redis does not work: "+what, "operation", operation,
			"redis", r.at(), "err", err)
	case ended > 0:
		r.opt.Log.Info("the registry in Redis works again",
			"after", ended.Round(time.Millisecond))
	}
}

// tellMalformed logs the first values that are no records. Used by one goroutine of Watch.
func (r *Registry) tellMalformed(c contents) {
	if c.long+c.malformed > 0 && !r.malformed {
		r.malformed = true
		r.opt.Log.Warn("the registry holds values that are no servers, they are ignored",
			"key", Key, "too_long", c.long, "malformed", c.malformed, "err",
			c.refusal())
	}
}

// at returns the addresses of Redis.
func (r *Registry) at() string { return strings.Join(r.opt.Redis.Addrs, ",") }

// State returns nil while Redis answers and this process is registered, and otherwise why not.
func (r *Registry) State() error {
	if operation, lasts, err := r.health.First(operations); err != nil {
		return fmt.Errorf("the registry in Redis at %s has not worked for %v: %s: %w", r.at(),
			lasts.Round(time.Second), operation, err)
	}
	if r.epoch.Load() == 0 {
		return errStarting
	}
	return nil
}

// metrics are those of the registry.
type metrics struct {
	failures, refused *prometheus.CounterVec
	lapses            prometheus.Counter
}

// newMetrics makes the metrics, and registers them if there is a registerer.
func newMetrics(o Options, r *Registry) *metrics {
	const prefix = "teamtalk_registry_"
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help},
			[]string{label})
	}
	m := &metrics{
		failures: vec("failures_total", "Failed calls to the registry in Redis: renew (of the "+
			"lease) or poll (of the other servers).", "operation"),
		refused: vec("refused_total", "Values in the registry that are no records of servers and "+
			"were ignored, at each poll.", "reason"),
		lapses: prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "lapses_total",
			Help: "Roles of this process that were not registered any more at a renewal: the " +
				"lease had ended, or Redis has lost it."}),
	}
	if o.Registerer == nil {
		return m
	}
	for _, operation := range operations {
		m.failures.WithLabelValues(operation)
	}
	gauge := func(name, help string, labels prometheus.Labels,
		f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help,
			ConstLabels: labels}, f)
	}
	o.Registerer.MustRegister(m.failures, m.refused, m.lapses,
		gauge("up", "1 while the registry in Redis answers and this process is registered.", nil,
			func() float64 {
				if r.State() == nil {
					return 1
				}
				return 0
			}),
		gauge("epoch", "Epoch of this process, 0 before it is registered.", nil,
			func() float64 { return float64(r.Epoch()) }))
	for _, role := range o.Roles {
		o.Registerer.MustRegister(gauge("nodes", "Servers of a role that are known to be alive.",
			prometheus.Labels{"role": role},
			func() float64 { return float64(r.view.Count(role)) }))
	}
	return m
}
