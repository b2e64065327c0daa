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
	at := mono.Of(now)
	if b.last == 0 {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+time.Duration(max(0, at-b.last)).Seconds()*rate)
	}
	b.last = at
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
