// Package bench measures a messenger that speaks this protocol, ours or another, as its clients meet it: logins, idle connections, texts between pairs and in
// groups, files, and all of it mixed as on a company's day. Every message carries a stamp and is checked at every receiver: acked, delivered
// exactly once, in order, unchanged; what went wrong stands beside every rate.
//
// A Scenario says what is done, Run does it and returns a Result. The connections are those of package swarm. Users must exist, named by a
// format: `teamtalk user add --count`.
package bench

import (
	"log/slog"
)

// Options are what Run needs beside the scenario.
type Options struct {
	// Progress, when set, is told of every second as it ends. It must not keep the caller waiting.
	Progress func(*Interval)
	// Phase, when set, is told in a few words what begins.
	Phase func(string)
	// Log gets what is not in the result. Default: nothing is logged.
	Log *slog.Logger
	// Watch, when set, watches processes.
	Watch Watcher
	// Agents are further generator processes, beside which this one generates nothing itself. Default: this process is the generator.
	Agents []Agent
	// Started, when set, is told of every generator process that was started: its agent's name, and its process id here.
	Started func(name string, pid int)
	// Build says which build the generator is, for the result.
	Build string
}

// Watcher watches processes while a scenario runs. Its methods are called one at a time, but not on one goroutine.
type Watcher interface {
	// Sample returns what each process, by name, used since the last call, and its memory now.
	Sample() (map[string]Usage, error)
	// Begin is called when counting begins, End when it ends.
	Begin()
	End()
	// Processes returns what was found of each, after End.
	Processes() []Process
}

func (o *Options) phase(text string) {
	if o.Phase != nil {
		o.Phase(text)
	}
}
