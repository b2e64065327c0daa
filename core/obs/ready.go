package obs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// DefaultCheckTimeout is the time after which a check counts as failed.
const DefaultCheckTimeout = 2 * time.Second

// Check returns nil when a part of the process is ready, and otherwise the reason. It
// should end when ctx ends. A check that does not is left running, and is not started
// again before it has ended. ctx is independent of the request.
type Check func(ctx context.Context) error

// Degraded marks the reason why a part is not ready as one that does not keep the process
// from its work. The report names it, and the process stays ready. nil stays nil.
func Degraded(err error) error {
	if err == nil {
		return nil
	}
	return degraded{err}
}

type degraded struct{ error }

func (d degraded) Error() string { return "degraded: " + d.error.Error() }

func (d degraded) Unwrap() error { return d.error }

// Ready collects the checks that decide whether a process can do its work. A process
// without an entry is not ready, because it has not started its parts yet. Any goroutine.
type Ready struct {
	timeout time.Duration

	mu     sync.Mutex
	checks map[string]*entry
}

// entry is a check with its run.
type entry struct {
	run     Check
	current *run // the run that has not ended yet; nil without one; guarded by Ready.mu
}

// run is one run of a check. All requests that arrive while it runs get its result.
type run struct {
	done chan struct{}
	err  error // valid after done
}

// NewReady makes an empty collection. Each check may take timeout; 0:
// DefaultCheckTimeout.
func NewReady(timeout time.Duration) *Ready {
	if timeout <= 0 {
		timeout = DefaultCheckTimeout
	}
	return &Ready{timeout: timeout, checks: map[string]*entry{}}
}

// Add adds a check that runs on each request. The answer shows it under name ("store",
// "msg listener"). It replaces an entry of the same name.
func (r *Ready) Add(name string, run Check) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks[name] = &entry{run: run}
}

// Set adds a state that needs no check: nil when the part is ready, and otherwise the
// reason. A process sets "start" to an error when it starts, and to nil when it serves.
func (r *Ready) Set(name string, state error) {
	r.Add(name, func(context.Context) error { return state })
}

// Remove removes an entry.
func (r *Ready) Remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.checks, name)
}

// Report is the result of one round of checks.
type Report struct {
	Ready  bool              `json:"ready"`
	Checks map[string]string `json:"checks"` // by name: "ok", "degraded: …", or the reason
}

// Check runs all checks concurrently. It returns when the last one has ended, after the
// timeout of a check, or when ctx ends, whichever is first.
func (r *Ready) Check(ctx context.Context) Report {
	ready, errs := r.check(ctx)
	report := Report{Ready: ready, Checks: make(map[string]string, len(errs))}
	for name, err := range errs {
		report.Checks[name] = stateOK
		if err != nil {
			report.Checks[name] = err.Error()
		}
	}
	return report
}

// check is Check, with the error of each check.
func (r *Ready) check(ctx context.Context) (ready bool, errs map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	runs := r.start()
	ready, errs = len(runs) > 0, make(map[string]error, len(runs))
	for name, run := range runs {
		err := run.wait(ctx)
		ready, errs[name] = ready && stateOf(err) != stateFailed, err
	}
	return ready, errs
}

var errNoAnswer = errors.New("no answer in time")

// wait returns the run's result, and errNoAnswer when ctx ends first. A result that
// exists counts even after the end of ctx, so that a slow check does not make the others
// look slow.
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

// start starts every check that is not running, and returns the runs by name.
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

func (r *Ready) runCheck(c *entry, current *run) {
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	current.err = protect(ctx, c.run)
	r.mu.Lock()
	c.current = nil
	r.mu.Unlock()
	close(current.done)
}

// protect runs a check. A panic is a failure of the check.
func protect(ctx context.Context, run Check) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New(fmt.Sprint("panic: ", p))
		}
	}()
	return run(ctx)
}
