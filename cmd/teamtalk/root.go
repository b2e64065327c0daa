package main

import (
	"maps"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"teamtalk/cmd/teamtalk/internal/benchcmd"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/obs"
)

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
		RunE:              cli.CommandsOnly,
		Annotations:       maps.Clone(cli.HoldsCommands),
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	cli.SetBuild(root, obs.ReadVersion(version, revision))
	root.SetHelpCommandGroupID("care")
	// Commands that only hold others are not worth a line of their own under "Usage".
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", `{{if and .Runnable (ne (index .Annotations "holds") "commands")}}`, 1))
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &cli.UsageError{Cmd: cmd, Err: err} })
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
	add("care", newUserCommand(), newGroupCommand(), newDepartCommand(), newConfigCommand(), newMigrateCommand(), benchcmd.New(), newVersionCommand())
	return root
}
