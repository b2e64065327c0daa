package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/im"
	"teamtalk/sql/mysqlconn"
	"teamtalk/sql/schema"
	"teamtalk/sql/store"
)

// newMigrateCommand returns the command "migrate".
func newMigrateCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Create or update the tables in MySQL",
		Long: `Create the tables in an empty MySQL database, or update those of an existing
deployment. (The embedded store updates its tables when it is opened.)

The command only adds tables, columns with defaults, and indexes. So C++ servers may use the
database at the same time. "teamtalk migrate finalize" makes the changes that C++ servers do not
tolerate: run it once, when the last C++ db_proxy is gone. A new database needs no finalize.

The command may be stopped at any point and run again. A lock keeps a second one from running at
the same time.`,
		Example: `  mysql -e 'CREATE DATABASE teamtalk CHARACTER SET utf8mb4'
  teamtalk migrate --mysql.master 'teamtalk:secret@tcp(127.0.0.1:3306)/teamtalk'
  teamtalk migrate status --config teamtalk.toml`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.CommandsOnly(cmd, args)
			}
			return withMySQL(cmd, func(ctx context.Context, db *sql.DB) error {
				return migrate(ctx, cmd.OutOrStdout(), db, dryRun)
			})
		},
	}
	cli.AddConfigFlags(cmd, "mysql.master", "redis.addrs")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the changes without making them")
	cmd.AddCommand(newFinalizeCommand(), newMigrateStatusCommand(), newRestoredCommand())
	return cmd
}

// newFinalizeCommand returns the command "migrate finalize".
func newFinalizeCommand() *cobra.Command {
	var dryRun, force bool
	cmd := &cobra.Command{
		Use:   "finalize",
		Short: "Resolve duplicates of C++ servers, and add unique keys",
		Long: `Resolve the duplicates that C++ db_proxies left in relations, recent sessions and
message ids, and add the unique keys that prevent new ones. No message is lost.

Run the command once, when every db_proxy is one of this program. Stop all db_proxies first. A C++
db_proxy that writes to a finalized database loses messages. The command refuses to run while
other programs are connected to the database. It needs Redis too: when a message gets another id,
the counter of its conversation is raised.`,
		Example: `  teamtalk migrate finalize --dry-run --config teamtalk.toml
  teamtalk migrate finalize --config teamtalk.toml`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withMySQL(cmd, func(ctx context.Context, db *sql.DB) error {
				return finalize(ctx, cmd, db, dryRun, force)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the changes without making them")
	cmd.Flags().BoolVar(&force, "force", false,
		"run while other programs are connected; their writes may fail")
	return cmd
}

// counterRaiser connects to the Redis of the settings. raise raises the counter of message ids of
// a conversation, and done closes the connection.
func counterRaiser(ctx context.Context, cmd *cobra.Command) (
	raise func(context.Context, schema.Conversation, uint32) error, done func() error, err error,
) {
	cfg, err := cli.LoadConfig(cmd)
	if err != nil {
		return nil, nil, err
	}
	instances, err := open.Redis(cfg.Redis)
	if err != nil {
		return nil, nil, err
	}
	raise, done, err = store.CounterRaiser(ctx, instances)
	if err != nil {
		return nil, nil, fmt.Errorf("nothing was changed: %w (setting redis.addrs)", err)
	}
	return raise, done, nil
}

// newMigrateStatusCommand returns the command "migrate status".
func newMigrateStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print the version of the tables",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withMySQL(cmd, func(ctx context.Context, db *sql.DB) error {
				state, err := schema.Status(ctx, db)
				if err != nil {
					return err
				}
				if asJSON {
					return writeStatusJSON(cmd.OutOrStdout(), state)
				}
				writeStatus(cmd.OutOrStdout(), state)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// withMySQL connects to the master, and calls do with the connection.
func withMySQL(cmd *cobra.Command, do func(context.Context, *sql.DB) error) error {
	cfg, err := cli.LoadConfig(cmd)
	if err != nil {
		return err
	}
	if cfg.MySQL.Master == "" {
		return cli.Usagef(cmd, "no MySQL database given: use --mysql.master "+
			"'user:password@tcp(host:3306)/teamtalk' or a --config file")
	}
	encrypted, err := open.MySQLTLS(cfg.MySQL)
	if err != nil {
		return err
	}
	settings, err := mysqlconn.Parse(cfg.MySQL.Master.Reveal(), encrypted)
	if err != nil {
		return cli.Usagef(cmd, "mysql.master (%s): %v", cfg.Origin("mysql.master"), err)
	}
	connector, err := mysqlconn.Connector(settings)
	if err != nil {
		return cli.Usagef(cmd, "mysql.master (%s): %v", cfg.Origin("mysql.master"), err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	ctx := cmd.Context()
	if err := db.PingContext(ctx); err != nil {
		return explainMySQL(fmt.Errorf("connect to %s: %w", cfg.MySQL.Master, err), settings.DBName)
	}
	return explainMySQL(do(ctx, db), settings.DBName)
}

// explainMySQL adds advice to the errors of a new deployment.
func explainMySQL(err error, database string) error {
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		return err
	}
	switch e.Number {
	case 1049: // unknown database
		return fmt.Errorf("%w; make it first: CREATE DATABASE `%s` CHARACTER SET utf8mb4", err,
			database)
	case 1044, 1142: // access denied to a database, to a command
		return fmt.Errorf("%w; the user needs all privileges on `%s`.*", err, database)
	case 1045: // wrong user or password
		return fmt.Errorf("%w; check the user and password in mysql.master, and whether the user "+
			"needs TLS (REQUIRE SSL: mysql.ca, REQUIRE X509: mysql.certificate)", err)
	}
	return err
}

// migrate applies the pending migrations.
func migrate(ctx context.Context, out io.Writer, db *sql.DB, dryRun bool) error {
	before, err := schema.Status(ctx, db)
	if err != nil {
		return err
	}
	if len(before.Pending) == 0 {
		writeStatus(out, before)
		return nil
	}
	if dryRun {
		for _, name := range before.Pending {
			fmt.Fprintf(out, "would apply migration %s\n", name)
		}
		fmt.Fprintln(out, "nothing was changed")
		return nil
	}
	began := time.Now()
	if err := schema.Migrate(ctx, db, schema.Options{Progress: progress(out)}); err != nil {
		return err
	}
	after, err := schema.Status(ctx, db)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "schema updated from version %d to %d in %v\n", before.Version, after.Version,
		time.Since(began).Round(time.Millisecond))
	writeStatus(out, after)
	return nil
}

// finalize resolves duplicates and adds the unique keys.
func finalize(ctx context.Context, cmd *cobra.Command, db *sql.DB, dryRun, force bool) error {
	out := cmd.OutOrStdout()
	before, err := schema.Status(ctx, db)
	if err != nil {
		return err
	}
	if before.Finalized && len(before.Pending) == 0 {
		writeStatus(out, before)
		return nil
	}
	if dryRun {
		if len(before.Pending) > 0 {
			fmt.Fprintf(out,
				"%d migrations are pending; finalize needs them applied first: teamtalk migrate\n",
				len(before.Pending))
		}
		for _, key := range before.Missing {
			fmt.Fprintf(out, "would resolve duplicates for, and add, the unique key %s\n", key)
		}
		fmt.Fprintln(out, "nothing was changed")
		return nil
	}
	raise, done, err := counterRaiser(ctx, cmd)
	if err != nil {
		return err
	}
	defer done()
	err = schema.Finalize(ctx, db, schema.Options{Progress: progress(out), RaiseCounter: raise,
		Force: force})
	if im.KindOf(err) == im.Denied && !force {
		return fmt.Errorf("refused, nothing was changed: %w", err)
	}
	return err
}

// progress returns a function that prints the reports of a migration.
func progress(out io.Writer) func(string) {
	return func(msg string) { fmt.Fprintf(out, "  %s\n", msg) }
}

// writeStatus writes the version of the schema, and the next command.
func writeStatus(out io.Writer, s schema.State) {
	switch {
	case s.Version == 0 && len(s.Pending) > 0:
		fmt.Fprintf(out, "schema: not migrated (newest version: %d)\n", s.Latest)
	default:
		fmt.Fprintf(out, "schema: version %d of %d\n", s.Version, s.Latest)
	}
	for _, name := range s.Pending {
		fmt.Fprintf(out, "pending: %s\n", name)
	}
	switch {
	case len(s.Pending) > 0:
		fmt.Fprintln(out, "next: teamtalk migrate")
	case s.Finalized:
		fmt.Fprintln(out, "finalized: yes; nothing is left to do")
	default:
		fmt.Fprintf(out, "finalized: no; %d unique keys are missing\n"+
			"next: when the last C++ db_proxy is gone, teamtalk migrate finalize\n", len(s.Missing))
	}
}

// writeStatusJSON writes the state as one line of JSON.
func writeStatusJSON(out io.Writer, s schema.State) error {
	return json.NewEncoder(out).Encode(struct {
		Version   int      `json:"version"`
		Latest    int      `json:"latest"`
		Pending   []string `json:"pending"`
		Finalized bool     `json:"finalized"`
		Missing   []string `json:"missing_keys"`
	}{s.Version, s.Latest, notNil(s.Pending), s.Finalized, notNil(s.Missing)})
}

// notNil returns list, or an empty list for nil, which JSON would write as null.
func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
