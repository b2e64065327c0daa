package system

import (
	"context"
	"errors"
	"fmt"
)

// phase is a step of stopping a process. Phases run one after the other, in the order of
// this list, so that accepted work is finished and answered, and nothing is closed while
// another part still uses it.
type phase int

const (
	// announceEnd tells the other servers that these drain, so that others choose them no more.
	announceEnd phase = iota
	// leaveLogins closes the message server's links to login servers, which send no client
	// here from then on. A client that has to connect again gets another message server.
	leaveLogins
	// refuseConnections makes every port of the engine close new connections. Connections
	// that are open stay open.
	refuseConnections
	// releaseClients ends the connections of the message server's clients one after the other.
	releaseClients
	// finishCalls closes the HTTP API once its calls are answered. The message server,
	// dbproxy and the links that the calls use are still running.
	finishCalls
	// endComparison ends the file server's requests for dbproxy's list of files.
	endComparison
	// drainMessages ends each connection of the message server's clients when its messages
	// are stored and acked. The links are still up, so that the other servers learn that the
	// users are gone.
	drainMessages
	// drainRequests finishes the requests that dbproxy has accepted.
	drainRequests
	// leaveRegistry ends the registration of the servers, which have no client and no request
	// left.
	leaveRegistry
	// closeWorkers ends the workers of the store, which have no task left.
	closeWorkers
	// endUpkeep ends dbproxy's background tasks and closes the places of sounds.
	endUpkeep
	// closeClients closes the clients' ports, and the connections that are still open.
	closeClients
	// closeLinks closes the links to other servers.
	closeLinks
	// closeServers closes the ports of other servers.
	closeServers
	// finishFiles writes the segments that the spool has accepted, and closes it.
	finishFiles
	// finishPushes sends the accepted pushes.
	finishPushes
	// closeWeb closes the HTTP port of login servers and the small file server.
	closeWeb
	// closeStore closes the store, which no part uses any more.
	closeStore
	// closeAdmin closes the admin port, so that probes and metrics are answered until the
	// end.
	closeAdmin

	phases // number of phases
)

// stop ends one part of the process.
type stop struct {
	name string // for errors
	run  func(ctx context.Context) error
}

// stops holds the stops of all parts that have been started. Each start pushes its stop
// as soon as the part runs, so that a start that fails later leaves nothing behind. It is
// not safe for concurrent use.
type stops [phases][]stop

// push adds a part's stop to a phase. Within a phase the part that was started last is
// stopped first.
func (s *stops) push(p phase, name string, run func(ctx context.Context) error) {
	s[p] = append(s[p], stop{name, run})
}

// run runs all stops once and forgets them. A stop that fails does not keep the others
// from running. When ctx ends, each stop cuts off its remaining work. The error joins
// those of all stops.
func (s *stops) run(ctx context.Context) error {
	var errs []error
	for _, next := range s.order() {
		if err := next.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", next.name, err))
		}
	}
	*s = stops{}
	return errors.Join(errs...)
}

// order returns the stops in the order in which run runs them.
func (s *stops) order() []stop {
	var all []stop
	for _, list := range s {
		for i := len(list) - 1; i >= 0; i-- {
			all = append(all, list[i])
		}
	}
	return all
}

// plainly adapts a stop that neither waits for work nor fails.
func plainly(f func()) func(context.Context) error {
	return func(context.Context) error {
		f()
		return nil
	}
}

// closing adapts a Close that does not take a context.
func closing(f func() error) func(context.Context) error {
	return func(context.Context) error { return f() }
}
