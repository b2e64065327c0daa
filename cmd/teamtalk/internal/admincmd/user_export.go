package admincmd

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/cmd/teamtalk/internal/admin/export"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy/lockout"
)

// newUserExportCommand returns the command "user export".
func newUserExportCommand() *cobra.Command {
	var out string
	var ownOnly bool
	cmd := &cobra.Command{
		Use:   "export NAME --out DIR|FILE.zip",
		Short: "Write all data of a user into a folder or a ZIP file",
		Long: `Write all that the deployment has of a user into a new folder, or into a ZIP file if
the name ends in .zip: profile, logins, groups, conversations, messages that the user has sent and
received, and their files. README.txt in it describes the form: lines of JSON, and files.

Texts are decrypted with keys.text_key. Sounds and pictures are copied from the folder or bucket of
msfs, and waiting files from file.dir: run the command on the machine that has them. The lines of
the audit log are those of audit.file. Files that are not on this machine are counted as missing.

The export has data of other people: their messages to the user, and their names. --own-only
leaves them out.

Servers may run meanwhile. A large export takes minutes and reads 500 messages at a time. Nothing
has the name that --out gives before the export is complete. The files are readable by this account
alone.`,
		Example: `  teamtalk user export alice --out alice.zip --config teamtalk.toml
  teamtalk user export alice --out alice-own.zip --own-only --config teamtalk.toml`,
		Args: cli.OneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return cli.Usagef(cmd, "say where to write, such as --out %s.zip", args[0])
			}
			return withStore(cmd, true, func(ctx context.Context, cfg *config.Config,
				s im.Store) error {
				return exportUser(ctx, cmd, cfg, s, args[0], out, ownOnly)
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "folder or ZIP file to write; it must not exist")
	cmd.Flags().BoolVar(&ownOnly, "own-only", false, "leave out what other users have written, "+
		"and their names")
	return cmd
}

func exportUser(ctx context.Context, cmd *cobra.Command, cfg *config.Config, s im.Store, name,
	out string, ownOnly bool) error {
	from, ok := s.(export.Store)
	if !ok {
		return im.Errorf(im.Internal, "the store exports no user")
	}
	a, err := admin.FindUser(ctx, s, name)
	if err != nil {
		return err
	}
	state, err := lockout.Inspect(ctx, s, open.LoginLimits(&cfg.DBProxy), s.Now(), a.Name, a.ID)
	if err != nil {
		return err
	}
	cipher, err := im.NewTextCipher(cfg.Keys.Text.Reveal())
	if err != nil {
		return fmt.Errorf("%w (setting keys.text_key)", err)
	}
	files, err := open.SoundFiles(cfg)
	if err != nil {
		return err
	}
	defer files.Close()
	o := export.Options{Store: from, User: a.User, Out: out, OwnOnly: ownOnly, Cipher: cipher,
		Open: files.Open, Spool: open.Folder(cfg, cfg.File.Dir, "files"), Audit: cfg.Audit.File,
		Now: time.Now()}
	for _, n := range state.Networks {
		if !n.Login.IsZero() {
			o.Networks = append(o.Networks, export.Network{Network: n.Network,
				Login: n.Login.UTC()})
		}
	}
	done, err := export.Run(ctx, o)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", out, done)
	return err
}
