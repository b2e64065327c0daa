package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/system"
	"teamtalk/core/config"
	"teamtalk/core/im"
)

func newUserCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Add, list and change users",
		Long: `Add, list and change users, in the store that the settings name. It works beside running servers;
they notice within a minute. A user is given by name or id.`,
		Example: `  teamtalk user add alice --nick "Alice Liddell"
  teamtalk user list
  teamtalk user disable alice --config teamtalk.toml`,
		Args:        cobra.ArbitraryArgs,
		RunE:        cli.CommandsOnly,
		Annotations: cli.HoldsCommands,
	}
	cli.AddConfigFlags(cmd, "data_dir", "store", "mysql.master", "redis.addrs")
	cmd.AddCommand(newUserAddCommand(), newUserListCommand(), newUserSetCommand(), newUserPasswdCommand(),
		newUserStatusCommand("disable", im.StatusDeparted, "Keep a user from logging in",
			`Keep a user from logging in, and take it off the others' contact lists. Its messages stay. A client
that is logged in stays so until it connects again.`),
		newUserStatusCommand("enable", im.StatusOK, "Let a disabled user log in again",
			"Let a user log in that was disabled, or whose status was another than ok."))
	return cmd
}

// withStore opens the store for a command and hands it to do.
func withStore(cmd *cobra.Command, mustExist bool, do func(context.Context, *config.Config, im.Store) error) (err error) {
	cfg, err := cli.LoadConfig(cmd)
	if err != nil {
		return err
	}
	s, err := system.OpenStore(cmd.Context(), cfg, system.StoreOptions{Admin: true, MustExist: mustExist})
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

// passwordFlags are the ways to give a password.
type passwordFlags struct {
	password string
	stdin    bool
}

func (p *passwordFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.password, "password", "", "the password; others on this machine may see it while the command runs")
	cmd.Flags().BoolVar(&p.stdin, "password-stdin", false, "read the password from standard input")
}

// get returns the password, and whether it was made up here and so has to be told.
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

func newUserListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all users",
		Long: `List all users in order of id, disabled ones too.

With --json, print one object a line: id, name, nick, domain, gender (m, f or empty), phone, email,
avatar, department, sign, status.`,
		Example: `  teamtalk user list
  teamtalk user list --json | jq -r 'select(.status == "ok") | .name'`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config, s im.Store) error {
				if asJSON {
					return listJSON(ctx, cmd.OutOrStdout(), s)
				}
				return listTable(ctx, cmd.OutOrStdout(), s)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

// listJSON writes every user as a line of JSON.
func listJSON(ctx context.Context, out io.Writer, s im.UserStore) error {
	enc := cli.NewEncoder(out)
	return admin.EachUser(ctx, s, func(users []im.User) error {
		for _, u := range users {
			if err := enc.Encode(struct {
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
			}{u.ID, u.Name, u.Nick, u.Domain, admin.GenderName(u.Gender), u.Phone, u.Email, u.Avatar, u.DepartID, u.SignInfo, admin.StatusName(u.Status)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// listTable writes every user as a row of a table whose columns are as wide as their texts, a thousand rows at a time.
func listTable(ctx context.Context, out io.Writer, s im.UserStore) error {
	first := true
	err := admin.EachUser(ctx, s, func(users []im.User) error {
		rows := make([][]string, 0, len(users)+1)
		if first {
			rows = append(rows, []string{"ID", "NAME", "NICK", "STATUS", "EMAIL"})
		}
		first = false
		for _, u := range users {
			rows = append(rows, []string{fmt.Sprint(u.ID), u.Name, u.Nick, admin.StatusName(u.Status), u.Email})
		}
		return cli.WriteTable(out, rows)
	})
	if err == nil && first {
		_, err = fmt.Fprintln(out, "no users yet; add one with teamtalk user add NAME")
	}
	return err
}

func newUserPasswdCommand() *cobra.Command {
	var password passwordFlags
	cmd := &cobra.Command{
		Use:   "passwd NAME",
		Short: "Give a user a new password",
		Long: `Give a user a new password. Without --password or --password-stdin one is made up and printed.
A client that is logged in stays so until it connects again.`,
		Example: `  teamtalk user passwd alice
  printf '%s\n' "$PASSWORD" | teamtalk user passwd alice --password-stdin`,
		Args: cli.OneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			clear, generated, err := password.get(cmd)
			if err != nil {
				return err
			}
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config, s im.Store) error {
				if err := admin.SetPassword(ctx, s, args[0], clear); err != nil {
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

// tellPassword prints a password that nobody else knows.
func tellPassword(out io.Writer, clear string, generated bool) {
	if generated {
		fmt.Fprintf(out, "password: %s\n", clear)
	}
}

func newUserStatusCommand(verb string, status im.UserStatus, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " NAME",
		Short:   short,
		Long:    long,
		Example: "  teamtalk user " + verb + " alice",
		Args:    cli.OneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config, s im.Store) error {
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
