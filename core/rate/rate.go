// Package rate limits how often something may be done.
package rate

import (
	"time"

	"teamtalk/core/mono"
)

// Bucket is a token bucket. The zero value is a full one. It is not safe for concurrent use.
type Bucket struct {
	tokens float64
	last   int64 // mono.Of of the last Take; 0: never used
}

// Take takes a token and reports whether there was one. The bucket gains rate tokens a second
// and holds at most burst.
func (b *Bucket) Take(now time.Time, rate, burst float64) bool {
	return b.TakeN(now, 1, rate, burst)
}

// TakeN takes n tokens, at most burst, and reports whether there were as many. If not, it
// takes none.
func (b *Bucket) TakeN(now time.Time, n, rate, burst float64) bool {
	at := mono.Of(now)
	if b.last == 0 {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+time.Duration(max(0, at-b.last)).Seconds()*rate)
	}
	b.last = at
	if b.tokens < n {
		return false
	}
	b.tokens -= n
	return true
}

// Spend takes n tokens that the bucket may not have. Take then fails until it has gained
// them. It has no effect on a bucket that was never used.
func (b *Bucket) Spend(n float64) { b.tokens -= n }
