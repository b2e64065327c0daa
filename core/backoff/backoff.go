// Package backoff computes the pause before the next attempt at something that failed.
// Links between servers, clients and the pusher of notifications use the same formula.
//
// A server that stopped a moment ago is usually restarting, and its peers should be
// served again within a second of its return. A server that stays away should cost
// little. So the pauses depend on the length of the outage: they are short at first, have
// one fixed length while the outage is recent, and grow after that.
package backoff

import (
	"context"
	"time"
)

// Policy is a schedule of pauses. First, Recent, Fresh and Max must be positive.
type Policy struct {
	// First is the pause after the first failure. Each further failure doubles it, up to
	// Recent.
	First time.Duration
	// Recent is the longest pause while the outage is younger than Fresh.
	Recent time.Duration
	// Fresh is the time for which an outage counts as recent. After it, the pause is
	// Recent plus a quarter of the time since: with Recent 1 s and Fresh 30 s it is 8.5 s
	// after a minute.
	Fresh time.Duration
	// Max is the longest pause.
	Max time.Duration
	// Spread is the part of each pause that is random, from 0 to 1. With 1, a crowd of
	// clients that lost one server at the same moment returns evenly over the whole
	// pause.
	Spread float64
}

// Delay returns the pause before the next attempt. The number of failed attempts since
// the outage began is failures, and the outage began the time away ago. The number
// random, in [0, 1), selects the random part.
func (p Policy) Delay(failures int, away time.Duration, random float64) time.Duration {
	d := p.Recent
	if failures < 32 && p.First<<failures>>failures == p.First {
		d = min(d, p.First<<failures)
	}
	if away > p.Fresh {
		d = p.Recent + (away-p.Fresh)/4
	}
	d = min(d, p.Max)
	return d - time.Duration(p.Spread*random*float64(d))
}

// Doubling returns the schedule for attempts whose failures say nothing about an outage: the
// pause doubles from first to longest with each failure, and half of it is random.
func Doubling(first, longest time.Duration) Policy {
	// The pause never depends on the length of an outage, because Delay gets an away of 0.
	return Policy{First: first, Recent: longest, Fresh: time.Hour, Max: longest, Spread: 0.5}
}

// Sleep waits for d, or until ctx ends. It returns the error of ctx then.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
