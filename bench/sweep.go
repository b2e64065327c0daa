package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// SweepVersion is the value of Sweep.Version. It grows when a field changes its meaning.
const SweepVersion = 1

// SweepOptions configure RunSweep.
type SweepOptions struct {
	// Of is the bounded latency, by its name in Result.Latencies. Default: "ack".
	Of string
	// Under bounds the 99th percentile of it. Required.
	Under time.Duration
	// Total must keep up with the rate, by its name in Result.Totals. Default: "acked".
	Total string
	// Asked, when set, is the total that Total must keep up with, for scenarios whose
	// rate counts other events too: texts are only a part of a company's day. Default:
	// the rate.
	Asked string
	// From is the first rate, To the highest one tried, a second. Both are required.
	From, To float64
	// Step is added to the rate for the next run, or Factor multiplies it. Only one may
	// be set. Default: a Factor of 1.5.
	Step, Factor float64
	// Within ends the search between the last rate that held and the first that did not,
	// once their distance is less than this share of the lower one. Default: 0.05.
	Within float64
	// Before is called before each step, Done after it. Both may be nil.
	Before func(number int, rate float64)
	Done   func(*SweepStep)
}

// Sweep is the outcome of runs at growing rates, as it is kept in a JSON file.
type Sweep struct {
	Version int     `json:"version"`
	Of      string  `json:"of"`              // the bounded latency
	UnderMS float64 `json:"under_ms"`        // the bound of its 99th percentile
	Total   string  `json:"total"`           // the total that must keep up with the rate
	Asked   string  `json:"asked,omitempty"` // the total to keep up with in place of the rate
	From    float64 `json:"from"`
	To      float64 `json:"to"`
	// Knee is the highest rate that held, a second; 0 when none did.
	Knee float64 `json:"knee"`
	// Open is set when the knee may be higher: all rates held, or the sweep ended early.
	Open bool `json:"open"`
	// Ended says in words why no higher rate was tried.
	Ended string `json:"ended"`
	// Steps are the runs in the order in which they were made.
	Steps []SweepStep `json:"steps"`
}

// SweepStep is one run of a sweep.
type SweepStep struct {
	Rate   float64 `json:"rate"`  // offered, a second
	Done   float64 `json:"done"`  // of Sweep.Total, a second
	P99    float64 `json:"p99"`   // of Sweep.Of, in milliseconds
	Holds  bool    `json:"holds"` // clean, keeping up, and under the bound
	Why    string  `json:"why,omitempty"`
	Result *Result `json:"result"`
}

// keepsUp is the share of the offered rate that must be reached.
const keepsUp = 0.95

// sweepSteps bounds the runs of a sweep, in case the range is set wrong.
const sweepSteps = 200

// Validate returns an error for invalid options.
func (o SweepOptions) Validate() error { return o.defaults() }

func (o *SweepOptions) defaults() error {
	if o.Of == "" {
		o.Of = "ack"
	}
	if o.Total == "" {
		o.Total = "acked"
	}
	if o.Step == 0 && o.Factor == 0 {
		o.Factor = 1.5
	}
	if o.Within == 0 {
		o.Within = 0.05
	}
	finite := func(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
	switch {
	case o.Under <= 0:
		return errors.New("sweep: a bound of the 99th percentile is required, more than 0")
	case !(o.From > 0) || !(o.To >= o.From) || !finite(o.To):
		return fmt.Errorf("sweep: rates from %g to %g: want rates above 0, the second not below "+
			"the first", o.From, o.To)
	case o.Step != 0 && o.Factor != 0:
		return errors.New("sweep: want a step or a factor, not both")
	case o.Step < 0 || !finite(o.Step):
		return fmt.Errorf("sweep: step is %g, want more than 0", o.Step)
	case o.Step == 0 && (!(o.Factor > 1) || !finite(o.Factor)):
		return fmt.Errorf("sweep: factor is %g, want more than 1", o.Factor)
	case !(o.Within > 0 && o.Within < 1):
		return fmt.Errorf("sweep: precision is %g, want a share between 0 and 1", o.Within)
	}
	return nil
}

// RunSweep finds the knee: the highest rate at which the 99th percentile of a latency
// stays under a bound, all checks pass, and the servers keep up with the rate. It makes
// runs at growing rates until one does not hold, then halves the gap between that one and
// the last that held.
//
// run makes one run with its own warm-up. A rate does not hold when its result is not
// clean, when less than 95 % of it is reached, or when the percentile reaches the bound.
// When the generator cannot keep up the sweep ends, because it cannot load the servers
// further.
//
// When ctx ends or run fails, RunSweep returns the steps so far with the error. A result
// that comes with an error is not counted.
func RunSweep(ctx context.Context, o SweepOptions,
	run func(ctx context.Context, rate float64) (*Result, error)) (*Sweep, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	s := &Sweep{
		Version: SweepVersion, Of: o.Of, UnderMS: float64(o.Under) / float64(time.Millisecond),
		Total: o.Total, Asked: o.Asked, From: o.From, To: o.To,
		Open: true, Ended: "ended early",
	}
	fails, err := s.climb(ctx, &o, run)
	if err != nil || fails == 0 {
		return s, err
	}
	return s, s.narrow(ctx, &o, fails, run)
}

// climb makes steps until one does not hold, and returns its rate; 0 when there is no gap
// to narrow.
func (s *Sweep) climb(ctx context.Context, o *SweepOptions,
	run func(context.Context, float64) (*Result, error)) (float64, error) {
	for rate := o.From; ; rate = min(o.To, even(max(rate+o.Step, rate*max(1, o.Factor)))) {
		step, err := s.step(ctx, o, rate, run)
		switch {
		case err != nil:
			return 0, err
		case step.Result.GeneratorBound:
			s.Ended = fmt.Sprintf("at %.6g a second the generator was the limit%s: more "+
				"generators, or other machines for them, are needed to measure higher rates", rate,
				step.because())
			return 0, nil
		case !step.Holds && s.Knee == 0:
			s.Open, s.Ended = false, fmt.Sprintf("the lowest rate, %.6g, did not hold: %s", rate,
				step.Why)
			return 0, nil
		case !step.Holds:
			return rate, nil
		case rate >= o.To:
			s.Ended = "the highest rate to try held"
			return 0, nil
		case len(s.Steps) >= sweepSteps:
			s.Ended = fmt.Sprintf("%d steps were made", sweepSteps)
			return 0, nil
		}
	}
}

// even rounds rates from 100 up, where fractions do not matter.
func even(rate float64) float64 {
	if rate >= 100 {
		return math.Round(rate)
	}
	return rate
}

// narrow halves the gap between the knee so far and a rate that did not hold.
func (s *Sweep) narrow(ctx context.Context, o *SweepOptions, fails float64,
	run func(context.Context, float64) (*Result, error)) error {
	why := s.Steps[len(s.Steps)-1].Why
	for fails-s.Knee > o.Within*s.Knee {
		rate := even((s.Knee + fails) / 2)
		if rate <= s.Knee || rate >= fails {
			break
		}
		step, err := s.step(ctx, o, rate, run)
		if err != nil {
			return err
		}
		if step.Result.GeneratorBound {
			s.Ended = fmt.Sprintf("at %.6g a second the generator was the limit%s", rate,
				step.because())
			return nil
		}
		if !step.Holds {
			fails, why = rate, step.Why
		}
	}
	s.Open, s.Ended = false, fmt.Sprintf("%.6g did not hold: %s", fails, why)
	return nil
}

// step makes one run and judges it.
func (s *Sweep) step(ctx context.Context, o *SweepOptions, rate float64,
	run func(context.Context, float64) (*Result, error)) (*SweepStep, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Before != nil {
		o.Before(len(s.Steps)+1, rate)
	}
	r, err := run(ctx, rate)
	if err != nil {
		return nil, fmt.Errorf("sweep at %.6g a second: %w", rate, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err // the run was cut short
	}
	step := SweepStep{Rate: rate, P99: r.Latencies[s.Of].P99, Result: r}
	if r.Seconds > 0 {
		step.Done = float64(r.Totals[s.Total]) / r.Seconds
	}
	step.Why = s.judge(&step)
	step.Holds = step.Why == ""
	if step.Holds {
		s.Knee = max(s.Knee, rate)
	}
	s.Steps = append(s.Steps, step)
	if o.Done != nil {
		o.Done(&step)
	}
	return &step, nil
}

// because returns in brackets the reason why the generator was the limit, if it is known.
func (s *SweepStep) because() string {
	if len(s.Result.Notes) == 0 {
		return ""
	}
	return " (" + s.Result.Notes[0] + ")"
}

// judge returns the reason why a step does not hold; "" when it holds.
func (s *Sweep) judge(step *SweepStep) string {
	switch r := step.Result; {
	case !r.Checks.Clean():
		return "not clean"
	case r.GeneratorBound:
		return "generator-bound"
	case s.Asked == "" && step.Done < keepsUp*step.Rate:
		return fmt.Sprintf("%s fell to %.4g %% of the rate", s.Total, 100*step.Done/step.Rate)
	case s.Asked != "" && float64(r.Totals[s.Total]) < keepsUp*float64(r.Totals[s.Asked]):
		return fmt.Sprintf("%s fell to %.4g %% of %s", s.Total,
			100*float64(r.Totals[s.Total])/float64(r.Totals[s.Asked]), s.Asked)
	case r.Latencies[s.Of].Count == 0:
		return "no latency of " + s.Of + " was measured"
	case step.P99 >= s.UnderMS:
		return fmt.Sprintf("p99 of %s was %.4g ms", s.Of, step.P99)
	}
	return ""
}
