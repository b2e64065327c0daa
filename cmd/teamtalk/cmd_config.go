package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/config"
)

func newConfigCommand() *cobra.Command {
	var effective bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print every setting with its default and meaning",
		Long: `Print every setting with its default and meaning, as a TOML file to start from.

Each setting can be given in a file (msg.listen: section [msg], key listen), in the environment
(TEAMTALK_MSG_LISTEN) and as a flag (--msg.listen). A flag wins over the environment, that over the
file, and that over the default.

With --effective, print the values that count here and where each came from; passwords are not shown.`,
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
	cmd.Flags().BoolVar(&effective, "effective", false, "print the values that count, and where each came from")
	cmd.AddCommand(newConfigCheckCommand())
	return cmd
}

func newConfigCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Say whether the settings are right and complete to serve",
		Long: `Say whether the settings are right, and complete to run the roles they name. Nothing is opened and
nothing is connected to. Exit code 2 when something is wrong.`,
		Example: `  teamtalk config check --config teamtalk.toml
  teamtalk config check --config cluster.toml --roles msg`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := cli.LoadConfig(cmd)
			if err != nil {
				return err
			}
			if err := cfg.CheckServe(); err != nil {
				return err
			}
			set := 0
			for _, s := range config.Settings() {
				if cfg.Origin(s.Key) != "default" {
					set++
				}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: %d settings given, %d at their default\n", set, len(config.Settings())-set)
			return err
		},
	}
}
