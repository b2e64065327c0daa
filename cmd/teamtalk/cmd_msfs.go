package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/handlers/msfs"
)

// newMSFSCommand returns the command "msfs".
func newMSFSCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "msfs",
		Short:       "Look after small files",
		Long:        "Look after the small files: pictures, avatars and sounds.",
		Example:     "  teamtalk msfs expire --dry-run --config teamtalk.toml",
		Args:        cobra.ArbitraryArgs,
		RunE:        cli.CommandsOnly,
		Annotations: cli.HoldsCommands,
	}
	cli.AddConfigFlags(cmd, "data_dir", "msfs.dir", "msfs.expire_after", "msfs.expire_unused_after",
		"msfs.s3_endpoint", "msfs.s3_bucket")
	cmd.AddCommand(newMSFSExpireCommand())
	return cmd
}

// newMSFSExpireCommand returns the command "msfs expire".
func newMSFSExpireCommand() *cobra.Command {
	var dry, list bool
	cmd := &cobra.Command{
		Use:   "expire",
		Short: "Count the small files that would expire now",
		Long: `Count the small files that would expire now, by the settings msfs.expire_after and
msfs.expire_unused_after. Flags try other values.

The server deletes files that have expired, by itself, while it runs. The command deletes nothing
and changes nothing. It may run beside the server, on the machine with the folder, and reads the
whole folder or bucket.

Downloads are known from the day on that a setting was switched on first. Files that were stored
before count as downloaded on that day. So no file is counted before that.`,
		Example: `  teamtalk msfs expire --dry-run --config teamtalk.toml
  teamtalk msfs expire --dry-run --list --msfs.expire-unused-after 720h`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !dry {
				return cli.Usagef(cmd, "the server deletes files by itself; add --dry-run to see "+
					"which files would expire now")
			}
			return expireDry(cmd, list)
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "count the files, and delete none")
	cmd.Flags().BoolVar(&list, "list", false, "print the name of each file, and the reason")
	return cmd
}

// expireDry counts the files that would expire now.
func expireDry(cmd *cobra.Command, list bool) error {
	cfg, err := cli.LoadConfig(cmd)
	if err != nil {
		return err
	}
	rule := msfs.Expiry{After: cfg.MSFS.ExpireAfter, Unused: cfg.MSFS.ExpireUnusedAfter}
	if !rule.On() {
		return cli.Usagef(cmd, "files never expire: set msfs.expire_after or "+
			"msfs.expire_unused_after, or add --msfs.expire-after 17520h to see what would expire")
	}
	store, err := open.ViewBlobs(cfg)
	if err != nil {
		return err
	}
	if c, ok := store.(io.Closer); ok {
		defer c.Close()
	}
	out := cmd.OutOrStdout()
	found, err := msfs.DryRun(cmd.Context(), store, rule, time.Now(),
		func(name, reason string) error {
			if !list {
				return nil
			}
			_, err := fmt.Fprintf(out, "%-6s %s\n", reason, cli.Printable(name))
			return err
		})
	if err != nil {
		return err
	}
	since := "no server has counted downloads yet"
	if !found.Since.IsZero() {
		since = "downloads are known since " + found.Since.Local().Format(time.DateTime)
	}
	_, err = fmt.Fprintf(out, "%d files with %d bytes, %d of them never downloaded; %s\n"+
		"would expire now: %d files with %d bytes that were never downloaded, %d with %d bytes "+
		"that are old\n", found.All.Files, found.All.Bytes, found.NeverRead.Files, since,
		found.Unused.Files, found.Unused.Bytes, found.Old.Files, found.Old.Bytes)
	return err
}
