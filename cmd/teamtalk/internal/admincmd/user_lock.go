package admincmd

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy/lockout"
)

// newUserShowCommand returns the command "user show".
func newUserShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a user, and whether wrong passwords lock the name",
		Long: `Show a user, the form in which the password is stored, and whether wrong
passwords lock the name. A row for each network shows its wrong passwords, and the day of its last
good login. Another table shows the networks that are locked for all names that have not logged in
from there, without those that are open to the user. The command reads the limits from the settings
dbproxy.login_…: name the file of the servers with --config.`,
		Example: "  teamtalk user show alice --config teamtalk.toml",
		Args:    cli.OneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, true, func(ctx context.Context, cfg *config.Config,
				s im.Store) error {
				a, err := admin.FindUser(ctx, s, args[0])
				if err != nil {
					return err
				}
				state, err := lockout.Inspect(ctx, s, open.LoginLimits(&cfg.DBProxy), s.Now(),
					a.Name, a.ID)
				if err != nil {
					return err
				}
				if a.Password == "" { // found by id
					if a, err = s.AccountByName(ctx, a.Name); err != nil {
						return err
					}
				}
				if err := showUser(cmd.OutOrStdout(), &a, &state); err != nil {
					return err
				}
				return showNetworks(ctx, cmd.OutOrStdout(), cfg, s, &a.User)
			})
		},
	}
}

// showUser writes a user and the state of its name.
func showUser(out io.Writer, a *im.Account, s *lockout.State) error {
	u := &a.User
	rows := [][]string{{"id", strconv.FormatUint(uint64(u.ID), 10)}, {"name", u.Name},
		{"nick", u.Nick}, {"status", admin.StatusName(u.Status)}, {"email", u.Email},
		{"phone", u.Phone}, {"password", passwordForm(a.Stored())},
		{"logins", "allowed from new networks"}}
	if !s.LockedUntil.IsZero() {
		rows[len(rows)-1][1] = fmt.Sprintf("locked for new networks until %s: %d wrong passwords",
			clockTime(s.LockedUntil), s.Spread)
	}
	if err := cli.WriteTable(out, rows); err != nil || len(s.Networks) == 0 {
		return err
	}
	rows = [][]string{{"NETWORK", "WRONG PASSWORDS", "LOCKED UNTIL", "LAST LOGIN"}}
	for _, n := range s.Networks {
		row := []string{n.Network, strconv.Itoa(n.Failed), "-", "-"}
		if n.Network == "" {
			row[0] = "(address unknown)"
		}
		if !n.LockedUntil.IsZero() {
			row[2] = clockTime(n.LockedUntil)
		}
		if !n.Login.IsZero() {
			row[3] = n.Login.Format(time.DateOnly)
		}
		rows = append(rows, row)
	}
	fmt.Fprintln(out)
	return cli.WriteTable(out, rows)
}

// mostNetworks is how many locked networks are shown. An attack can lock thousands.
const mostNetworks = 20

// showNetworks writes the networks that are locked for all names, without those from which the
// user has logged in, and how to unlock them; nothing when there are none.
func showNetworks(ctx context.Context, out io.Writer, cfg *config.Config, s im.Store,
	u *im.User) error {
	list, err := lockout.LockedNetworks(ctx, s, open.LoginLimits(&cfg.DBProxy), s.Now(), u.ID)
	if err != nil || len(list) == 0 {
		return err
	}
	rows := [][]string{{"LOCKED NETWORK", "WRONG PASSWORDS", "LOCKED UNTIL"}}
	for _, n := range list[:min(len(list), mostNetworks)] {
		rows = append(rows, []string{n.Network, strconv.Itoa(n.Failed), clockTime(n.LockedUntil)})
	}
	fmt.Fprintf(out, "\nThese networks are locked for names that have not logged in from there, "+
		"and so for %s:\n\n", cli.Printable(u.Name))
	if err := cli.WriteTable(out, rows); err != nil {
		return err
	}
	if more := len(list) - mostNetworks; more > 0 {
		fmt.Fprintf(out, "and %d more\n", more)
	}
	_, err = fmt.Fprintln(out, "\nTo unlock one: teamtalk user unlock --network ADDRESS")
	return err
}

// clockTime returns a time for people.
func clockTime(t time.Time) string { return t.Format("2006-01-02 15:04:05 -07:00") }

// newUserUnlockCommand returns the command "user unlock".
func newUserUnlockCommand() *cobra.Command {
	var network string
	cmd := &cobra.Command{
		Use:   "unlock {NAME | --network ADDRESS}",
		Short: "Forget the wrong passwords for a name, or from a network",
		Long: `Forget the wrong passwords for a name. Logins are allowed at once. Wrong passwords
that follow are counted anew. Networks that are locked for all names (login_lock_network) stay
locked, and the command names them.

With --network, forget the count of the network of an address (login_lock_network). A name that
is locked for this network stays locked: unlock the name.`,
		Example: `  teamtalk user unlock alice --config teamtalk.toml
  teamtalk user unlock --network 203.0.113.7`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			byNetwork := cmd.Flags().Changed("network")
			if len(args) > 1 || byNetwork == (len(args) == 1) {
				return cli.Usagef(cmd, "want one of NAME and --network")
			}
			var addr netip.Addr
			if byNetwork {
				var err error
				if addr, err = netip.ParseAddr(network); err != nil {
					return cli.Usagef(cmd, "--network %q is no address", network)
				}
			}
			return withStore(cmd, true, func(ctx context.Context, cfg *config.Config,
				s im.Store) error {
				if byNetwork {
					return unlockNetwork(ctx, cmd.OutOrStdout(), s, addr)
				}
				return unlockName(ctx, cmd.OutOrStdout(), cfg, s, args[0])
			})
		},
	}
	cmd.Flags().StringVar(&network, "network", "", "an address of the network")
	return cmd
}

// unlockName unlocks the name of a user, given by name or id, and names the networks that stay
// locked. A name without a user may be locked as well, and a user of that name that is added later
// would find it so.
func unlockName(ctx context.Context, out io.Writer, cfg *config.Config, s im.Store,
	name string) error {
	text := "%s is unlocked\n"
	a, err := admin.FindUser(ctx, s, name)
	switch {
	case err == nil:
		name = a.Name
	case im.KindOf(err) == im.NotFound:
		text = "%s is unlocked; no user has this name\n"
	default:
		return err
	}
	if err := lockout.Unlock(ctx, s, name); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, text, cli.Printable(name)); err != nil {
		return err
	}
	return showNetworks(ctx, out, cfg, s, &im.User{ID: a.ID, Name: name})
}

// unlockNetwork unlocks the network of an address.
func unlockNetwork(ctx context.Context, out io.Writer, s im.Store, addr netip.Addr) error {
	network, err := lockout.UnlockNetwork(ctx, s, addr)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "the wrong passwords from %s are forgotten; names that are "+
		"locked for it stay locked\n", network)
	return err
}
