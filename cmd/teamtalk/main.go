// Teamtalk is the server side of the TeamTalk messenger in one binary: the servers, and the commands to look after them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"teamtalk/cmd/teamtalk/internal/cli"
)

// Set by the linker: go build -ldflags "-X main.version=v1.2.3 -X main.revision=0123abcd". Without them the Go tool's own records count.
var version, revision string

func main() {
	os.Exit(run())
}

// run is main with its deferred calls.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks to finish, the second ends the process at once.
	context.AfterFunc(ctx, stop)
	return cli.Execute(ctx, newRootCommand(), os.Args[1:])
}
