package benchcmd

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/config"
)

// addDatabaseFlags adds --config and the settings of the databases to a command of bench,
// for loadDatabases. Other settings are left out: some have the names of flags of these
// commands.
func addDatabaseFlags(cmd *cobra.Command) {
	all := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	config.AddFlags(all, []string{"store", "data_dir", "mysql.master", "redis.addrs"})
	all.VisitAll(func(f *pflag.Flag) {
		name := strings.ReplaceAll(f.Name, "_", "-")
		switch {
		case name == "store", name == "data-dir", name == "workers", name == "keys.text-key",
			strings.HasPrefix(name, "mysql."), strings.HasPrefix(name, "redis."):
			cmd.Flags().AddFlag(f)
		}
	})
	cmd.Flags().String("config", "",
		"TOML file with the servers' settings (environment: "+config.EnvFile+")")
	_ = cmd.MarkFlagFilename("config", "toml") // fails for an unknown flag only
}

// loadDatabases returns the settings of a command with the flags of addDatabaseFlags.
func loadDatabases(cmd *cobra.Command) (*config.Config, error) {
	cfg, err := cli.LoadConfig(cmd)
	if err != nil {
		return nil, err
	}
	if err := cfg.CheckStore(); err != nil {
		return nil, err
	}
	return cfg, nil
}
