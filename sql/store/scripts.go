package store

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// scriptRun is one run of a script in a pipeline.
type scriptRun struct {
	script *redis.Script
	keys   []string
	args   []any
	answer *redis.Cmd // set by runScripts
}

// runScripts is runScriptsWithin without further commands.
func runScripts(ctx context.Context, client redis.UniversalClient, runs []*scriptRun) {
	none := func(redis.Pipeliner) {}
	runScriptsWithin(ctx, client, runs, none, none)
}

// runScriptsWithin runs scripts in one pipeline, after the commands that before adds to it,
// and before those that after adds. When scripts are sent again, so are the commands. Each
// run has its own answer, and one that fails
// does not keep the others from running: in a cluster their keys are on several servers.
// A server that does not know a script, as after a failover, gets its text.
func runScriptsWithin(ctx context.Context, client redis.UniversalClient, runs []*scriptRun,
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
					r.answer = r.script.EvalSha(ctx, p, r.keys, r.args...)
				} else {
					r.answer = r.script.Eval(ctx, p, r.keys, r.args...)
				}
			}
			after(p)
			return nil
		})
		runs = slices.DeleteFunc(slices.Clone(runs), func(r *scriptRun) bool {
			return !redis.HasErrorPrefix(r.answer.Err(), "NOSCRIPT")
		})
	}
}

// scriptErr returns the first error of runs.
func scriptErr(runs []*scriptRun) error {
	for _, r := range runs {
		if err := r.answer.Err(); err != nil {
			return err
		}
	}
	return nil
}
