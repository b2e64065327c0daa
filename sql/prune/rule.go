package prune

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/backoff"
	"teamtalk/core/daily"
	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/core/opt"
)

const (
	// lookEvery is the interval at which a process looks whether a run that is due, and that
	// another process has begun, was finished.
	lookEvery = time.Minute
	// againAfter is the pause after a run that failed.
	againAfter = 10 * time.Minute
	// pauseOf is the shortest pause of a rule after a step.
	pauseOf = 100 * time.Millisecond
	// ahead is how far the time of the last run may be ahead of this process's clock. A time
	// further ahead is of a clock that was wrong, and counts as none.
	ahead = time.Hour
	// release is the longest time to give the lease up while the process ends.
	release = 500 * time.Millisecond
)

// Files are the files of sounds, open for one run.
type Files interface {
	// Delete deletes files by Audio.Path. A file that does not exist is no error.
	Delete(ctx context.Context, paths []string) error
	// Found returns how many files were deleted, and how many were not found on this machine.
	Found() (deleted, left int)
	Close()
}

// RuleOptions configures a Rule.
type RuleOptions struct {
	Store Store         // required
	Turns im.PruneTurns // the runs of all processes; required
	// Age is the age from which on messages are deleted, at least im.MinPruneAge. Required.
	Age   time.Duration
	Hours daily.Hours // in which runs happen
	// Now returns the time of the store, by which the age is counted. Required.
	Now func() time.Time
	// Files opens the files of sounds for a run. nil: they stay.
	Files      func() (Files, error)
	Log        *slog.Logger          // required
	Registerer prometheus.Registerer // nil: none

	look, again, pause time.Duration    // 0: the constants
	clock              func() time.Time // nil: mono.Now
}

// Rule keeps a rule about the age of messages: it deletes those that are older, once a day, in
// small steps, and in one process at a time. Make one with NewRule.
//
// A run is due when a day has passed since the last finished one, or when the hours of the rule
// have begun since then. What ends a run early (the end of the hours, of the process, an error)
// leaves it due, and the next run does the rest. Processes of one store share a lease and the time
// of the last run (im.PruneTurns).
type Rule struct {
	opt     RuleOptions
	metrics ruleMetrics
	last    time.Time // end of the last finished run, as far as this process knows
}

// NewRule makes a Rule.
func NewRule(o RuleOptions) *Rule {
	opt.Require("prune.Age", int64(o.Age))
	opt.Default(&o.look, lookEvery)
	opt.Default(&o.again, againAfter)
	opt.Default(&o.pause, pauseOf)
	if o.clock == nil {
		o.clock = mono.Now
	}
	r := &Rule{opt: o}
	r.metrics = newRuleMetrics(o.Registerer, o.clock)
	return r
}

// Run keeps the rule until ctx ends. It returns within a second.
func (r *Rule) Run(ctx context.Context) {
	// Processes that were started together do not ask for the lease in the same moment.
	wait := time.Duration(rand.Float64() * float64(min(r.opt.look, time.Second)))
	for backoff.Sleep(ctx, wait) == nil {
		wait = r.turn(ctx)
	}
}

// turn does a run when one is due, and returns the time until the next look.
func (r *Rule) turn(ctx context.Context) time.Duration {
	now := r.opt.clock()
	if wait := r.untilDue(now); wait > 0 {
		return min(wait, time.Hour) // the wall clock may step
	}
	result, err := r.once(ctx, now)
	if result != "" {
		r.metrics.runs.WithLabelValues(result).Inc()
	}
	if result == failed {
		r.opt.Log.Error("old messages are not deleted (setting dbproxy.message_expiry); the next "+
			"attempt follows", "role", "dbproxy", "again_in", r.opt.again, "err", err)
		return r.opt.again
	}
	return r.opt.look
}

// untilDue returns the time until the next run, by what this process knows of the last one.
func (r *Rule) untilDue(now time.Time) time.Duration {
	if r.opt.Hours.Whole() {
		if r.last.IsZero() {
			return 0
		}
		return r.last.Add(24 * time.Hour).Sub(now)
	}
	begin, end := r.opt.Hours.Latest(now)
	if now.Before(end) && r.last.Before(begin) {
		return 0
	}
	return r.opt.Hours.Next(now).Sub(now)
}

// once reads when the last run was, and does one when it is due and no other process does it.
// The result is "" when none was due.
func (r *Rule) once(ctx context.Context, now time.Time) (result string, err error) {
	if err := r.learn(ctx, now); err != nil {
		return ended(ctx, err), err
	}
	if r.untilDue(now) > 0 {
		return "", nil
	}
	turn, err := r.opt.Turns.TakePruning(ctx)
	if err != nil {
		return ended(ctx, err), err
	}
	if turn == nil {
		return passed, nil
	}
	defer func() {
		// The end of the process must not keep another one from the rest.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), release)
		defer cancel()
		_ = turn.Release(ctx) // it ends by itself
	}()
	// The process before may have finished between the two questions.
	if err := r.learn(ctx, now); err != nil || r.untilDue(now) > 0 {
		return ended(ctx, err), err
	}
	return r.run(ctx, turn, now)
}

// learn reads the end of the last finished run.
func (r *Rule) learn(ctx context.Context, now time.Time) error {
	at, err := r.opt.Turns.LastPruned(ctx)
	if err != nil {
		return err
	}
	r.last = time.Time{}
	if t := time.Unix(at, 0); at > 0 && t.Before(now.Add(ahead)) {
		r.last = t
		r.metrics.end(t)
	}
	return nil
}

// run deletes what is old, and records that when it is finished.
func (r *Rule) run(ctx context.Context, turn im.PruneTurn, now time.Time) (string, error) {
	_, end := r.opt.Hours.Latest(now)
	within, cancel := context.WithTimeout(ctx, end.Sub(now))
	defer cancel()
	o := Options{Before: uint32(r.opt.Now().Add(-r.opt.Age).Unix()), Apply: true,
		Pause: r.opt.pause, SkipFiles: true, Step: turn.Keep,
		Deleted: r.metrics.count}
	var files Files
	if r.opt.Files != nil {
		var err error
		if files, err = r.opt.Files(); err != nil {
			return failed, err
		}
		defer files.Close()
		o.Sounds = files.Delete
	}
	began := r.opt.clock()
	done, err := Run(within, r.opt.Store, o)
	result := finished
	if err != nil {
		if result = ended(within, err); result == failed && done == (Report{}) {
			return failed, err
		}
	} else {
		at := r.opt.clock()
		if err := r.opt.Turns.SetPruned(ctx, at); err != nil {
			return ended(ctx, err), err
		}
		r.last = at
		r.metrics.end(at)
	}
	r.report(result, &done, files, r.opt.clock().Sub(began))
	return result, err
}

// ended returns the result of a run that ended with err: paused at the end of the process or
// of the hours, and "" without an error.
func ended(ctx context.Context, err error) string {
	switch {
	case err == nil:
		return ""
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) ||
		errors.Is(err, context.DeadlineExceeded) || im.KindOf(err) == im.Unavailable):
		return paused
	}
	return failed
}

// report logs a run.
func (r *Rule) report(result string, d *Report, files Files, took time.Duration) {
	text := "old messages are deleted"
	if result != finished {
		text = "a part of the old messages is deleted, the next run does the rest"
	}
	args := []any{"role", "dbproxy", "older_than", r.opt.Age,
		"texts", d.Texts.Messages + d.GroupTexts.Messages,
		"sounds", d.Sounds.Messages + d.GroupSounds.Messages,
		"bytes", d.Texts.Bytes + d.GroupTexts.Bytes + d.Sounds.Bytes + d.GroupSounds.Bytes,
		"busy_conversations", d.Busy, "took", took.Round(time.Millisecond)}
	if files != nil {
		deleted, left := files.Found()
		args = append(args, "files", deleted, "files_not_here", left)
	}
	r.opt.Log.Info(text, args...)
}
