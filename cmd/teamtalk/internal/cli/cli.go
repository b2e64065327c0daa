// Package cli holds the parts that all commands share: exit codes, usage errors, settings
// and output.
package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"teamtalk/core/config"
	"teamtalk/core/obs"
)

// Exit codes.
const (
	ExitOK      = 0
	ExitFailure = 1 // the command failed
	ExitUsage   = 2 // flags, arguments or settings are wrong
)

// UsageError reports wrong flags, arguments or settings.
type UsageError struct {
	Cmd *cobra.Command // its help explains the usage; nil: the error says everything
	Err error
	// Setting says that the error is about a setting that the help of Cmd does not list.
	Setting bool
}

// Error returns the error, and the command that prints the help.
func (e *UsageError) Error() string {
	switch {
	case e.Cmd == nil:
		return e.Err.Error()
	case e.Setting:
		return fmt.Sprintf("%v (see %s config)", e.Err, e.Cmd.Root().Name())
	}
	return fmt.Sprintf("%v (see %s --help)", e.Err, e.Cmd.CommandPath())
}

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef returns a UsageError.
func Usagef(cmd *cobra.Command, format string, args ...any) error {
	return &UsageError{Cmd: cmd, Err: fmt.Errorf(format, args...)}
}

// HoldsCommands is the annotation of commands that only hold other commands. The usage
// template reads it.
var HoldsCommands = map[string]string{"holds": "commands"}

// CommandsOnly runs a command that only holds other commands: without an argument it
// prints the help.
func CommandsOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	cmd.SuggestionsMinimumDistance = 2
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		return Usagef(cmd, "unknown command %q; did you mean %q?", args[0], like[0])
	}
	return Usagef(cmd, "unknown command %q", args[0])
}

// NoArgs rejects arguments.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usagef(cmd, "want no arguments, got %q", args[0])
	}
	return nil
}

// CheckFlagGroups returns the error of flags that exclude each other as a UsageError.
func CheckFlagGroups(cmd *cobra.Command, _ []string) error {
	if err := cmd.ValidateFlagGroups(); err != nil {
		return &UsageError{Cmd: cmd, Err: err}
	}
	return nil
}

// OneName requires one argument, the name of a user.
func OneName(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return Usagef(cmd, "want one NAME, got %d", len(args))
	}
	return nil
}

// Execute runs a command line and returns the exit code. It writes an error as one line
// to standard error, and errors in several settings as one line each.
func Execute(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(append([]string{},
		args...)) // never nil: with nil cobra takes the arguments of the process
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(root.ErrOrStderr(), "teamtalk: %s\n", strings.TrimRight(line, "\n"))
	}
	var coded interface{ ExitCode() int } // an error with an exit code of its own
	var usage *UsageError
	var bad *config.Error
	switch {
	case errors.As(err, &coded):
		return coded.ExitCode()
	case errors.As(err, &usage), errors.As(err, &bad):
		return ExitUsage
	}
	return ExitFailure
}

// AtLeast requires n arguments or more. what describes them for the error.
func AtLeast(n int, what string) cobra.PositionalArgs { return Between(n, math.MaxInt, what) }

// Exactly requires n arguments. what describes them for the error.
func Exactly(n int, what string) cobra.PositionalArgs { return Between(n, n, what) }

// Between requires low to high arguments. what describes them for the error.
func Between(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch n := len(args); {
		case n == 1 && low > 1:
			return Usagef(cmd, "want %s, got 1 argument", what)
		case n < low || n > high:
			return Usagef(cmd, "want %s, got %d arguments", what, n)
		}
		return nil
	}
}

// buildKey is the annotation of the root command that holds the version and the revision.
const buildKey = "build"

// SetBuild stores the version and the revision of the program in the root command.
func SetBuild(root *cobra.Command, v obs.Version) {
	root.Annotations[buildKey] = strings.TrimSpace(v.Version + " " + v.Revision)
}

// Build returns the version and the revision of the program with the command cmd.
func Build(cmd *cobra.Command) string { return cmd.Root().Annotations[buildKey] }
