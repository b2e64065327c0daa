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

// setFlag is a flag of user set, and where the change holds its value.
type setFlag struct {
	name, help, told string
	value            string
	of               func(*admin.UserChange) **string
}

// setFlags returns the flags of user set, in the order in which changes are told.
func setFlags() []*setFlag {
	type change = admin.UserChange
	return []*setFlag{
		{name: "department", help: "the department; / is none",
			of: func(c *change) **string { return &c.Department }},
		{name: "avatar", help: "URL of a picture", told: "has another picture",
			of: func(c *change) **string { return &c.Avatar }},
		{name: "sign", help: "the text beside the user's name", told: "has another sign info",
			of: func(c *change) **string { return &c.Sign }},
		{name: "nick", help: "the name that clients show", told: "has another nick",
			of: func(c *change) **string { return &c.Nick }},
		{name: "domain", help: "the name in pinyin", told: "has another domain",
			of: func(c *change) **string { return &c.Domain }},
		{name: "gender", help: "m or f, or nothing", told: "has another gender",
			of: func(c *change) **string { return &c.Gender }},
		{name: "phone", help: "telephone number", told: "has another phone",
			of: func(c *change) **string { return &c.Phone }},
		{name: "email", help: "mail address", told: "has another email",
			of: func(c *change) **string { return &c.Email }},
	}
}

// newUserSetCommand returns the command "user set".
func newUserSetCommand() *cobra.Command {
	flags := setFlags()
	var reserved bool
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change a user's nick, contact data, department, picture or sign info",
		Long: `Change a user's nick, domain, gender, phone, email, department, picture or sign
info, which is the text beside the user's name. Without its flag a value does not change; an empty
text clears it. Either all values change or none. Clients see a change when they next connect.

The user is a name or an id. The department is an id, a name, a path such as Sales/East, or / for
none.`,
		Example: `  teamtalk user set alice --department Sales/East --phone 13800138000
  teamtalk user set alice --avatar http://10.0.0.5:8700/g0/000/001/a.png --sign ""`,
		Args: cli.OneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			c := admin.UserChange{Reserved: reserved}
			for _, f := range flags {
				if cmd.Flags().Changed(f.name) {
					*f.of(&c) = &f.value
				}
			}
			if c.Empty() {
				return cli.Usagef(cmd, "want a flag with a value to change, such as --nick")
			}
			if err := c.Check(); err != nil {
				return &cli.UsageError{Cmd: cmd, Err: err}
			}
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config,
				s im.Store) error {
				u, place, err := admin.ChangeUser(ctx, s, args[0], c)
				if err != nil {
					return err
				}
				return tellChanges(cmd, flags, u.Name, place)
			})
		},
	}
	for _, f := range flags {
		cmd.Flags().StringVar(&f.value, f.name, "", f.help)
	}
	cmd.Flags().BoolVar(&reserved, "reserved", false,
		"allow a nick that others take for official, such as admin")
	return cmd
}

// tellChanges writes the changes of a user. place is the path of the department.
func tellChanges(cmd *cobra.Command, flags []*setFlag, name, place string) error {
	for _, f := range flags {
		if !cmd.Flags().Changed(f.name) {
			continue
		}
		told := f.told
		if f.name == "department" {
			if told = "is in " + place; place == "" {
				told = "is in no department"
			}
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", name,
			cli.Printable(told)); err != nil {
			return err
		}
	}
	return nil
}

// newUserDeleteCommand returns the command "user delete".
func newUserDeleteCommand() *cobra.Command {
	var sure bool
	cmd := &cobra.Command{
		Use:   "delete NAME --yes",
		Short: "End a user for good, and free the name",
		Long: `End a user for good. Logins are refused, and clients that are logged in are
disconnected within seconds. The password, the contact data, the push token and the memberships in
groups are removed, and another user may get the name.

The messages of the user remain, and so does the nick, which histories show: to hide it, set another
nick first. Groups that the user made remain as well. No client can change those that are listed
afterwards: use teamtalk group.

To refuse the logins of a user for some time: teamtalk user disable.`,
		Example: "  teamtalk user delete alice --yes",
		Args:    cli.OneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !sure {
				return cli.Usagef(cmd, "this cannot be undone: confirm it with --yes")
			}
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config,
				s im.Store) error {
				d, err := admin.DeleteUser(ctx, s, args[0])
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s (id %d) is deleted, and was in %s\n",
					cli.Printable(d.User.Name), d.User.ID, countOf(len(d.Left), "group"))
				if len(d.Owned) > 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "groups that no client can change now: %d\n",
						d.Owned)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&sure, "yes", false, "delete the user; this cannot be undone")
	return cmd
}
