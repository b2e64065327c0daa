package benchcmd

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"teamtalk/bench"
	"teamtalk/bench/proc"
	"teamtalk/bench/scenario"
)

// benchWatch watches processes during a run.
type benchWatch struct {
	names []string
	pids  []int

	watcher *proc.Watcher
}

// flags defines the flags.
func (b *benchWatch) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&b.names, "watch", nil, "more processes to watch, as name=pid, or the "+
		"name of a program (mariadbd); the measured servers on this machine, and the servers "+
		"that they are connected to, are always watched")
	f.IntSliceVar(&b.pids, "pid", nil, "more processes to watch")
}

// open finds the processes. On a system without process statistics it fails only if a
// flag names processes.
func (b *benchWatch) open(cmd *cobra.Command, s *scenario.Scenario, opt *bench.Options) error {
	watch := b.names
	for _, pid := range b.pids {
		watch = append(watch, fmt.Sprintf("pid %d=%[1]d", pid))
	}
	w, err := proc.New(proc.Options{Addrs: s.Addrs, Watch: watch, Loops: s.GeneratorLoops(),
		Log: opt.Log.With("part", "watch")})
	switch {
	case err == nil:
		b.watcher, opt.Watch = w, w
		opt.Started = b.started(opt.Started, opt.Log)
		return nil
	case errors.Is(err, proc.ErrUnavailable) && len(watch) == 0:
		fmt.Fprintf(cmd.ErrOrStderr(), "%v\n", err)
		return nil
	}
	return err
}

// started returns a function that watches the generators on this machine. It does not
// watch the process of an --agent, which only connects to the generator.
func (b *benchWatch) started(before func(string, int), log *slog.Logger) func(name string,
	pid int) {
	return func(name string, pid int) {
		if before != nil {
			before(name, pid)
		}
		if !strings.HasPrefix(name, ownGenerator) {
			return
		}
		if err := b.watcher.AddGenerator(pid); err != nil {
			log.Warn("a generator is not watched", "err", err)
		}
	}
}

// close adds the notes of the watcher to the result.
func (b *benchWatch) close(res *bench.Result) {
	if b.watcher == nil {
		return
	}
	if why := proc.GeneratorBound(b.watcher.Load()); why != "" {
		if !res.GeneratorBound { // otherwise the generators have noted it
			res.Notes = append(res.Notes, why)
		}
		res.GeneratorBound = true
	}
	res.Notes = append(res.Notes, b.watcher.Notes()...)
}
