package obs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// DefaultCheckTimeout is how long one check may take before it counts as failed.
const DefaultCheckTimeout = 2 * time.Second

// Check reports why a part is not ready, nil when it is. It should end when ctx does; one that does not is left behind, and is not
// started again before it has ended. Its context is its own: whoever asked may be gone.
type Check func(ctx context.Context) error

// Ready collects what has to work for a process to be of use. A process without a single entry is not ready: it has not got so far as to
// say what it needs. All methods may be called from many goroutines.
type Ready struct {
	timeout time.Duration

	mu     sync.Mutex
	checks map[string]*check
}

type check struct {
	run     Check
	current *run // what has not come back yet, nil without; guarded by Ready.mu
}

// run is one run of a check. Everybody who asks while it runs gets its result.
type run struct {
	done chan struct{}
	err  error // valid after done
}

// NewReady makes an empty collection whose checks may take timeout each; 0 is DefaultCheckTimeout.
func NewReady(timeout time.Duration) *Ready {
	if timeout <= 0 {
		timeout = DefaultCheckTimeout
	}
	return &Ready{timeout: timeout, checks: map[string]*check{}}
}

// Add has run asked on each request, under a name that stands in the answer ("store", "msg listener"). A name that is there already
// is replaced.
func (r *Ready) Add(name string, run Check) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks[name] = &check{run: run}
}

// Set notes a state that is known without asking: why the part is not ready, or nil. Serving begins with Set("start", an error) and ends its start with
// Set("start", nil).
func (r *Ready) Set(name string, state error) {
	r.Add(name, func(context.Context) error { return state })
}

// Remove takes a name out.
func (r *Ready) Remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.checks, name)
}

// Report is the answer of one round of checks.
type Report struct {
	Ready  bool              `json:"ready"`
	Checks map[string]string `json:"checks"` // by name: "ok", or why not
}

// Check runs all checks side by side. It returns when the slowest is done, at the latest after the time that one check may take, or when ctx
// ends.
func (r *Ready) Check(ctx context.Context) Report {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	runs := r.start()
	report := Report{Ready: len(runs) > 0, Checks: make(map[string]string, len(runs))}
	for name, run := range runs {
		report.Checks[name] = "ok"
		if err := run.wait(ctx); err != nil {
			report.Ready, report.Checks[name] = false, err.Error()
		}
	}
	return report
}

var errNoAnswer = errors.New("no answer in time")

// wait returns the run's result, errNoAnswer when ctx ends before. A result that is there counts even then: a slow check must not make
// the others look slow.
func (r *run) wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
	}
	select {
	case <-r.done:
		return r.err
	default:
		return errNoAnswer
	}
}

// start has every check running, and returns the runs by name.
func (r *Ready) start() map[string]*run {
	r.mu.Lock()
	defer r.mu.Unlock()
	runs := make(map[string]*run, len(r.checks))
	for name, c := range r.checks {
		if c.current == nil {
			c.current = &run{done: make(chan struct{})}
			go r.runCheck(c, c.current)
		}
		runs[name] = c.current
	}
	return runs
}

func (r *Ready) runCheck(c *check, current *run) {
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	current.err = protect(ctx, c.run)
	r.mu.Lock()
	c.current = nil
	r.mu.Unlock()
	close(current.done)
}

// protect runs a check; one that panics has failed.
func protect(ctx context.Context, run Check) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New(fmt.Sprint("panic: ", p))
		}
	}()
	return run(ctx)
}
