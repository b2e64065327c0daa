package deploy

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Role is a process of a deployment. It keeps its addresses when it is started again. Any
// goroutine.
type Role struct {
	Kind string // such as "msg"
	Name string // such as "msg2"

	program string
	args    []string
	dir     string // for its log
	addr    string // of a Redis, a Sentinel or a MariaDB; empty: not needed
	path    string // a folder for PATH; empty: none
	clock   string // the file that steps its wall clock; empty: it has none
	ready   func(context.Context) error
	first   []string                 // arguments of the first start only
	again   func() ([]string, error) // returns those of each other start; nil: none

	mu   sync.Mutex // guards the following fields
	cmd  *exec.Cmd  // nil while the process does not run
	done chan struct{}
	runs int // starts
}

// Log returns the path of the log.
func (r *Role) Log() string { return filepath.Join(r.dir, r.Name+".log") }

// Start starts the process, unless it runs. It does not wait until the process is ready.
func (r *Role) Start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running() {
		return nil
	}
	args := append(slices.Clone(r.args), r.first...)
	if r.runs > 0 {
		args = slices.Clone(r.args)
		if r.again != nil {
			more, err := r.again()
			if err != nil {
				return fmt.Errorf("start %s: %w", r.Name, err)
			}
			args = append(args, more...)
		}
	}
	log, err := os.OpenFile(r.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(r.program, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = r.dir, environment(), log, log
	if r.path != "" {
		cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH")+string(os.PathListSeparator)+r.path)
	}
	if r.clock != "" {
		cmd.Env = append(cmd.Env, "TEAMTALK_BENCH_CLOCK_FILE="+r.clock)
	}
	if err := startBound(cmd); err != nil {
		return fmt.Errorf("start %s: %w", r.Name, err)
	}
	done := make(chan struct{})
	r.cmd, r.done = cmd, done
	r.runs++
	go func() {
		_ = cmd.Wait() // the caller of Kill knows the reason; of another end the log tells
		close(done)
	}()
	return nil
}

// running reports whether the process runs. The caller holds r.mu.
func (r *Role) running() bool {
	if r.cmd == nil {
		return false
	}
	select {
	case <-r.done:
		return false
	default:
		return true
	}
}

// Running reports whether the process runs.
func (r *Role) Running() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running()
}

// Kill ends the process with SIGKILL, as a power failure would, and waits for its end.
func (r *Role) Kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cmd != nil {
		_ = r.cmd.Process.Kill() // fails when it has ended
		<-r.done
	}
}

// Terminate ends the process with SIGTERM, as an operator does, and waits for its end. A
// process that has not ended when ctx ends is killed, and an error is returned. So it is
// for another exit code than 0.
func (r *Role) Terminate(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.running() {
		return fmt.Errorf("%s does not run", r.Name)
	}
	if err := signalTerminate(r.cmd.Process); err != nil {
		return err
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		_ = r.cmd.Process.Kill()
		<-r.done
		return fmt.Errorf("%s did not end after SIGTERM", r.Name)
	}
	if code := r.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s: exit code %d after SIGTERM", r.Name, code)
	}
	return nil
}

// Stop stops the process with SIGSTOP, until Continue.
func (r *Role) Stop() error { return r.signal(signalStop) }

// Continue continues a stopped process.
func (r *Role) Continue() error { return r.signal(signalContinue) }

func (r *Role) signal(send func(*os.Process) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.running() {
		return fmt.Errorf("%s does not run", r.Name)
	}
	return send(r.cmd.Process)
}

// StepClock steps the wall clock of the process by d, counted from the clock of this
// machine, and returns when the process uses it. d is in whole seconds; 0 ends the step.
func (r *Role) StepClock(ctx context.Context, d time.Duration) error {
	if r.clock == "" {
		return fmt.Errorf("the clock of %s cannot be stepped", r.Name)
	}
	next := r.clock + ".next"
	if err := os.WriteFile(next, []byte(d.String()), 0o600); err != nil {
		return err
	}
	if err := os.Rename(next, r.clock); err != nil {
		return err
	}
	return await(ctx, func() error {
		seen, err := os.ReadFile(r.clock + ".seen")
		if err == nil && string(seen) != d.String() {
			err = fmt.Errorf("the clock of %s is stepped by %s", r.Name, seen)
		}
		return err
	})
}

// pollPause is the pause between two questions whether a process is ready. No event
// reports it.
const pollPause = 10 * time.Millisecond

// AwaitReady waits until the process reports that it is ready. It returns an error when
// the process has ended or ctx ends.
func (r *Role) AwaitReady(ctx context.Context) error {
	for {
		running := r.Running()
		err := r.ready(ctx)
		switch {
		case err == nil:
			return nil
		case !running:
			return fmt.Errorf("%s ended: see %s", r.Name, r.Log())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%w): see %s", r.Name, err, r.Log())
		case <-time.After(pollPause):
		}
	}
}

// admins is an HTTP client that keeps no connection open: a server that stops would wait
// for it.
var admins = &http.Client{Timeout: 10 * time.Second,
	Transport: &http.Transport{DisableKeepAlives: true}}

// readyz returns nil when the server with an admin port reports that it is ready.
func readyz(ctx context.Context, admin string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := admins.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}
