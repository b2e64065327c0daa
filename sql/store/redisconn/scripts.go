package redisconn

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Run is one run of a script in a pipeline.
type Run struct {
	Script *redis.Script
	Keys   []string
	Args   []any
	Answer *redis.Cmd // set by RunAll
}

// RunAll is RunWithin without further commands.
func RunAll(ctx context.Context, client redis.UniversalClient, runs []*Run) {
	none := func(redis.Pipeliner) {}
	RunWithin(ctx, client, runs, none, none)
}

// RunWithin runs scripts in one pipeline, after the commands that before adds to it,
// and before those that after adds. When scripts are sent again, so are the commands. Each
// run has its own answer, and one that fails
// does not keep the others from running: in a cluster their keys are on several servers.
// A server that does not know a script, as after a failover, gets its text.
func RunWithin(ctx context.Context, client redis.UniversalClient, runs []*Run,
	before, after func(p redis.Pipeliner)) {
	for _, byHash := range []bool{true, false} {
		if len(runs) == 0 {
			return
		}
		// The error of the pipeline is that of its first failed command. Each command has
		// its own.
		_, _ = client.Pipelined(ctx, func(p redis.Pipeliner) error {
			before(p)
			for _, r := range runs {
				if byHash {
					r.Answer = r.Script.EvalSha(ctx, p, r.Keys, r.Args...)
				} else {
					r.Answer = r.Script.Eval(ctx, p, r.Keys, r.Args...)
				}
			}
			after(p)
			return nil
		})
		runs = slices.DeleteFunc(slices.Clone(runs), func(r *Run) bool {
			return !redis.HasErrorPrefix(r.Answer.Err(), "NOSCRIPT")
		})
	}
}

// FirstError returns the first error of runs.
func FirstError(runs []*Run) error {
	for _, r := range runs {
		if err := r.Answer.Err(); err != nil {
			return err
		}
	}
	return nil
}
