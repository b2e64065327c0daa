package admincmd

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/sql/store"
)

// NewUnread returns the command "unread".
func NewUnread() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "unread",
		Short:       "Rebuild unread counts",
		Long:        "Rebuild the unread counts in Redis from the tables in MySQL.",
		Example:     "  teamtalk unread rebuild --config teamtalk.toml",
		Args:        cobra.ArbitraryArgs,
		RunE:        cli.CommandsOnly,
		Annotations: cli.HoldsCommands,
	}
	cli.AddConfigFlags(cmd, "data_dir", "store", "mysql.master", "redis.addrs")
	cmd.AddCommand(newUnreadRebuildCommand())
	return cmd
}

// newUnreadRebuildCommand returns the command "unread rebuild".
func newUnreadRebuildCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rebuild",
		Short: "Raise unread counts that Redis has lost",
		Long: `Raise the unread counts in Redis to the numbers of messages that users have not read
by the tables. Servers may run meanwhile. A db_proxy does the same by itself when it finds that
Redis has lost its data. Run the command after Redis was set back to an older state, or to see the
result.

No count is lowered. Messages from before the first read mark count as read, and so do all but the
last 1000 of a conversation. C++ db_proxies, and older builds of this program, store no read marks:
messages that a user has read through them become unread again.

The command looks at 500 conversations or one group at a time, and waits after each part as long as
the part took. It may be stopped at any point and run again.`,
		Example: `  teamtalk unread rebuild --config teamtalk.toml
  teamtalk unread rebuild --store mysql --redis.addrs 127.0.0.1:6379 \
    --mysql.master 'teamtalk:secret@tcp(127.0.0.1:3306)/teamtalk'`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config,
				s im.Store) error {
				counts, ok := s.(*store.Store)
				if !ok {
					return im.Errorf(im.Invalid, "the embedded store keeps unread counts with "+
						"the messages: there is nothing to rebuild (setting store)")
				}
				done, err := counts.RebuildUnread(ctx)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d counts raised, in %d sides of "+
					"conversations and %d groups, from the messages since %s\n", done.Counts,
					done.Conversations, done.Groups, done.Since.Format(time.DateTime))
				return err
			})
		},
	}
}
