package bench

import "math"

// plan is when a run does what, in nanoseconds since 1970, the same for all generators. All of it is whole microseconds, as stamps are, so that what is due
// counts for the one who sends just as for those who receive.
type plan struct {
	Start int64 `json:"start"` // traffic begins
	Begin int64 `json:"begin"` // counting begins
	End   int64 `json:"end"`   // counting and traffic end
	// Skew is how much the clock of this generator is ahead of the one that stamps are written by.
	Skew int64 `json:"skew,omitempty"`
}

// second is the length of an interval.
const second = int64(1e9)

// counts reports whether what was due then is counted.
func (p *plan) counts(due int64) bool { return due >= p.Begin && due < p.End }

// whole cuts nanoseconds to whole microseconds.
func whole(nanos int64) int64 { return nanos - nanos%1000 }

// boundary is the end of an interval, by its number: every second before and after counting begins, and when it ends.
func (p *plan) boundary(i int) int64 {
	warmup := (p.Begin - p.Start + second - 1) / second // intervals before counting; the first may be short
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

// pace spaces out what starts on a schedule.
type pace struct {
	gap     float64 // nanoseconds, on average
	poisson bool
	next    float64 // since the start
}

// newPace is the schedule for a rate, which is a share of the whole. phase, from 0 to 1, is where in its gaps it begins, so that those who share take turns.
func newPace(rate, phase float64, poisson bool) pace {
	p := pace{gap: 1e9 / rate, poisson: poisson}
	if !poisson {
		p.next = p.gap * phase
	}
	return p
}

// step returns when the next is due, since the start, and goes on to the one after it. draw is a random number of exponential distribution with mean 1.
func (p *pace) step(draw func() float64) int64 {
	if p.poisson {
		p.next += p.gap * draw()
		return int64(p.next)
	}
	due := p.next
	p.next += p.gap
	return int64(due)
}

// never is later than everything.
const never = math.MaxInt64
