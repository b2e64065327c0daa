package bench

import "math"

// plan holds the times of a run, in nanoseconds since 1970, the same for all generators.
// They are whole microseconds, as stamps are, so that a message is counted alike at its
// sender and at its receivers.
type plan struct {
	Start int64 `json:"start"` // traffic starts
	Begin int64 `json:"begin"` // counting starts
	End   int64 `json:"end"`   // counting and traffic end
	// Skew is the lead of this generator's clock over the clock that stamps refer to.
	Skew int64 `json:"skew,omitempty"`
}

// second is the length of an interval.
const second = int64(1e9)

// counts reports whether an event that was due then is counted.
func (p *plan) counts(due int64) bool { return due >= p.Begin && due < p.End }

// whole cuts nanoseconds to whole microseconds.
func whole(nanos int64) int64 { return nanos - nanos%1000 }

// boundary returns the end of interval i. Intervals end every second before and after the
// start of counting, and at the end of counting.
func (p *plan) boundary(i int) int64 {
	// intervals before counting; the first may be short
	warmup := (p.Begin - p.Start + second - 1) / second
	if int64(i) < warmup {
		return p.Begin - (warmup-1-int64(i))*second
	}
	n := int64(i) - warmup
	counted := (p.End - p.Begin + second - 1) / second
	if n < counted {
		return min(p.End, p.Begin+(n+1)*second)
	}
	return p.End + (n-counted+1)*second
}

// pace spaces out events on a schedule.
type pace struct {
	gap     float64 // mean, in nanoseconds
	poisson bool
	next    float64 // since the start
}

// newPace returns the schedule for a rate, which is a share of the whole. phase, from 0
// to 1, shifts it within its gap, so that the parts of a rate alternate.
func newPace(rate, phase float64, poisson bool) pace {
	p := pace{gap: 1e9 / rate, poisson: poisson}
	if !poisson {
		p.next = p.gap * phase
	}
	return p
}

// step returns when the next event is due, since the start, and advances to the one after
// it. draw returns a random number of exponential distribution with mean 1.
func (p *pace) step(draw func() float64) int64 {
	if p.poisson {
		p.next += p.gap * draw()
		return int64(p.next)
	}
	due := p.next
	p.next += p.gap
	return int64(due)
}

// never is later than all times.
const never = math.MaxInt64
