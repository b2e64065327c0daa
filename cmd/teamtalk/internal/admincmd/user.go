// Package admincmd holds the commands that read and change what a store has: user, group,
// depart and unread. They open the store themselves, beside servers that run. The command token
// changes the tokens of the admin API. The audit log has each of them.
package admincmd

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/kdf"
)

// NewUser returns the command "user".
func NewUser() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Add, list and change users",
		Long: `Add, list and change users, in the store that the settings name. Servers may run
on the store: they notice a change within a minute. A user is given by name or id. A text such as
id:7 means the id alone, whatever names users have.`,
		Example: `  teamtalk user add alice --nick "Alice Liddell"
  teamtalk user list
  teamtalk user disable alice --config teamtalk.toml`,
		Args:        cobra.ArbitraryArgs,
		RunE:        cli.CommandsOnly,
		Annotations: cli.HoldsCommands,
	}
	cli.AddConfigFlags(cmd, "data_dir", "store", "mysql.master", "redis.addrs", "password.kdf")
	cmd.AddCommand(newUserAddCommand(), newUserListCommand(), newUserShowCommand(),
		newUserSetCommand(), newUserPasswdCommand(), newUserUnlockCommand(),
		newUserStatusCommand("disable", im.StatusDeparted, "Refuse the logins of a user",
			`Refuse the logins of a user, and remove the user from the contact lists of others. The
user's messages remain. Clients that are logged in are disconnected within seconds.`),
		newUserStatusCommand("enable", im.StatusOK, "Allow the logins of a disabled user",
			"Allow the logins of a user that was disabled, or that had a status other than ok."),
		newUserDeleteCommand(), newUserExportCommand(), newUserKickCommand(),
		newUserOnlineCommand())
	return cmd
}

// withStore opens the store for a command, and calls do with it. mustExist fails instead
// of making a new embedded store.
func withStore(cmd *cobra.Command, mustExist bool,
	do func(context.Context, *config.Config, im.Store) error) (err error) {
	cfg, err := cli.LoadConfig(cmd)
	if err != nil {
		return err
	}
	log, err := openAudit(cmd, cfg)
	if err != nil {
		return err
	}
	defer func() { err = log.end(cmd, err) }()
	opt := open.Options{Admin: true, MustExist: mustExist}
	if cfg.Store == "embedded" { // a command may update its schema, which it logs
		opt.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	}
	s, err := open.Store(cmd.Context(), cfg, opt)
	if err != nil {
		return err
	}
	defer func() {
		if closing := s.Close(); err == nil {
			err = closing
		}
	}()
	return do(cmd.Context(), cfg, s)
}

// passwordFlags are the flags that give a password.
type passwordFlags struct {
	password string
	stdin    bool
}

// add defines the flags.
func (p *passwordFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.password, "password", "",
		"the password; other users of this machine can see it while the command runs")
	cmd.Flags().BoolVar(&p.stdin, "password-stdin", false, "read the password from standard input")
}

// get returns the password, and whether it was generated and so must be printed.
func (p *passwordFlags) get(cmd *cobra.Command) (password string, generated bool, err error) {
	given := cmd.Flags().Changed("password")
	switch {
	case given && p.stdin:
		return "", false, cli.Usagef(cmd, "want one of --password and --password-stdin")
	case p.stdin:
		password, err = admin.ReadPassword(cmd.InOrStdin())
	case given:
		password = p.password
	default:
		return admin.GeneratePassword(), true, nil
	}
	if err == nil {
		err = admin.CheckPassword(password)
	}
	if err != nil {
		return "", false, &cli.UsageError{Cmd: cmd, Err: err}
	}
	return password, false, nil
}

// newUserListCommand returns the command "user list".
func newUserListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all users",
		Long: `List all users in the order of their ids, also disabled ones. Standard error gets
the numbers of passwords in argon2id and in md5, which is weak: see the setting password.kdf.

With --json, print one object a line: id, name, nick, domain, gender (m, f or empty), phone,
email, avatar, department, sign, status.`,
		Example: `  teamtalk user list
  teamtalk user list --json | jq -r 'select(.status == "ok") | .name'`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config,
				s im.Store) error {
				if asJSON {
					return listJSON(ctx, cmd.OutOrStdout(), s)
				}
				if err := listTable(ctx, cmd.OutOrStdout(), s); err != nil {
					return err
				}
				return countPasswords(ctx, cmd.ErrOrStderr(), s)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

// userJSON is the form in which --json prints a user.
type userJSON struct {
	ID         uint32 `json:"id"`
	Name       string `json:"name"`
	Nick       string `json:"nick"`
	Domain     string `json:"domain"`
	Gender     string `json:"gender"`
	Phone      string `json:"phone"`
	Email      string `json:"email"`
	Avatar     string `json:"avatar"`
	Department uint32 `json:"department"`
	Sign       string `json:"sign"`
	Status     string `json:"status"`
}

// listJSON writes every user as a line of JSON.
func listJSON(ctx context.Context, out io.Writer, s im.UserStore) error {
	enc := cli.NewEncoder(out)
	return admin.EachUser(ctx, s, func(users []im.User) error {
		for _, u := range users {
			err := enc.Encode(userJSON{
				ID: u.ID, Name: u.Name, Nick: u.Nick, Domain: u.Domain,
				Gender: admin.GenderName(u.Gender),
				Phone:  u.Phone, Email: u.Email, Avatar: u.Avatar, Department: u.DepartID,
				Sign:   u.SignInfo,
				Status: admin.StatusName(u.Status),
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// listTable writes every user as a row of a table. Columns are as wide as the longest
// text of a thousand users.
func listTable(ctx context.Context, out io.Writer, s im.UserStore) error {
	first := true
	err := admin.EachUser(ctx, s, func(users []im.User) error {
		rows := make([][]string, 0, len(users)+1)
		if first {
			rows = append(rows, []string{"ID", "NAME", "NICK", "STATUS", "EMAIL"})
		}
		first = false
		for _, u := range users {
			rows = append(rows, []string{fmt.Sprint(u.ID), u.Name, u.Nick,
				admin.StatusName(u.Status), u.Email})
		}
		return cli.WriteTable(out, rows)
	})
	if err == nil && first {
		_, err = fmt.Fprintln(out, "no users yet; add one with teamtalk user add NAME")
	}
	return err
}

// countPasswords writes how many users have passwords in each form.
func countPasswords(ctx context.Context, out io.Writer, s im.UserStore) error {
	n, err := s.CountPasswords(ctx)
	if err != nil || n == (im.PasswordCounts{}) {
		return err
	}
	_, err = fmt.Fprintf(out, "passwords: %d argon2id, %d md5 (weak)\n", n.KDF, n.Weak)
	return err
}

// passwordForm returns the form of a user's password, for people.
func passwordForm(p im.StoredPassword) string {
	form, err := kdf.Parse(p.Hash)
	switch {
	case err == nil:
		return fmt.Sprintf("argon2id, %d KiB, passes: %d", form.Memory, form.Passes)
	case p.IsKDF():
		return "argon2id, damaged: no login succeeds"
	}
	return "md5 (weak)"
}

// newUserPasswdCommand returns the command "user passwd".
func newUserPasswdCommand() *cobra.Command {
	var password passwordFlags
	cmd := &cobra.Command{
		Use:   "passwd NAME",
		Short: "Give a user a new password",
		Long: `Give a user a new password. Without --password or --password-stdin the command
generates and prints one. Clients of the user that are logged in are told so and disconnected
within seconds.`,
		Example: `  teamtalk user passwd alice
  printf '%s\n' "$PASSWORD" | teamtalk user passwd alice --password-stdin`,
		Args: cli.OneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			clear, generated, err := password.get(cmd)
			if err != nil {
				return err
			}
			return withStore(cmd, true, func(ctx context.Context, cfg *config.Config,
				s im.Store) error {
				policy, err := open.PasswordPolicy(cfg, s)
				if err != nil {
					return err
				}
				if err := admin.SetPassword(ctx, s, policy, args[0], clear); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s has a new password\n", args[0])
				tellPassword(cmd.OutOrStdout(), clear, generated)
				return nil
			})
		},
	}
	password.add(cmd)
	return cmd
}

// tellPassword prints a generated password.
func tellPassword(out io.Writer, clear string, generated bool) {
	if generated {
		fmt.Fprintf(out, "password: %s\n", clear)
	}
}

// newUserStatusCommand returns the command "user disable" or "user enable".
func newUserStatusCommand(verb string, status im.UserStatus, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " NAME",
		Short:   short,
		Long:    long,
		Example: "  teamtalk user " + verb + " alice",
		Args:    cli.OneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config,
				s im.Store) error {
				a, err := admin.FindUser(ctx, s, args[0])
				if err != nil {
					return err
				}
				if err := s.SetUserStatus(ctx, a.ID, status); err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is %sd\n", a.Name, verb)
				return err
			})
		},
	}
}
