// Teamtalk is the server side of the TeamTalk messenger in one binary: the servers, and
// the commands to administer and measure them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"teamtalk/cmd/teamtalk/internal/cli"
)

// The linker sets these: go build -ldflags "-X main.version=v1.2.3 -X main.revision=0123abcd
// -X main.built=2026-11-23T11:00:00Z". When they are empty, the records of the Go tool are used.
var version, revision, built string

func main() {
	os.Exit(run())
}

// run runs the command line and returns the exit code. Its deferred calls run before
// os.Exit.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks the process to finish; the second ends it at once.
	context.AfterFunc(ctx, stop)
	args := os.Args[1:]
	return cli.Execute(ctx, newRootCommand(args), args)
}
