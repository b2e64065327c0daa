// Package rate limits how often something may be done.
package rate

import "time"

// Bucket is a token bucket. The zero value is a full one. It is not safe for concurrent use.
type Bucket struct {
	tokens float64
	last   int64 // unix milliseconds; 0: never used
}

// Take takes a token and reports whether there was one. The bucket gains rate tokens a second
// and holds at most burst.
func (b *Bucket) Take(now time.Time, rate, burst float64) bool {
	ms := now.UnixMilli()
	if b.last == 0 {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+float64(max(0, ms-b.last))*rate/1000)
	}
	b.last = ms
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
