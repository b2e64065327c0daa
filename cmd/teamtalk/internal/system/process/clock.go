// Package process adapts a process to its machine: it returns memory to the system after
// bursts, gives the event loops processors of their own, and steps the wall clock where faults
// are measured.
package process

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"teamtalk/core/backoff"
	"teamtalk/core/mono"
)

// clockFile is the environment variable with the name of a file that steps the wall clock of
// this process. It is no setting: only measurements of faults set it (bench faults). The
// file has a duration, such as "-2h0m0s", and the process writes the duration that is in
// force to the file with the suffix ".seen".
const clockFile = "TEAMTALK_BENCH_CLOCK_FILE"

// clockPause is the pause between two looks at the file.
const clockPause = 20 * time.Millisecond

// FollowClock steps the wall clock as the file says, until the returned function is called.
func FollowClock(log *slog.Logger) (stop func()) {
	path := os.Getenv(clockFile)
	if path == "" {
		return func() {}
	}
	log.Warn("a file steps the clock of this process: unset the variable, unless faults are "+
		"measured", "variable", clockFile, "file", path)
	var seen string
	look := func() {
		text, err := os.ReadFile(path)
		if err != nil || string(text) == seen {
			return // there is no file until the first step
		}
		seen = string(text)
		d, err := time.ParseDuration(strings.TrimSpace(seen))
		if err != nil || d%time.Second != 0 {
			log.Warn("the clock is not stepped: want a duration in whole seconds", "got", seen)
			return
		}
		mono.StepWall(d)
		log.Info("the wall clock of this process is stepped", "by", d)
		if err := os.WriteFile(path+".seen", text, 0o600); err != nil {
			log.Warn("the step of the clock is not confirmed", "err", err)
		}
	}
	look()
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() {
		for backoff.Sleep(ctx, clockPause) == nil {
			look()
		}
	})
	return func() {
		cancel()
		following.Wait()
	}
}
