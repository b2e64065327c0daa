package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/system/check"
	"teamtalk/core/config"
	"teamtalk/core/obs"
)

// newConfigCommand returns the command "config".
func newConfigCommand() *cobra.Command {
	var effective bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print every setting with its default and meaning",
		Long: `Print every setting with its default and meaning, as a TOML file to start from.

Each setting can be given in a file (msg.listen: section [msg], key listen), in the environment
(TEAMTALK_MSG_LISTEN) and as a flag (--msg.listen). A flag overrides the environment, the
environment overrides the file, and the file overrides the default.

A size is a whole number and one of the units B, KiB, MiB, GiB, TiB, kB, MB, GB and TB. Without a
unit it counts bytes. A duration is a row of numbers, each with one of the units h, m, s, ms, us and
ns, such as 1h30m. It needs a unit, except 0. In the environment and in flags a list is written as
a,b, and an empty one as []. An empty variable counts as not set.

A running server that gets SIGHUP takes over the settings marked "reloads", and reads the files
again of those marked "the file reloads". All others need a restart.

With --effective, print the values in use and the source of each, without passwords.`,
		Example: `  teamtalk config > teamtalk.toml
  teamtalk config --effective --config teamtalk.toml
  teamtalk config check --config teamtalk.toml`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.CommandsOnly(cmd, args)
			}
			cfg, err := cli.LoadConfig(cmd)
			if err != nil {
				return err
			}
			if effective {
				return cfg.WriteEffective(cmd.OutOrStdout())
			}
			return config.WriteReference(cmd.OutOrStdout())
		},
	}
	cli.AddConfigFlags(cmd)
	cmd.Flags().BoolVar(&effective, "effective", false,
		"print the values in use, and the source of each")
	cmd.AddCommand(newConfigCheckCommand())
	return cmd
}

// newConfigCheckCommand returns the command "config check".
func newConfigCheckCommand() *cobra.Command {
	var noFiles bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the settings, and the files that they name",
		Long: `Check that the settings are valid, and complete for the roles that they name, and
that these roles could start: the command reads the certificates, the file of systems and the
credentials for push services, and looks whether the audit log and the folders could be written.
Run it on the server, as the account that runs the server.

The command changes no file, opens no port, and connects to no other machine: it does not ask the
database, and does not notice that a port is taken. It works while the server runs: run it before
SIGHUP, which refuses what it refuses. Its exit code is 2 when something is wrong or missing.`,
		Example: `  teamtalk config check --config teamtalk.toml
  teamtalk config check --config cluster.toml --roles msg
  teamtalk config check --config cluster.toml --no-files`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := cli.LoadConfig(cmd)
			if err != nil {
				return err
			}
			if err := checkConfig(cfg, noFiles, cmd.ErrOrStderr()); err != nil {
				return err
			}
			return describeGiven(cmd.OutOrStdout(), cfg)
		},
	}
	cmd.Flags().BoolVar(&noFiles, "no-files", false,
		"check the settings alone, for another machine")
	return cmd
}

// describeGiven writes how many settings are given, and which of them reload.
func describeGiven(out io.Writer, cfg *config.Config) error {
	set, reload := 0, []string(nil)
	for _, s := range config.Settings() {
		if cfg.Origin(s.Key) == "default" {
			continue
		}
		set++
		switch s.Reloads() {
		case "":
		case config.FileReloads:
			reload = append(reload, s.Key+" (the file)")
		default:
			reload = append(reload, s.Key)
		}
	}
	_, err := fmt.Fprintf(out, "ok: %d settings given, %d at their default\n", set,
		len(config.Settings())-set)
	if err == nil && len(reload) > 0 {
		_, err = fmt.Fprintf(out, "SIGHUP reloads: %s; the others given need a restart\n",
			strings.Join(reload, ", "))
	}
	return err
}

// checkConfig checks the settings, and the files that they name unless noFiles is set. It writes
// warnings to errOut.
func checkConfig(cfg *config.Config, noFiles bool, errOut io.Writer) error {
	if noFiles {
		return cfg.CheckServe()
	}
	log, err := obs.NewLogger(errOut, obs.LogOptions{Level: "warn", Format: cfg.Log.Format})
	if err != nil {
		return err
	}
	return check.Start(cfg, log)
}
