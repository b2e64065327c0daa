package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"teamtalk/core/config"
)

// AddConfigFlags gives a command, and those below it, --config and a flag for every setting. show names the settings that its help lists; without any it
// lists the common ones.
func AddConfigFlags(cmd *cobra.Command, show ...string) {
	flags := cmd.PersistentFlags()
	flags.String("config", "", "TOML file with settings (environment: "+config.EnvFile+")")
	config.AddFlags(flags, show)
	cmd.MarkPersistentFlagFilename("config", "toml") // fails only for a flag that is not there
}

// LoadConfig reads the settings for a command that addConfigFlags was called for.
func LoadConfig(cmd *cobra.Command) (*config.Config, error) {
	file, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	if file == "" {
		file = os.Getenv(config.EnvFile)
	}
	cfg, err := config.Load(config.Sources{File: file, Env: os.Environ(), Flags: cmd.Flags()})
	if err != nil {
		return nil, &UsageError{Err: err}
	}
	for _, w := range cfg.Warnings() {
		fmt.Fprintf(cmd.ErrOrStderr(), "teamtalk: warning: %s\n", w)
	}
	return cfg, nil
}
