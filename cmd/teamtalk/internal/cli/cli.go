// Package cli holds what all commands share: exit codes, usage errors, settings, output.
package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"teamtalk/core/config"
	"teamtalk/core/obs"
)

// Exit codes.
const (
	ExitOK      = 0
	ExitFailure = 1 // it was asked right, and went wrong
	ExitUsage   = 2 // it was asked wrong: flags, arguments, configuration
)

// UsageError is the caller's mistake.
type UsageError struct {
	Cmd *cobra.Command // whose help tells more
	Err error
}

// Error says what is wrong and where to read more.
func (e *UsageError) Error() string {
	if e.Cmd == nil {
		return e.Err.Error()
	}
	return fmt.Sprintf("%v (see %s --help)", e.Err, e.Cmd.CommandPath())
}

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef makes a usageError.
func Usagef(cmd *cobra.Command, format string, args ...any) error {
	return &UsageError{cmd, fmt.Errorf(format, args...)}
}

// HoldsCommands marks commands that only hold others, for the usage template.
var HoldsCommands = map[string]string{"holds": "commands"}

// CommandsOnly runs commands that only hold others: without an argument they show their help.
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

// NoArgs wants no arguments.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usagef(cmd, "want no arguments, got %q", args[0])
	}
	return nil
}

// CheckArgs makes what a command says about its arguments a usageError.
func CheckArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &UsageError{cmd, err}
		}
		return nil
	}
}

// OneName wants one argument, the name of a user.
func OneName(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return Usagef(cmd, "want one NAME, got %d", len(args))
	}
	return nil
}

// Execute runs a command line and returns the exit code. What goes wrong is one line on standard error; several mistakes in the configuration are
// one line each.
func Execute(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(append([]string{}, args...)) // never nil: cobra would take the process's own
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(root.ErrOrStderr(), "teamtalk: %s\n", strings.TrimRight(line, "\n"))
	}
	var coded interface{ ExitCode() int } // a command with codes of its own
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

// AtLeast wants a number of arguments, which what names, or more.
func AtLeast(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return Usagef(cmd, "want %s, got %d arguments", what, len(args))
		}
		return nil
	}
}

// Exactly wants a number of arguments, which what names.
func Exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return Usagef(cmd, "want %s, got %d arguments", what, len(args))
		}
		return nil
	}
}

// UsageOr is the caller's mistake in err, or in text when err is nil.
func UsageOr(cmd *cobra.Command, err error, text string) error {
	if err != nil {
		return &UsageError{cmd, err}
	}
	return Usagef(cmd, "%s", text)
}

// buildKey is the annotation of the root command that holds the build.
const buildKey = "build"

// SetBuild records version and revision of the program on its root command.
func SetBuild(root *cobra.Command, v obs.Version) {
	root.Annotations[buildKey] = strings.TrimSpace(v.Version + " " + v.Revision)
}

// Build returns version and revision of the program that cmd belongs to.
func Build(cmd *cobra.Command) string { return cmd.Root().Annotations[buildKey] }
