package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/system"
	"teamtalk/core/config"
	"teamtalk/core/obs"
)

func newServeCommand() *cobra.Command {
	var demo bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the servers",
		Long: `Run the servers: all of them in this process, or those named with --roles.

Without any setting it runs the whole system on an embedded store in ./teamtalk-data, and needs nothing
else. With --roles the servers of a larger deployment run as processes of their own, beside each other or
beside the C++ ones; each message server is told where the others are.

Logs go to standard error. It ends on Ctrl-C or SIGTERM, once what it has accepted is finished; a second
signal ends it at once.`,
		Example: `  teamtalk serve --demo
  teamtalk serve --data-dir /var/lib/teamtalk
  teamtalk serve --config teamtalk.toml
  teamtalk serve --roles msg --msg.dbproxy db1:10600 --msg.route rt1:8200 --msg.login lg1:8100`,
		Args: cli.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := cli.LoadConfig(cmd)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, demo, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cli.AddConfigFlags(cmd)
	cmd.Flags().BoolVar(&demo, "demo", false, "make two users, alice and bob, and say how to chat as them; let people on this machine register")
	return cmd
}

// serve runs the system until ctx ends or a part of it fails.
func serve(ctx context.Context, cfg *config.Config, demo bool, out, errOut io.Writer) error {
	log, err := obs.NewLogger(errOut, obs.LogOptions{Level: cfg.Log.Level, Format: cfg.Log.Format})
	if err != nil {
		return err
	}
	if demo && !cfg.Runs(system.RoleDBProxy) {
		return &cli.UsageError{Err: fmt.Errorf("--demo makes users in the store: it needs the role %s in this process", system.RoleDBProxy)}
	}
	return system.Run(ctx, system.Options{
		Config: cfg, Log: log, Version: obs.ReadVersion(version, revision), Demo: demo,
	}, out)
}
