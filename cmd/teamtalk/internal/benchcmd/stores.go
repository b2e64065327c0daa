package benchcmd

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/config"
)

// addDatabaseFlags gives a command of bench --config and the settings that say where the databases are, to be read with loadDatabases. Not all settings:
// some have the names of flags that these commands have.
func addDatabaseFlags(cmd *cobra.Command) {
	all := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	config.AddFlags(all, []string{"store", "data_dir", "mysql.master", "redis.addrs"})
	all.VisitAll(func(f *pflag.Flag) {
		name := strings.ReplaceAll(f.Name, "_", "-")
		if name == "store" || name == "data-dir" || name == "workers" || name == "keys.text-key" || strings.HasPrefix(name, "mysql.") || strings.HasPrefix(name, "redis.") {
			cmd.Flags().AddFlag(f)
		}
	})
	cmd.Flags().String("config", "", "TOML file with the servers' settings (environment: "+config.EnvFile+")")
	_ = cmd.MarkFlagFilename("config", "toml") // fails only for a flag that is not there
}

// loadDatabases reads the settings for a command that addDatabaseFlags was called for.
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
