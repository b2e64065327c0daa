package admincmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/sql/prune"
)

// pruneFlags are the flags of the command "prune".
type pruneFlags struct {
	olderThan string
	apply     bool
	only      []string
	batch     int
	pace      time.Duration
}

// pruneKinds are the values of --only.
var pruneKinds = []string{"users", "groups", "files"}

// maxAge is the longest age: 50 years, which began after 1970.
const maxAge = 18250 * 24 * time.Hour

// NewPrune returns the command "prune".
func NewPrune() *cobra.Command {
	var f pruneFlags
	cmd := &cobra.Command{
		Use:   "prune --older-than AGE",
		Short: "Delete old messages and waiting files",
		Long: `Delete the messages, sounds and waiting files that are older than an age, in the
store that the settings name. Without --apply, count them and delete nothing.

The age is that of the time at which the servers received a message, by their clocks. It decides
alone: messages that nobody has read are deleted as well, and no longer count as unread. The last
message of each conversation and group stays, so that no list of a client loses an entry. The
messages before the first one that is younger are deleted: a client reads a history that begins
later, and no error.

Servers may run meanwhile. The command deletes --batch messages at a time, and pauses after each
step. It may be stopped at any point and run again. Files of sounds are deleted in the folder or
bucket of the settings, and stay when the command does not find it. Pictures are not known to the
store: see msfs.expire_after. A file server deletes its waiting files within the time of
file.compare. There is no way back but a backup.`,
		Example: `  teamtalk prune --older-than 400d --config teamtalk.toml
  teamtalk prune --older-than 400d --apply --config teamtalk.toml
  teamtalk prune --older-than 400d --apply --only groups,files --pace 200ms`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPrune(cmd, &f) },
	}
	cli.AddConfigFlags(cmd, "data_dir", "store", "mysql.master", "redis.addrs", "msfs.dir")
	flags := cmd.Flags()
	flags.StringVar(&f.olderThan, "older-than", "", "the age, in days such as 400d, or hours such "+
		"as 72h; at least 48h")
	flags.BoolVar(&f.apply, "apply", false, "delete, rather than count")
	flags.StringSliceVar(&f.only, "only", nil, "delete only some of: "+
		strings.Join(pruneKinds, ", ")+" (separated by commas)")
	flags.IntVar(&f.batch, "batch", 500, "messages that are deleted at a time, 1 to 10000")
	flags.DurationVar(&f.pace, "pace", 20*time.Millisecond, "shortest pause after each step; a "+
		"step that takes longer is followed by a pause as long as the step")
	return cmd
}

// options returns the flags as options of a run, without the time.
func (f *pruneFlags) options(cmd *cobra.Command) (age time.Duration, o prune.Options, err error) {
	if f.olderThan == "" {
		return 0, o, cli.Usagef(cmd, "say what is old, such as --older-than 400d")
	}
	if age, err = parseAge(f.olderThan); err != nil {
		return 0, o, cli.Usagef(cmd, "--older-than: %v", err)
	}
	if age < im.MinPruneAge || age > maxAge {
		return 0, o, cli.Usagef(cmd, "--older-than %s is not 48h to 18250d", f.olderThan)
	}
	if f.batch < 1 || f.batch > 10_000 {
		return 0, o, cli.Usagef(cmd, "--batch %d is not 1 to 10000", f.batch)
	}
	if f.pace < 0 {
		return 0, o, cli.Usagef(cmd, "--pace %s is negative", f.pace)
	}
	for _, kind := range f.only {
		if !slices.Contains(pruneKinds, kind) {
			return 0, o, cli.Usagef(cmd, "--only %q is none of %s", kind,
				strings.Join(pruneKinds, ", "))
		}
	}
	skip := func(kind string) bool { return len(f.only) > 0 && !slices.Contains(f.only, kind) }
	return age, prune.Options{Apply: f.apply, Batch: f.batch, Pause: f.pace,
		SkipUsers: skip("users"), SkipGroups: skip("groups"), SkipFiles: skip("files")}, nil
}

// parseAge parses a number of days, such as 400d, or a Go duration.
func parseAge(s string) (time.Duration, error) {
	days, ok := strings.CutSuffix(s, "d")
	if !ok {
		age, err := time.ParseDuration(s)
		if err != nil {
			return 0, fmt.Errorf("want days such as 400d, or hours such as 72h, not %q", s)
		}
		return age, nil
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is no number of days up to 65535", s)
	}
	return time.Duration(n) * 24 * time.Hour, nil
}

func runPrune(cmd *cobra.Command, f *pruneFlags) error {
	age, o, err := f.options(cmd)
	if err != nil {
		return err
	}
	return withStore(cmd, true, func(ctx context.Context, cfg *config.Config, s im.Store) error {
		from, ok := s.(prune.Store)
		if !ok {
			return im.Errorf(im.Internal, "the store deletes no messages")
		}
		o.Before = uint32(s.Now().Add(-age).Unix())
		files, err := open.SoundFiles(cfg)
		if err != nil {
			return err
		}
		defer files.Close()
		o.Sounds = files.Delete
		done, err := prune.Run(ctx, from, o)
		if printing := printPruned(cmd.OutOrStdout(), &done, o, files); err == nil {
			err = printing
		}
		if err != nil && o.Apply {
			return fmt.Errorf("not finished, run it again: %w", err)
		}
		return err
	})
}

// printPruned writes what a run has deleted, or counted.
func printPruned(out io.Writer, r *prune.Report, o prune.Options, files *open.SoundPlaces) error {
	rows := [][]string{{"KIND", "NUMBER", "BYTES"}}
	var sum im.OldCount
	for _, k := range []struct {
		name string
		im.OldCount
	}{
		{"texts between users", r.Texts}, {"sounds between users", r.Sounds},
		{"texts in groups", r.GroupTexts}, {"sounds in groups", r.GroupSounds},
		{"waiting files", r.Files},
	} {
		rows = append(rows, []string{k.name, strconv.Itoa(k.Messages),
			strconv.FormatInt(k.Bytes, 10)})
		sum.Add(k.OldCount)
	}
	rows = append(rows, []string{"all", strconv.Itoa(sum.Messages),
		strconv.FormatInt(sum.Bytes, 10)})
	verb := "would be deleted (add --apply)"
	if o.Apply {
		verb = "deleted"
	}
	_, err := fmt.Fprintf(out, "older than %s: %s\n",
		time.Unix(int64(o.Before), 0).Format(time.DateTime), verb)
	err = errors.Join(err, cli.WriteTable(out, rows))
	if o.Apply && files.Deleted+files.Left > 0 {
		_, again := fmt.Fprintf(out, "files of sounds: %d deleted, %d not found here\n",
			files.Deleted, files.Left)
		err = errors.Join(err, again)
	}
	if r.Busy > 0 {
		_, again := fmt.Fprintf(out, "%d conversations are left for the next run: their unread "+
			"counts changed all the time\n", r.Busy)
		err = errors.Join(err, again)
	}
	return err
}
