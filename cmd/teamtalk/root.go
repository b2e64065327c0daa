package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"teamtalk/core/config"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1 // it was asked right, and went wrong
	exitUsage   = 2 // it was asked wrong: flags, arguments, configuration
)

// usageError is the caller's mistake.
type usageError struct {
	cmd *cobra.Command // whose help tells more
	err error
}

// Error says what is wrong and where to read more.
func (e *usageError) Error() string {
	if e.cmd == nil {
		return e.err.Error()
	}
	return fmt.Sprintf("%v (see %s --help)", e.err, e.cmd.CommandPath())
}

// Unwrap returns the cause.
func (e *usageError) Unwrap() error { return e.err }

// usagef makes a usageError.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd, fmt.Errorf(format, args...)}
}

// newRootCommand puts the commands together.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "teamtalk",
		Short: "The TeamTalk messenger: servers, and the commands to look after them",
		Long: `teamtalk runs the servers of the TeamTalk messenger, and looks after them.

  teamtalk serve --demo      run everything in this process, with two users to try it
  teamtalk user add alice    add a user
  teamtalk chat alice        chat in this terminal

Settings come from a TOML file (--config FILE), from TEAMTALK_… variables and from flags, the later
winning; "teamtalk config" prints them all with their meaning.`,
		Args:              cobra.ArbitraryArgs, // so that unknown commands come to commandsOnly
		RunE:              commandsOnly,
		Annotations:       holdsCommands,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetHelpCommandGroupID("care")
	// Commands that only hold others are not worth a line of their own under "Usage".
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", `{{if and .Runnable (ne (index .Annotations "holds") "commands")}}`, 1))
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{cmd, err} })
	// --msg.max_connections is as good as --msg.max-connections: the file spells it so.
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	root.AddGroup(&cobra.Group{ID: "run", Title: "To run it:"}, &cobra.Group{ID: "care", Title: "To look after it:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", newServeCommand(), newChatCommand())
	add("care", newUserCommand(), newGroupCommand(), newDepartCommand(), newConfigCommand(), newMigrateCommand(), newBenchCommand(), newVersionCommand())
	return root
}

// holdsCommands marks commands that only hold others, for the usage template.
var holdsCommands = map[string]string{"holds": "commands"}

// commandsOnly runs commands that only hold others: without an argument they show their help.
func commandsOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	cmd.SuggestionsMinimumDistance = 2
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		return usagef(cmd, "unknown command %q; did you mean %q?", args[0], like[0])
	}
	return usagef(cmd, "unknown command %q", args[0])
}

// noArgs wants no arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef(cmd, "want no arguments, got %q", args[0])
	}
	return nil
}

// checkArgs makes what a command says about its arguments a usageError.
func checkArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &usageError{cmd, err}
		}
		return nil
	}
}

// oneName wants one argument, the name of a user.
func oneName(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef(cmd, "want one NAME, got %d", len(args))
	}
	return nil
}

// execute runs a command line and returns the exit code. What goes wrong is one line on standard error; several mistakes in the configuration are
// one line each.
func execute(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(append([]string{}, args...)) // never nil: cobra would take the process's own
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(root.ErrOrStderr(), "teamtalk: %s\n", strings.TrimRight(line, "\n"))
	}
	var coded interface{ ExitCode() int } // a command with codes of its own
	var usage *usageError
	var bad *config.Error
	switch {
	case errors.As(err, &coded):
		return coded.ExitCode()
	case errors.As(err, &usage), errors.As(err, &bad):
		return exitUsage
	}
	return exitFailure
}

// addConfigFlags gives a command, and those below it, --config and a flag for every setting. show names the settings that its help lists; without any it
// lists the common ones.
func addConfigFlags(cmd *cobra.Command, show ...string) {
	flags := cmd.PersistentFlags()
	flags.String("config", "", "TOML file with settings (environment: "+config.EnvFile+")")
	config.AddFlags(flags, show)
	cmd.MarkPersistentFlagFilename("config", "toml") // fails only for a flag that is not there
}

// loadConfig reads the settings for a command that addConfigFlags was called for.
func loadConfig(cmd *cobra.Command) (*config.Config, error) {
	file, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	if file == "" {
		file = os.Getenv(config.EnvFile)
	}
	cfg, err := config.Load(config.Sources{File: file, Env: os.Environ(), Flags: cmd.Flags()})
	if err != nil {
		return nil, &usageError{err: err}
	}
	for _, w := range cfg.Warnings() {
		fmt.Fprintf(cmd.ErrOrStderr(), "teamtalk: warning: %s\n", w)
	}
	return cfg, nil
}
