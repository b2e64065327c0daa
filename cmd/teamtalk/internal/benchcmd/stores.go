package benchcmd

import (
	"strings"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/config"
)

// addDatabaseFlags adds --config and the settings of the databases to a command of bench,
// for loadDatabases. Other settings are left out: some have the names of flags of these
// commands.
func addDatabaseFlags(cmd *cobra.Command) {
	config.AddSomeFlags(cmd.Flags(), []string{"store", "data_dir", "mysql.master", "redis.addrs"},
		func(key string) bool {
			return key == "store" || key == "data_dir" || key == "workers" ||
				key == "keys.text_key" || strings.HasPrefix(key, "mysql.") ||
				strings.HasPrefix(key, "redis.")
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
