// Package bench measures a messenger that speaks this protocol, ours or another, with the
// work of its clients: logins, idle connections, texts between pairs and in groups,
// files, and a mix of all of them as on a company's day. Each message carries a stamp,
// and each receiver checks it: acked, delivered exactly once, in order, unchanged. The
// failed checks stand beside each rate.
//
// A scenario says what to do: see package scenario. Run does it and returns a Result. The
// connections are those of package swarm. The users must exist, named by a format:
// `teamtalk user add --count`.
package bench

import (
	"log/slog"
)

// Options are the arguments of Run besides the scenario.
type Options struct {
	// Progress, when set, receives each second when it ends. It must not block.
	Progress func(*Interval)
	// Phase, when set, receives a few words about the part of the run that starts.
	Phase func(string)
	// Log receives messages that are not in the result. Default: discarded.
	Log *slog.Logger
	// Watch, when set, watches processes.
	Watch Watcher
	// Agents are further generator processes. With them this process generates no load
	// itself. Default: this process is the generator.
	Agents []Agent
	// Started, when set, receives each generator process that was started: the name of
	// its agent, and its process id here.
	Started func(name string, pid int)
	// Build names the build of the generator, for the result.
	Build string
}

// Watcher watches processes while a scenario runs. Its methods are called one at a time,
// but from several goroutines.
type Watcher interface {
	// Sample returns what each process, by name, used since the last call, and its memory
	// now.
	Sample() (map[string]Usage, error)
	// Begin is called when counting begins, End when it ends.
	Begin()
	End()
	// Processes returns the values of each process, after End.
	Processes() []Process
}

func (o *Options) phase(text string) {
	if o.Phase != nil {
		o.Phase(text)
	}
}
