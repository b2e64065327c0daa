package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/system"
	"teamtalk/cmd/teamtalk/internal/system/systemd"
	"teamtalk/core/config"
	"teamtalk/core/obs"
)

// newServeCommand returns the command "serve".
func newServeCommand() *cobra.Command {
	var demo bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the servers",
		Long: `Run the servers: all of them in this process, or those that --roles names.

Without settings the command runs the whole system on an embedded store in ./teamtalk-data, and
needs no other program. In a larger deployment each process runs some roles, beside processes of
this program or of the C++ servers. The settings of a role name the servers that it connects to.

Logs are written to standard error. On Ctrl-C or SIGTERM the command finishes accepted work and
ends. A second signal ends it at once. On SIGHUP it reads its settings again, and the certificates
and other files that they name. "teamtalk config" marks the settings that reload; the log names
those of the others that have changed and need a restart. When anything is wrong, nothing changes,
and the log says why.

Exit codes: 0 it was told to stop; 1 it failed, or could not start, for example because a port is
taken; 2 the settings, or files that they name, are wrong: "teamtalk config check" says the same;
3 another process has registered under the name of this one (node.name).`,
		Example: `  teamtalk serve --demo
  teamtalk serve --data-dir /var/lib/teamtalk
  teamtalk serve --config teamtalk.toml
  teamtalk serve --roles msg --msg.dbproxy db1:10600 --msg.route rt1:8200 --msg.login lg1:8100`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := cli.LoadConfig(cmd)
			if err != nil {
				return err
			}
			return serve(cmd, cfg, demo)
		},
	}
	cli.AddConfigFlags(cmd)
	cmd.Flags().BoolVar(&demo, "demo", false, "add the users alice and bob, print commands to "+
		"chat as them, and let users on this machine register; ports whose address is not set "+
		"listen on 127.0.0.1")
	return cmd
}

// serve runs the system until the context of cmd ends or a part of it fails.
func serve(cmd *cobra.Command, cfg *config.Config, demo bool) error {
	level := new(slog.LevelVar)
	log, err := obs.NewLogger(cmd.ErrOrStderr(), obs.LogOptions{Level: cfg.Log.Level,
		Format: cfg.Log.Format, Var: level})
	if err != nil {
		return err
	}
	if demo && !cfg.Runs(config.RoleDBProxy) {
		return &cli.UsageError{Err: fmt.Errorf("--demo adds users to the store: it needs the "+
			"role %s in this process", config.RoleDBProxy)}
	}
	if demo {
		cfg = cfg.OnLoopback() // everybody knows the passwords of a demo
	}
	defer logSecondSignal(log)()
	terminal := cli.IsTerminal(cmd.InOrStdin())
	return system.Run(cmd.Context(), system.Options{
		Config: cfg, Log: log, Version: obs.ReadVersion(version, revision, built), Demo: demo,
		Level: level, Manager: systemd.Open(os.Getenv),
		TerminalGone: func() bool { return terminal && !cli.IsTerminal(cmd.InOrStdin()) },
		Reload: func() (*config.Config, error) {
			next, err := cli.LoadConfig(cmd)
			if err == nil && demo {
				next = next.OnLoopback()
			}
			return next, err
		},
	}, cmd.OutOrStdout())
}

// logSecondSignal logs a second signal that ends the process, which then ends by that signal: the
// logs of a process that did not finish its work would stop without a reason otherwise. The caller
// calls the returned function at the end.
func logSecondSignal(log *slog.Logger) (stop func()) {
	signals, quit := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for n := 1; ; n++ {
			select {
			case <-quit:
				return
			case s := <-signals:
				if n == 1 {
					continue // the process finishes its work
				}
				log.Warn("ended by a second signal; accepted work may be unfinished", "signal", s)
				signal.Reset(s)
				self, err := os.FindProcess(os.Getpid())
				if err != nil || self.Signal(s) != nil {
					os.Exit(1)
				}
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(quit)
	}
}
