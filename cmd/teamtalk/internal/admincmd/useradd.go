package admincmd

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/im"
)

// addFlags are the flags of user add.
type addFlags struct {
	cmd      *cobra.Command
	user     admin.NewUser
	gender   string
	password passwordFlags

	department   string
	csv          string
	count, first int
	format       string

	dryRun, skipExisting, reserved bool
}

// newUserAddCommand returns the command "user add".
func newUserAddCommand() *cobra.Command {
	f := &addFlags{}
	cmd := &cobra.Command{
		Use:   "add NAME | --csv FILE | --count N --format u%05d",
		Short: "Add one user, a file of users, or many for a load test",
		Long: `Add one user. Without --password or --password-stdin the command generates a
password and prints it.

With --csv, add all users of a file, or none when one of them cannot be added. The first line
names the columns: name, and any of password, nick, domain, gender (m or f), phone, email, avatar
and department, which is an id, a name or a path. The command generates missing passwords and
prints them, as CSV with the columns name and password.

With password.kdf argon2id each password of a file takes 13 ms of a core, on all cores at a time:
20,000 users take two minutes on two cores.

With --count, add that many users with numbered names and the same password, for load tests.

The domain is the name in pinyin, by which clients search. It is the name by default.`,
		Example: `  teamtalk user add alice --nick "Alice Liddell" --email alice@example.com
  printf '%s\n' "$PASSWORD" | teamtalk user add bob --password-stdin
  teamtalk user add --csv staff.csv --dry-run
  teamtalk user add --count 10000 --format u%05d --password pw`,
		Args: cobra.ArbitraryArgs,
		RunE: f.run,
	}
	f.cmd = cmd
	flags := cmd.Flags()
	flags.StringVar(&f.user.Nick, "nick", "", "the name that clients show (default: the name)")
	flags.StringVar(&f.user.Domain, "domain", "", "the name in pinyin (default: the name)")
	flags.StringVar(&f.gender, "gender", "", "m or f")
	flags.StringVar(&f.user.Phone, "phone", "", "telephone number")
	flags.StringVar(&f.user.Email, "email", "", "mail address")
	flags.StringVar(&f.user.Avatar, "avatar", "", "URL of a picture")
	flags.StringVar(&f.department, "department", "",
		"id, name or path of the department, such as Sales/East")
	f.password.add(cmd)
	flags.StringVar(&f.csv, "csv", "", "add the users of this file; - is standard input")
	flags.IntVar(&f.count, "count", 0, "add this many numbered users")
	flags.IntVar(&f.first, "first", 1, "with --count: the first number")
	flags.StringVar(&f.format, "format", "u%05d",
		"with --count: the names, with %d or %05d for the number")
	flags.BoolVar(&f.dryRun, "dry-run", false, "check everything, add nothing")
	flags.BoolVar(&f.skipExisting, "skip-existing", false,
		"with --csv and --count: skip users that exist already")
	flags.BoolVar(&f.reserved, "reserved", false,
		"allow names and nicks that others take for official, such as admin")
	return cmd
}

// forOne lists the flags that describe one user.
var forOne = []string{"nick", "domain", "gender", "phone", "email", "avatar", "department"}

// run adds one user, a file of users, or numbered users.
func (f *addFlags) run(cmd *cobra.Command, args []string) error {
	if err := f.check(cmd, args); err != nil {
		return err
	}
	switch changed := cmd.Flags().Changed; {
	case changed("csv"):
		return f.addFile()
	case changed("count"):
		return f.addNumbered()
	}
	return f.addOne(args[0])
}

// check rejects flags and arguments that do not go together.
func (f *addFlags) check(cmd *cobra.Command, args []string) error {
	changed := cmd.Flags().Changed
	many := changed("csv") || changed("count")
	switch {
	case changed("csv") && changed("count"):
		return cli.Usagef(cmd, "want one of --csv and --count")
	case many && len(args) > 0:
		return cli.Usagef(cmd, "want a NAME, or --csv, or --count, not both")
	case !many && len(args) != 1:
		return cli.Usagef(cmd, "want one NAME, or --csv FILE, or --count N")
	case !changed("count") && (changed("first") || changed("format")):
		return cli.Usagef(cmd, "--first and --format go with --count")
	case !many && f.skipExisting:
		return cli.Usagef(cmd, "--skip-existing goes with --csv and --count")
	case changed("csv") && (changed("password") || f.password.stdin):
		return cli.Usagef(cmd, "with --csv, passwords are a column of the file")
	}
	for _, name := range forOne {
		if many && changed(name) {
			return cli.Usagef(cmd, "--%s describes one user; it does not go with --csv and --count",
				name)
		}
	}
	return nil
}

// addOne adds one user.
func (f *addFlags) addOne(name string) error {
	u := f.user
	u.Name = name
	u.Department = f.department
	var err error
	if u.Gender, err = admin.ParseGender(f.gender); err != nil {
		return &cli.UsageError{Cmd: f.cmd, Err: err}
	}
	var generated bool
	if u.Password, generated, err = f.password.get(f.cmd); err != nil {
		return err
	}
	if err := u.Complete(); err != nil {
		return &cli.UsageError{Cmd: f.cmd, Err: err}
	}
	if o := f.options(); o.Refuses(&u) {
		return cli.Usagef(f.cmd, "%s", o.ReservedText(&u))
	}
	return withStore(f.cmd, false, func(ctx context.Context, cfg *config.Config, s im.Store) error {
		out := f.cmd.OutOrStdout()
		_, err := s.AccountByName(ctx, name)
		if err == nil {
			return im.Errorf(im.Exists,
				"the name %q is taken; to change its password: teamtalk user passwd %s", name, name)
		} else if im.KindOf(err) != im.NotFound {
			return err
		}
		list := []admin.NewUser{u}
		if err := placeOne(ctx, s, list); err != nil {
			return err
		}
		if f.dryRun {
			_, err := fmt.Fprintf(out, "would add %s to %s\n", name, open.StoreName(cfg))
			return err
		}
		policy, err := open.PasswordPolicy(cfg, s)
		if err != nil {
			return err
		}
		ids, err := admin.AddUsers(ctx, s, policy, list)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "added %s (id %d) to %s\n", name, ids[0], open.StoreName(cfg))
		tellPassword(out, u.Password, generated)
		return nil
	})
}

// placeOne looks up the department of one user.
func placeOne(ctx context.Context, s im.Store, one []admin.NewUser) (err error) {
	failed := admin.Place(ctx, s, one, func(_ *admin.NewUser, wrong error) { err = wrong })
	return errors.Join(failed, err)
}

// options returns the flags as options of package admin.
func (f *addFlags) options() *admin.Import {
	o := &admin.Import{DryRun: f.dryRun, SkipExisting: f.skipExisting, Reserved: f.reserved,
		Skip: "--skip-existing skips such users", Allow: "--reserved"}
	if f.cmd.Flags().Changed("count") {
		o.Skip += fmt.Sprintf(", --first %d continues after them", f.first+f.count)
	}
	return o
}

// addFile adds the users of a file.
func (f *addFlags) addFile() error {
	in, name := f.cmd.InOrStdin(), "standard input"
	if f.csv != "-" {
		file, err := os.Open(f.csv)
		if err != nil {
			return err
		}
		defer file.Close()
		in, name = file, f.csv
	}
	users, err := admin.ReadUsers(in)
	if err != nil {
		return admin.InFile(name, err)
	}
	return withStore(f.cmd, false, func(ctx context.Context, cfg *config.Config, s im.Store) error {
		users, skipped, err := f.options().Choose(ctx, s, users)
		if err != nil {
			return admin.InFile(name, err)
		}
		policy, err := open.PasswordPolicy(cfg, s)
		if err != nil {
			return err
		}
		generated := admin.GeneratePasswords(users)
		if !f.dryRun && len(users) > 0 {
			if _, err := admin.AddUsers(ctx, s, policy, users); err != nil {
				return fmt.Errorf("%s: no user was added: %w", name, err)
			}
		}
		f.report(len(users), skipped, cfg)
		if f.dryRun || generated == nil {
			return nil
		}
		w := csv.NewWriter(f.cmd.OutOrStdout())
		return w.WriteAll(append([][]string{{"name", "password"}}, generated...))
	})
}

// report writes the outcome to standard error: standard output is for passwords.
func (f *addFlags) report(added, skipped int, cfg *config.Config) {
	verb := "added"
	if f.dryRun {
		verb = "would add"
	}
	note := ""
	if skipped > 0 {
		note = fmt.Sprintf("; skipped: %d", skipped)
	}
	users := "users"
	if added == 1 {
		users = "user"
	}
	fmt.Fprintf(f.cmd.ErrOrStderr(), "%s %d %s to %s%s\n", verb, added, users,
		open.StoreName(cfg), note)
}

// addNumbered adds users with numbered names.
func (f *addFlags) addNumbered() error {
	users, err := f.numbered()
	if err != nil {
		return err
	}
	return withStore(f.cmd, false, func(ctx context.Context, cfg *config.Config, s im.Store) error {
		begin := time.Now()
		users, skipped, err := f.options().Choose(ctx, s, users)
		if err != nil {
			return err
		}
		policy, err := open.PasswordPolicy(cfg, s)
		if err != nil {
			return err
		}
		if !f.dryRun {
			if err := admin.AddInBatches(ctx, s, policy, users); err != nil {
				return err
			}
		}
		f.report(len(users), skipped, cfg)
		if len(users) > 0 && !f.dryRun {
			fmt.Fprintf(f.cmd.ErrOrStderr(), "%s … %s in %.1f s\n", users[0].Name,
				users[len(users)-1].Name, time.Since(begin).Seconds())
		}
		return nil
	})
}

// numbered returns the users of --count.
func (f *addFlags) numbered() ([]admin.NewUser, error) {
	format := admin.CheckFormat(f.format)
	switch {
	case f.count < 1 || f.count > 10_000_000:
		return nil, cli.Usagef(f.cmd, "--count must be 1 to 10000000")
	case f.first < 0:
		return nil, cli.Usagef(f.cmd, "--first must not be negative")
	case format != nil:
		return nil, cli.Usagef(f.cmd, "--format %w", format)
	case !f.cmd.Flags().Changed("password") && !f.password.stdin:
		return nil, cli.Usagef(f.cmd,
			"--count needs --password or --password-stdin, the password of them all")
	}
	password, _, err := f.password.get(f.cmd)
	if err != nil {
		return nil, err
	}
	users := make([]admin.NewUser, f.count)
	for i := range users {
		users[i] = admin.NewUser{User: im.User{Name: fmt.Sprintf(f.format, f.first+i)},
			Password: password}
		if err := users[i].Complete(); err != nil {
			return nil, &cli.UsageError{Cmd: f.cmd, Err: err}
		}
	}
	return users, nil
}
