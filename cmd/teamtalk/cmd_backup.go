package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/sql/backup"
)

// newBackupCommand returns the command "backup".
func newBackupCommand() *cobra.Command {
	var previous string
	cmd := &cobra.Command{
		Use:   "backup DIR",
		Short: "Copy the embedded store, while the server runs",
		Long: `Copy the embedded store with its small files, sounds and waiting files into the new
folder DIR. The server may run: it does not wait. The copy of the database is from one moment, and
every message in it has its files.

DIR gets its name when the backup is complete and on the disk. A backup that is killed leaves a
hidden folder, which the next backup beside it removes. With --previous, files that have not
changed become hard links to those of an earlier backup on the same disk.

Keep the files that settings name as well: the file of settings, certificates and keys, apps_file,
and the audit log. They are not part of the backup. Files in a bucket (msfs.s3_bucket) are not
either. For MySQL and Redis see sql/backup/BACKUP.md.`,
		Example: `  teamtalk backup /backup/monday --config teamtalk.toml
  teamtalk backup /backup/tuesday --previous /backup/monday --config teamtalk.toml
  teamtalk backup verify /backup/tuesday`,
		Args: cli.Exactly(1, "the DIR to make"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return makeBackup(cmd, args[0], previous)
		},
	}
	cli.AddOwnConfigFlags(cmd, "data_dir", "msfs.dir", "file.dir")
	cmd.Flags().StringVar(&previous, "previous", "",
		"an earlier backup, whose unchanged files are linked and not copied")
	cmd.AddCommand(newBackupVerifyCommand())
	return cmd
}

// makeBackup makes a backup of the store that the settings name.
func makeBackup(cmd *cobra.Command, target, previous string) error {
	cfg, err := cli.LoadConfig(cmd)
	if err != nil {
		return err
	}
	if cfg.Store != "embedded" {
		return im.Errorf(im.Invalid, "the command copies the embedded store; the setting store "+
			"is %s: see sql/backup/BACKUP.md for what to copy, and in which order", cfg.Store)
	}
	out := cmd.OutOrStdout()
	src := backup.Source{DataDir: cfg.DataDir, Sounds: filepath.Join(cfg.DataDir, "audio"),
		Waiting: open.Folder(cfg, cfg.File.Dir, "files")}
	if cfg.MSFS.S3Endpoint == "" {
		src.Small = open.Folder(cfg, cfg.MSFS.Dir, "msfs")
	} else {
		fmt.Fprintf(out, "not copied: the small files in the bucket %s (setting msfs.s3_bucket)\n",
			cfg.MSFS.S3Bucket)
	}
	s, err := backup.Make(cmd.Context(), src, backup.Options{Target: target, Previous: previous,
		Program: cli.Build(cmd), Progress: copying(out)})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %d files with %d bytes, %d of them linked, schema version %d\n", target,
		s.Files, s.Bytes, s.Linked, s.Schema)
	if s.Skipped > 0 {
		fmt.Fprintf(out, "not copied: %d links or devices in the folders\n", s.Skipped)
	}
	return nil
}

// copying returns a function that prints the part that is copied next.
func copying(out io.Writer) func(string) {
	return func(part string) { fmt.Fprintf(out, "  copying %s\n", part) }
}

// newBackupVerifyCommand returns the command "backup verify".
func newBackupVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify DIR",
		Short: "Read a backup, and compare it with its sums",
		Long: `Read all files of the backup in DIR, compare them with their sums (SHA-256), and look
for damage in the database. Nothing is changed.`,
		Example: "  teamtalk backup verify /backup/monday",
		Args:    cli.Exactly(1, "the DIR of one backup"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := backup.Verify(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is whole: %d files with %d bytes, begun "+
				"at %s, schema version %d, made by %s\n", args[0], s.Files, s.Bytes,
				s.Began.Local().Format("2006-01-02 15:04:05"), s.Schema, cli.Printable(s.Program))
			return err
		},
	}
}

// newRestoreCommand returns the command "restore".
func newRestoreCommand() *cobra.Command {
	var o backup.RestoreOptions
	cmd := &cobra.Command{
		Use:   "restore BACKUP",
		Short: "Make the folder of an embedded store from a backup",
		Long: fmt.Sprintf(`Make the folder of an embedded store (data_dir) from a backup, and verify
each file. The folder must not exist, or be empty. It gets its name when it is complete and on the
disk. A restore that was killed can be run again.

Clients have seen messages, users and groups from after the backup, and would drop a new message
with an id that they know. So each conversation leaves out %d message ids (--id-gap), and users
and groups leave out 10000. Users, departments and groups count as changed, and clients load them
again. What remains different: clients still show the lost messages that they have seen, and what
was read after the backup is unread again.

Small files and waiting files become the folders msfs and files of data_dir. If msfs.dir or
file.dir name other folders, move them there before the server starts.`, backup.DefaultGap),
		Example: `  teamtalk restore /backup/monday --data-dir /var/lib/teamtalk
  teamtalk restore /backup/monday --data-dir /var/lib/teamtalk --force`,
		Args: cli.Exactly(1, "the DIR of one backup"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := cli.LoadConfig(cmd)
			if err != nil {
				return err
			}
			o.Backup, o.DataDir, o.Progress = args[0], cfg.DataDir, copying(cmd.OutOrStdout())
			return restore(cmd, cfg, o)
		},
	}
	cli.AddConfigFlags(cmd, "data_dir")
	cmd.Flags().BoolVar(&o.Force, "force", false,
		"give the folder that is in the way another name")
	cmd.Flags().Uint32Var(&o.Gap, "id-gap", backup.DefaultGap,
		"message ids to leave out in each conversation: more than any got since the backup")
	cmd.Flags().BoolVar(&o.SameIDs, "same-ids", false,
		"leave out no ids: for a server whose clients have seen nothing since the backup")
	cmd.MarkFlagsMutuallyExclusive("id-gap", "same-ids")
	return cmd
}

// restore restores a backup, and says what the operator must do.
func restore(cmd *cobra.Command, cfg *config.Config, o backup.RestoreOptions) error {
	r, err := backup.Restore(cmd.Context(), o)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%s: %d files with %d bytes, as of %s\n", o.DataDir, r.Files, r.Bytes,
		r.Began.Local().Format("2006-01-02 15:04:05"))
	if r.Replaced != "" {
		fmt.Fprintf(out, "the folder that was in the way is now %s\n", r.Replaced)
	}
	for _, f := range []struct{ key, dir, name string }{
		{"msfs.dir", cfg.MSFS.Dir, "msfs"}, {"file.dir", cfg.File.Dir, "files"},
	} {
		if f.dir != "" {
			fmt.Fprintf(out, "next: move %s to %s (setting %s)\n",
				filepath.Join(o.DataDir, f.name), f.dir, f.key)
		}
	}
	return nil
}
