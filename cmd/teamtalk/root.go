package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"teamtalk/cmd/teamtalk/internal/admincmd"
	"teamtalk/cmd/teamtalk/internal/benchcmd"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/obs"
)

// subcommand is a command of the root command.
type subcommand struct {
	name, group string
	make        func() *cobra.Command
}

// subcommands are in the order of the help.
var subcommands = []subcommand{
	{"serve", "run", newServeCommand}, {"chat", "run", newChatCommand},
	{"user", "care", admincmd.NewUser}, {"group", "care", admincmd.NewGroup},
	{"depart", "care", admincmd.NewDepart}, {"token", "care", admincmd.NewToken},
	{"config", "care", newConfigCommand}, {"backup", "care", newBackupCommand},
	{"restore", "care", newRestoreCommand}, {"move", "care", newMoveCommand},
	{"migrate", "care", newMigrateCommand}, {"doctor", "care", admincmd.NewDoctor},
	{"unread", "care", admincmd.NewUnread}, {"prune", "care", admincmd.NewPrune},
	{"msfs", "care", newMSFSCommand}, {"cluster", "care", newClusterCommand},
	{"cert", "care", newCertCommand}, {"bench", "care", benchcmd.New},
	{"version", "care", newVersionCommand},
}

// newRootCommand returns the root command with the subcommand that the arguments begin with. It has
// all subcommands when the arguments begin with something else, such as "help" or a flag. All of
// them have thousands of flags: "teamtalk version" takes 34 ms of processor time with these, 16 ms
// without.
func newRootCommand(args []string) *cobra.Command {
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
	made := subcommands
	if len(args) > 0 {
		named := func(s subcommand) bool { return s.name == args[0] }
		if i := slices.IndexFunc(subcommands, named); i >= 0 {
			made = subcommands[i : i+1]
		}
	}
	for _, s := range made {
		cmd := s.make()
		cmd.GroupID = s.group
		root.AddCommand(cmd)
	}
	return root
}
