package main

import (
	"maps"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"teamtalk/cmd/teamtalk/internal/admincmd"
	"teamtalk/cmd/teamtalk/internal/benchcmd"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/obs"
)

// newRootCommand returns the root command with all subcommands.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "teamtalk",
		Short: "The servers of the TeamTalk messenger, and the commands to administer them",
		Long: `teamtalk runs and administers the servers of the TeamTalk messenger.

  teamtalk serve --demo      run all servers in this process, with two users to try them
  teamtalk user add alice    add a user
  teamtalk chat alice        chat in this terminal

Settings come from a TOML file (--config FILE), from TEAMTALK_… variables and from flags. A flag
overrides a variable, and a variable overrides the file. "teamtalk config" prints all settings.`,
		Args:              cobra.ArbitraryArgs, // CommandsOnly reports unknown commands
		RunE:              cli.CommandsOnly,
		PersistentPreRunE: cli.CheckFlagGroups,
		Annotations:       maps.Clone(cli.HoldsCommands),
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	cli.SetBuild(root, obs.ReadVersion(version, revision, built))
	root.SetHelpCommandGroupID("care")
	// A command that only holds others has no usage line of its own.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}",
		`{{if and .Runnable (ne (index .Annotations "holds") "commands")}}`, 1))
	root.SetFlagErrorFunc(cli.FlagError)
	// A flag may be written with underscores, as in the file: --msg.max_connections.
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	root.AddGroup(&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "care", Title: "Administer and measure:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", newServeCommand(), newChatCommand())
	add("care", admincmd.NewUser(), admincmd.NewGroup(), admincmd.NewDepart(),
		admincmd.NewToken(), newConfigCommand(), newBackupCommand(), newRestoreCommand(),
		newMoveCommand(), newMigrateCommand(), admincmd.NewDoctor(), admincmd.NewUnread(),
		admincmd.NewPrune(), newMSFSCommand(), newClusterCommand(), newCertCommand(),
		benchcmd.New(), newVersionCommand())
	return root
}
