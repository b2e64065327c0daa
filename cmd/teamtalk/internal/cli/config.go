package cli

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"teamtalk/core/config"
)

// AddConfigFlags adds --config and a flag for every setting to a command and its
// subcommands. The help lists the settings in show; without any it lists the common ones.
func AddConfigFlags(cmd *cobra.Command, show ...string) {
	addConfigFlags(cmd.PersistentFlags(), show)
}

// AddOwnConfigFlags is AddConfigFlags without the subcommands, for one whose subcommands use no
// settings.
func AddOwnConfigFlags(cmd *cobra.Command, show ...string) { addConfigFlags(cmd.Flags(), show) }

func addConfigFlags(flags *pflag.FlagSet, show []string) {
	flags.String("config", "", "TOML file with settings (environment: "+config.EnvFile+")")
	config.AddFlags(flags, show)
	cobra.MarkFlagFilename(flags, "config", "toml") // fails for an unknown flag only
}

// LoadConfig returns the settings of a command with the flags of AddConfigFlags. It
// writes warnings to standard error.
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

// FlagError returns the error of a wrong flag as a UsageError. A setting that the help of the
// command does not list is looked up with the command config.
func FlagError(cmd *cobra.Command, err error) error {
	usage := &UsageError{Cmd: cmd, Err: err}
	var wrong interface{ GetFlag() *pflag.Flag }
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	switch {
	case !errors.As(err, &value):
	case config.HoldsSecret(value.GetFlag()):
		usage.Err = fmt.Errorf("invalid argument for --%s: %w", value.GetFlag().Name,
			value.Unwrap())
	case !config.IsSetting(value.GetFlag()):
		usage.Err = wrongValue(value)
	}
	switch {
	case errors.As(err, &wrong):
		usage.Setting = wrong.GetFlag().Hidden && config.IsSetting(wrong.GetFlag())
	case errors.As(err, &unknown) && cmd.Flags().Lookup("config") != nil:
		name := unknown.GetSpecifiedName()
		like := config.LikeFlags(name)
		usage.Setting = len(like) > 0 || strings.Contains(name, ".")
		if len(like) > 0 {
			usage.Err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(like, " or "))
		}
	}
	return usage
}

// wrongValue returns the error of a flag with a value that its type does not take. The types of
// pflag name the functions that parse them. Other types say what they want.
func wrongValue(err *pflag.InvalidValueError) error {
	want := map[string]string{
		"bool": "true or false", "int": "a whole number", "float64": "a number",
		"uint32": "a whole number of 0 or more", "uint64": "a whole number of 0 or more",
		"duration": `a duration such as "10s" or "1h30m": ` + config.DurationForm,
	}[err.GetFlag().Value.Type()]
	var number *strconv.NumError
	switch {
	case want == "":
		return err
	case errors.As(err, &number) && number.Err == strconv.ErrRange:
		want += ", with fewer digits"
	}
	return fmt.Errorf("invalid argument %q for \"--%s\" flag: want %s", err.GetValue(),
		err.GetFlag().Name, want)
}
