// Package backoff says how long to pause before the next attempt to reach a server. Links between
// servers and clients use the same formula.
//
// A server that has just gone is mostly restarted, and its peers should be served again within a
// second of its return. A server that stays away should cost little. So the pauses depend on how
// long the server has been away: short at first, one fixed length while the outage is recent, and
// longer and longer after that.
package backoff

import "time"

// Policy is a schedule of pauses. All fields must be positive.
type Policy struct {
	// First is the pause after the first failure. Each further failure doubles it, up to Recent.
	First time.Duration
	// Recent is the longest pause while the outage is younger than Fresh.
	Recent time.Duration
	// Fresh is how long an outage counts as recent. After it the pause grows by a quarter of the
	// time that has passed since: with Recent 1 s and Fresh 30 s it is 8.5 s after a minute.
	Fresh time.Duration
	// Max is the longest pause.
	Max time.Duration
	// Spread is the part of each pause that is random, from 0 to 1. With 1, a crowd of clients
	// that lost one server at the same moment comes back evenly over the whole pause.
	Spread float64
}

// Delay returns the pause before the next attempt: failures is the number of failed attempts
// since the outage began, away is how long ago that was, and random is a number in [0, 1).
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
