package rediswhereabouts

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The operations, whose errors are told apart.
const (
	opApply  = "apply"
	opLookup = "lookup"
	opRemove = "remove"
	opMark   = "mark"
	opUnmark = "unmark"
	opWatch  = "watch"
)

// operations are the operations in the order in which State looks at them.
var operations = []string{opWatch, opApply, opLookup, opRemove, opMark, opUnmark}

// errStarting is the state of a process that has not looked at Redis yet.
var errStarting = errors.New("this process has not reached Redis yet")

// note notes the result of an operation. An error of one user alone is none.
func (s *Store) note(operation string, err error) {
	switch begins, ended := s.health.Set(operation, err); {
	case begins:
		s.opt.Log.Warn("the whereabouts in Redis do not work: other servers may not know which "+
			"users are here, and this one may not know which are there", "operation", operation,
			"err", err)
	case ended > 0:
		s.opt.Log.Info("the whereabouts in Redis work again",
			"after", ended.Round(time.Millisecond))
	}
}

// State returns nil while Redis answers, and otherwise why not. It is an error until Watch has
// looked at Redis.
func (s *Store) State() error {
	switch operation, lasts, err := s.health.First(operations); {
	case err == nil || err == errStarting:
		return err
	default:
		return fmt.Errorf("the whereabouts in Redis have not worked for %v: %s: %w",
			lasts.Round(time.Second), operation, err)
	}
}

// metrics are those of the whereabouts.
type metrics struct {
	users, failures, refused *prometheus.CounterVec
	seconds                  *prometheus.HistogramVec
	losses                   prometheus.Counter
}

// newMetrics makes the metrics, and registers them if there is a registerer.
func newMetrics(o Options, s *Store) *metrics {
	const prefix = "teamtalk_whereabouts_"
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help},
			[]string{label})
	}
	m := &metrics{
		users: vec("users_total", "Users whose whereabouts in Redis were written (apply) or "+
			"cleared of servers that ended (remove), groups that were marked as having a member "+
			"at a server (mark) or no longer (unmark), and users and groups that were read "+
			"(lookup).", "operation"),
		failures: vec("failures_total", "Users and groups that could not be written, read or "+
			"cleared, and looks for losses that failed (watch).", "operation"),
		refused: vec("refused_total", "Values in the whereabouts that are no entries and were "+
			"ignored, each time they were read.", "reason"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "seconds",
			Help:    "Time of a pipeline to Redis with the whereabouts of one or more users.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16)}, []string{"operation"}),
		losses: prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "losses_total",
			Help: "Times that Redis may have lost whereabouts, so that this process wrote all " +
				"of its users again. The first look at Redis counts."}),
	}
	if o.Registerer == nil {
		return m
	}
	for _, operation := range operations {
		m.failures.WithLabelValues(operation)
	}
	o.Registerer.MustRegister(m.users, m.failures, m.refused, m.seconds, m.losses,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + "up",
			Help: "1 while the whereabouts in Redis answer."}, func() float64 {
			if s.State() == nil {
				return 1
			}
			return 0
		}))
	return m
}
