package main

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/sql/backup"
)

// newRestoredCommand returns the command "migrate restored".
func newRestoredCommand() *cobra.Command {
	var gap uint32
	cmd := &cobra.Command{
		Use:   "restored",
		Short: "Leave out ids, after MySQL was restored from a backup",
		Long: `Leave out ids in a MySQL database that was restored from a backup. Clients have seen
messages, users and groups from after the backup, and would drop a new message with an id that they
know. Run the command once after a restore, before the servers start.

Each conversation and group leaves out --id-gap message ids, and users and groups leave out 10000
ids. Users, departments and groups count as changed, and clients load them again. Redis needs no
change: db_proxies raise their counters to the highest id in the tables. C++ db_proxies do not.`,
		Example: "  teamtalk migrate restored --config teamtalk.toml",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if gap == 0 {
				return cli.Usagef(cmd, "want --id-gap of 1 or more")
			}
			return withMySQL(cmd, func(ctx context.Context, db *sql.DB) error {
				db.SetMaxOpenConns(1)
				n, err := backup.AdvanceMySQL(ctx, db, gap, time.Now())
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d conversations and groups leave out "+
					"%d message ids\n", n, gap)
				return err
			})
		},
	}
	cmd.Flags().Uint32Var(&gap, "id-gap", backup.DefaultGap,
		"message ids to leave out in each conversation: more than any got since the backup")
	return cmd
}
