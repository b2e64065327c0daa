package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/sql/move"
	"teamtalk/sql/mysqlconn"
)

// newMoveCommand returns the command "move".
func newMoveCommand() *cobra.Command {
	var to string
	var leaveApart bool
	cmd := &cobra.Command{
		Use:   "move --to STORE",
		Short: "Move the store from SQLite to MySQL and Redis, or back",
		Long: `Move everything from the embedded store (data_dir) into an empty MySQL database with
an empty Redis (--to mysql), or from MySQL and Redis into a new embedded store (--to embedded). Stop
all servers first. The source stays as it is.

The command makes the tables, copies all rows, and compares source and target: the rows of each
kind by their number and a sum over them, and the lists of conversations and unread counts as each
user sees them. It may be killed and run again. It then begins from the start, and no server opens
a database that is half filled.

Users whose names the target does not tell apart are reported before anything is written. A
database of C++ servers needs "teamtalk migrate" and "teamtalk migrate finalize" first. The command
names the rows for which the embedded store has no place.

An embedded store keeps messages apart that its tables have rejected. MySQL has no place for them,
so a store with such messages is refused: "teamtalk doctor" lists them and puts them back. With
--leave-apart they stay where they are, and the command prints their number.

Small files, sounds and waiting files are not in the store: their folders stay where they are.
Afterwards set store in the settings of the servers. After --to embedded also move the folders
audio, files and msfs into the new folder, and set data_dir to it: the store in the old data_dir,
if there is one, is out of date.`,
		Example: `  mysql -e 'CREATE DATABASE teamtalk CHARACTER SET utf8mb4'
  teamtalk move --to mysql --data-dir /var/lib/teamtalk --redis.addrs 127.0.0.1:6379 \
    --mysql.master 'teamtalk:secret@tcp(127.0.0.1:3306)/teamtalk'
  teamtalk move --to embedded --data-dir /var/lib/teamtalk2 --config teamtalk.toml`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to != "mysql" && to != "embedded" {
				return cli.Usagef(cmd, "want --to mysql or --to embedded, got %q", to)
			}
			if leaveApart && to != "mysql" {
				return cli.Usagef(cmd, "--leave-apart is for --to mysql")
			}
			cfg, err := cli.LoadConfig(cmd)
			if err != nil {
				return err
			}
			if cfg.MySQL.Master == "" {
				return cli.Usagef(cmd, "no MySQL database given: use --mysql.master "+
					"'user:password@tcp(host:3306)/teamtalk' or a --config file")
			}
			return moveStore(cmd, cfg, to, leaveApart)
		},
	}
	cli.AddConfigFlags(cmd, "data_dir", "mysql.master", "redis.addrs")
	cmd.Flags().StringVar(&to, "to", "", "the target: mysql, or embedded")
	cmd.Flags().BoolVar(&leaveApart, "leave-apart", false,
		"with --to mysql: leave messages that the store keeps apart")
	return cmd
}

// moveStore moves the store, and prints what was moved.
func moveStore(cmd *cobra.Command, cfg *config.Config, to string, leaveApart bool) error {
	instances, err := open.Redis(cfg.Redis)
	if err != nil {
		return err
	}
	encrypted, err := open.MySQLTLS(cfg.MySQL)
	if err != nil {
		return err
	}
	settings, err := mysqlconn.Parse(cfg.MySQL.Master.Reveal(), encrypted)
	if err != nil {
		return cli.Usagef(cmd, "mysql.master (%s): %v", cfg.Origin("mysql.master"), err)
	}
	m := move.MySQL{DSN: cfg.MySQL.Master.Reveal(), TLS: encrypted, Redis: instances}
	out := cmd.OutOrStdout()
	o := move.Options{Progress: moving(out), LeaveApart: leaveApart}
	var r move.Report
	from, target := cfg.DataDir, cfg.MySQL.Master.String()
	if to == "mysql" {
		r, err = move.ToMySQL(cmd.Context(), cfg.DataDir, m, o)
	} else {
		from, target = target, from
		r, err = move.ToEmbedded(cmd.Context(), m, cfg.DataDir, o)
	}
	if err != nil {
		return explainMySQL(err, settings.DBName)
	}
	rows := [][]string{{"MOVED AND COMPARED", "ROWS"}}
	for _, c := range r.Counts {
		rows = append(rows, []string{c.What, fmt.Sprint(c.Rows)})
	}
	if err := cli.WriteTable(out, rows); err != nil {
		return err
	}
	for _, note := range r.Notes {
		fmt.Fprintln(out, note)
	}
	what := "everything that " + from + " holds"
	if len(r.Notes) > 0 {
		what += ", but for the above"
	}
	_, err = fmt.Fprintf(out, "%s holds %s; %s\n", target, what, afterMove(cfg, to))
	return err
}

// afterMove returns what the operator must do after a move. A new embedded store is in another
// folder than the files of the servers, and an older store may be in that one.
func afterMove(cfg *config.Config, to string) string {
	if to == "mysql" {
		return `next: set store = "mysql" in the settings, and keep data_dir for the files`
	}
	folders := "the folder audio"
	switch small, files := cfg.MSFS.Dir == "" && cfg.MSFS.S3Endpoint == "", cfg.File.Dir == ""; {
	case small && files:
		folders = "the folders audio, files and msfs"
	case small:
		folders = "the folders audio and msfs"
	case files:
		folders = "the folders audio and files"
	}
	return fmt.Sprintf("next: move %s, if there, of the data_dir that the servers had into "+
		"%s, then set store = %q and data_dir = %q in the settings", folders, cfg.DataDir, to,
		cfg.DataDir)
}

// moving returns a function that prints the progress of a move: each subject, and every million
// rows.
func moving(out io.Writer) func(string, int64) {
	const step = 1_000_000
	last, told := "", int64(0)
	return func(what string, rows int64) {
		if what != last {
			last, told = what, 0
			fmt.Fprintf(out, "  %s\n", what)
		}
		if rows/step > told/step {
			told = rows
			fmt.Fprintf(out, "  %s: %d rows\n", what, rows)
		}
	}
}
