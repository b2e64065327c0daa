package admincmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/config"
	"teamtalk/core/im"
)

// setFlags are the flags of user set.
type setFlags struct{ department, avatar, sign string }

// newUserSetCommand returns the command "user set".
func newUserSetCommand() *cobra.Command {
	var f setFlags
	cmd := &cobra.Command{
		Use:   "set NAME [--department DEPARTMENT] [--avatar URL] [--sign TEXT]",
		Short: "Change a user's department, picture or sign info",
		Long: `Change a user's department, picture or sign info, which is the text beside the
user's name. Without its flag a value does not change; an empty text clears it. Clients see a
change when they next connect.

The user is a name or an id. The department is an id, a name, a path such as Sales/East, or / for
none.`,
		Example: `  teamtalk user set alice --department Sales/East
  teamtalk user set alice --avatar http://10.0.0.5:8700/g0/000/001/a.png --sign ""`,
		Args: cli.OneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			changed := cmd.Flags().Changed
			if !changed("department") && !changed("avatar") && !changed("sign") {
				return cli.Usagef(cmd, "want one of --department, --avatar, --sign")
			}
			for _, text := range []struct {
				name, value string
				limit       int
			}{{"avatar", f.avatar, im.MaxAvatar}, {"sign info", f.sign, im.MaxSignInfo}} {
				if err := admin.CheckText(text.name, text.value, text.limit); err != nil {
					return &cli.UsageError{Cmd: cmd, Err: err}
				}
			}
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config,
				s im.Store) error {
				return f.set(ctx, cmd, s, args[0])
			})
		},
	}
	cmd.Flags().StringVar(&f.department, "department", "", "the department; / is none")
	cmd.Flags().StringVar(&f.avatar, "avatar", "", "URL of a picture")
	cmd.Flags().StringVar(&f.sign, "sign", "", "the text beside the user's name")
	return cmd
}

// set changes the values whose flags are given, and writes each change once it is made.
// It looks up the user and the department before the first change.
func (f *setFlags) set(ctx context.Context, cmd *cobra.Command, s im.Store, name string) error {
	a, err := admin.FindUser(ctx, s, name)
	if err != nil {
		return err
	}
	changed, depart, place := cmd.Flags().Changed, uint32(0), "no department"
	if changed("department") {
		b, err := admin.ReadDeparts(ctx, s)
		if err != nil {
			return err
		}
		if depart, err = b.FindParent(f.department); err != nil {
			return err
		}
		if depart != 0 {
			place = b.Path(b.ByID[depart])
		}
	}
	for _, change := range []struct {
		flag, told string
		set        func() error
	}{
		{"department", "is in " + place,
			func() error { return s.SetUserDepart(ctx, a.ID, depart) }},
		{"avatar", "has another picture", func() error { return s.SetAvatar(ctx, a.ID, f.avatar) }},
		{"sign", "has another sign info", func() error { return s.SetSignInfo(ctx, a.ID, f.sign) }},
	} {
		if !changed(change.flag) {
			continue
		}
		if err := change.set(); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", a.Name,
			cli.Printable(change.told)); err != nil {
			return err
		}
	}
	return nil
}
