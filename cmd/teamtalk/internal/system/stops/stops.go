// Package stops holds the stops of the parts of a process, in the order in which the process
// ends, and runs functions in the background until they are stopped.
package stops

import (
	"context"
	"errors"
	"fmt"
)

// Phase is a step of stopping a process. Phases run one after the other, in the order of
// this list, so that accepted work is finished and answered, and nothing is closed while
// another part still uses it.
type Phase int

const (
	// AnnounceEnd tells the other servers that these drain, so that others choose them no more.
	AnnounceEnd Phase = iota
	// LeaveLogins closes the message server's links to login servers, which send no client
	// here from then on. A client that has to connect again gets another message server.
	LeaveLogins
	// RefuseConnections makes every port of the engine close new connections. Connections
	// that are open stay open.
	RefuseConnections
	// ReleaseClients ends the connections of the message server's clients one after the other.
	ReleaseClients
	// FinishCalls closes the HTTP API once its calls are answered. The message server,
	// dbproxy and the links that the calls use are still running.
	FinishCalls
	// EndComparison ends the file server's requests for dbproxy's list of files.
	EndComparison
	// DrainMessages ends each connection of the message server's clients when its messages
	// are stored and acked. The links are still up, so that the other servers learn that the
	// users are gone.
	DrainMessages
	// DrainRequests finishes the requests that dbproxy has accepted.
	DrainRequests
	// LeaveRegistry ends the registration of the servers, which have no client and no request
	// left.
	LeaveRegistry
	// CloseWorkers ends the workers of the store, which have no task left.
	CloseWorkers
	// EndUpkeep ends dbproxy's background tasks and closes the places of sounds.
	EndUpkeep
	// CloseClients closes the clients' ports, and the connections that are still open.
	CloseClients
	// CloseLinks closes the links to other servers.
	CloseLinks
	// CloseServers closes the ports of other servers.
	CloseServers
	// FinishFiles writes the segments that the spool has accepted, and closes it.
	FinishFiles
	// FinishPushes sends the accepted pushes.
	FinishPushes
	// CloseWeb closes the HTTP port of login servers and the small file server.
	CloseWeb
	// CloseStore closes the store, which no part uses any more.
	CloseStore
	// CloseAdmin closes the admin port, so that probes and metrics are answered until the
	// end.
	CloseAdmin

	phases // number of phases
)

// stop ends one part of the process.
type stop struct {
	name string // for errors
	run  func(ctx context.Context) error
}

// Stack holds the stops of all parts that have been started. Each start pushes its stop
// as soon as the part runs, so that a start that fails later leaves nothing behind. It is
// not safe for concurrent use.
type Stack [phases][]stop

// Push adds a part's stop to a phase. Within a phase the part that was started last is
// stopped first.
func (s *Stack) Push(p Phase, name string, run func(ctx context.Context) error) {
	s[p] = append(s[p], stop{name, run})
}

// Run runs all stops once and forgets them. A stop that fails does not keep the others
// from running. When ctx ends, each stop cuts off its remaining work. The error joins
// those of all stops.
func (s *Stack) Run(ctx context.Context) error {
	var errs []error
	for _, next := range s.order() {
		if err := next.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", next.name, err))
		}
	}
	*s = Stack{}
	return errors.Join(errs...)
}

// order returns the stops in the order in which Run runs them.
func (s *Stack) order() []stop {
	var all []stop
	for _, list := range s {
		for i := len(list) - 1; i >= 0; i-- {
			all = append(all, list[i])
		}
	}
	return all
}

// Plainly adapts a stop that neither waits for work nor fails.
func Plainly(f func()) func(context.Context) error {
	return func(context.Context) error {
		f()
		return nil
	}
}

// Closing adapts a Close that does not take a context.
func Closing(f func() error) func(context.Context) error {
	return func(context.Context) error { return f() }
}

// Names returns the names of all parts, in the order in which Run stops them.
func (s *Stack) Names() []string {
	var names []string
	for _, next := range s.order() {
		names = append(names, next.name)
	}
	return names
}
