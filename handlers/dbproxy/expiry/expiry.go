// Package expiry says when db_proxy deletes offline files older than the limit, and counts
// the deleted files.
package expiry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// Every is the interval of the runs.
	Every = 24 * time.Hour
	// Again is the interval after a failed run.
	Again = time.Hour
)

// Run calls once at the intervals, until ctx ends or stopped is closed. once reports whether
// its run succeeded.
func Run(ctx context.Context, stopped <-chan struct{}, once func() bool) {
	for {
		next := Every
		if !once() {
			next = Again
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-stopped:
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// Metrics counts the runs and the deleted files.
type Metrics struct {
	Runs    *prometheus.CounterVec // by result
	Expired prometheus.Counter
}

// NewMetrics returns the metrics, registered unless reg is nil.
func NewMetrics(reg prometheus.Registerer) Metrics {
	m := Metrics{
		Runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_dbproxy_file_expiries_total",
			Help: "Runs that delete offline files older than the limit, by result: done, failed, " +
				"busy (not started)."}, []string{"result"}),
		Expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_dbproxy_files_expired_total",
			Help: "Offline files deleted by these runs, including those that were fetched."}),
	}
	if reg != nil {
		reg.MustRegister(m.Runs, m.Expired)
	}
	return m
}
