package benchcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/pool"
	"teamtalk/proto/pb"
	"teamtalk/sql/embedded"
	"teamtalk/sql/fill"
)

// benchFill are the flags of bench fill.
type benchFill struct {
	cmd                        *cobra.Command
	users                      int
	relations, messages        int
	groups, members, groupMsgs int
	size, days                 int
	format, password           string
}

// newBenchFillCommand returns the command "bench fill".
func newBenchFillCommand() *cobra.Command {
	f := &benchFill{}
	cmd := &cobra.Command{
		Use:   "fill --relations N --messages M",
		Short: "Fill a store with many conversations and messages",
		Long: `Write conversations and messages into a store, millions in minutes, to measure
servers on a large store. No server may run on the store at the same time.

Missing users are added, with names as of "teamtalk user add --count". The pairs of "teamtalk
bench single" are among the first conversations. Messages are spread evenly over the
conversations and over the last --days, and all count as read. Existing rows remain: a second run
completes the conversations and adds messages after the last ones.

Use a database that serves measurements only. The rows cannot be removed again.`,
		Example: `  teamtalk bench fill --relations 1000000 --messages 10000000
  teamtalk bench fill --relations 1000 --groups 20 --members 200 --group-messages 5000`,
		Args: cli.NoArgs,
		RunE: f.run,
	}
	f.cmd = cmd
	flags := cmd.Flags()
	flags.IntVar(&f.relations, "relations", 1000, "pairs of users with a conversation")
	flags.IntVar(&f.messages, "messages", 0, "messages between users to add")
	flags.IntVar(&f.users, "users", 0,
		"users of the conversations (0: as many as --relations and --members need, at least 1000)")
	flags.IntVar(&f.groups, "groups", 0, "groups; those of an earlier run are used again")
	flags.IntVar(&f.members, "members", 50, "members of each group")
	flags.IntVar(&f.groupMsgs, "group-messages", 0, "messages to add to the groups")
	flags.IntVar(&f.size, "size", 64, "bytes of each text before encryption")
	flags.IntVar(&f.days, "days", 30, "days that the messages are spread over")
	flags.StringVar(&f.format, "format", "u%05d",
		"login names of the users, with %d or %05d for the number, from 1")
	flags.StringVar(&f.password, "password", "pw", "password of added users")
	addDatabaseFlags(cmd)
	return cmd
}

// maxFill bounds the messages of a run: a larger number is a mistake, or needs hours and
// much memory.
const maxFill = 1_000_000_000

// check checks the flags, and sets the number of users.
func (f *benchFill) check() error {
	for _, n := range []struct {
		name           string
		v, least, most int
	}{
		{"relations", f.relations, 0, 50_000_000}, {"messages", f.messages, 0, maxFill},
		{"users", f.users, 0, 10_000_000}, {"groups", f.groups, 0, 1_000_000},
		{"members", f.members, 1, im.MaxGroupMembers}, {"group-messages", f.groupMsgs, 0, maxFill},
		{"size", f.size, 1, im.MaxText}, {"days", f.days, 1, 10_000},
	} {
		if n.v < n.least || n.v > n.most {
			return cli.Usagef(f.cmd, "--%s must be %d to %d", n.name, n.least, n.most)
		}
	}
	format := admin.CheckFormat(f.format)
	switch {
	case format != nil:
		return cli.Usagef(f.cmd, "--format %w", format)
	case f.messages > 0 && f.relations == 0:
		return cli.Usagef(f.cmd, "--messages need --relations")
	case f.groupMsgs > 0 && f.groups == 0:
		return cli.Usagef(f.cmd, "--group-messages need --groups")
	}
	if f.users == 0 {
		f.users = f.defaultUsers()
	}
	if fill.MaxRelations(f.users) < f.relations {
		return cli.Usagef(f.cmd, "%d users have at most %d conversations", f.users,
			fill.MaxRelations(f.users))
	}
	if f.groups > 0 && f.members > f.users {
		return cli.Usagef(f.cmd, "%d users are too few for groups of %d", f.users, f.members)
	}
	return nil
}

// defaultUsers returns a number of users with room for the relations and the members.
func (f *benchFill) defaultUsers() int {
	n := 1000
	// With few users each one would have more conversations than real users have.
	for fill.MaxRelations(n) < f.relations*20 && n < 20_000 {
		n += 1000
	}
	for fill.MaxRelations(n) < f.relations {
		n += 1000
	}
	if f.groups > 0 {
		n = max(n, f.members)
	}
	return n
}

// run fills the store.
func (f *benchFill) run(cmd *cobra.Command, _ []string) error {
	if err := f.check(); err != nil {
		return err
	}
	cfg, err := loadDatabases(cmd)
	if err != nil {
		return err
	}
	text, err := im.NewTextCipher(string(cfg.Keys.Text))
	if err != nil {
		return fmt.Errorf("%w (setting keys.text_key)", err)
	}
	began := time.Now()
	res, err := f.fill(cmd.Context(), cfg, text)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(),
		"added to %s in %.1f s: %d conversations, %d messages between users, %d to groups\n",
		open.StoreName(cfg), time.Since(began).Seconds(), res.Relations, res.Messages,
		res.GroupMessages)
	return nil
}

// fill makes the users and the groups, and writes the rows.
func (f *benchFill) fill(ctx context.Context, cfg *config.Config, text *im.TextCipher) (
	res fill.Result, err error,
) {
	encrypted, err := open.MySQLTLS(cfg.MySQL)
	if err != nil {
		return res, err
	}
	s, err := f.open(ctx, cfg)
	if err != nil {
		return res, err
	}
	e, isEmbedded := s.(*embedded.Store)
	out := f.cmd.ErrOrStderr()
	spec := fill.Spec{
		Relations: f.relations, Messages: f.messages, GroupMessages: f.groupMsgs,
		Texts:    f.texts(text),
		Progress: fillProgress(out),
	}
	spec.Until = uint32(time.Now().Unix())
	spec.Since = spec.Until - uint32(f.days)*24*3600
	policy, err := open.PasswordPolicy(cfg, s)
	if err == nil {
		spec.Users, err = f.makeUsers(ctx, s, policy, out)
	}
	if err == nil {
		spec.Groups, err = f.makeGroups(ctx, s, spec.Users)
	}
	if err == nil && isEmbedded {
		res, err = fill.Embedded(ctx, e, spec)
	}
	// The store on MySQL is closed before fill writes: its caches would not learn of the
	// rows.
	if err = errors.Join(err, s.Close()); err == nil && !isEmbedded {
		res, err = fill.MySQL(ctx, cfg.MySQL.Master.Reveal(), encrypted, spec)
	}
	return res, err
}

// open opens the store. It takes the lock of the embedded store, so that no server can
// run on it.
func (f *benchFill) open(ctx context.Context, cfg *config.Config) (im.Store, error) {
	if cfg.Store == "mysql" {
		return open.MySQL(ctx, cfg, open.Options{Admin: true})
	}
	// open.Store with Admin takes no lock, so that commands can run beside a
	// server.
	return embedded.Open(ctx, embedded.Options{Dir: cfg.DataDir,
		Workers: pool.SizesFor(cfg.Workers).SQLOpen})
}

// texts returns different bodies of messages, encrypted as clients do.
func (f *benchFill) texts(c *im.TextCipher) [][]byte {
	const words = "The quick brown fox jumps over the lazy dog. "
	texts := make([][]byte, 64)
	for i := range texts {
		text := strings.Repeat(words[i%len(words):]+words, f.size/len(words)+1)
		texts[i] = c.Encrypt(text[:f.size])
	}
	return texts
}

// makeUsers adds the missing users, and returns the ids of all in the order of their
// numbers.
func (f *benchFill) makeUsers(ctx context.Context, s im.UserStore, policy im.PasswordPolicy,
	out io.Writer) ([]uint32, error) {
	list, missing, err := f.findUsers(ctx, s)
	if err != nil || len(missing) == 0 {
		return list, err
	}
	for i := range missing {
		if err := missing[i].Complete(); err != nil {
			return nil, &cli.UsageError{Cmd: f.cmd, Err: err}
		}
	}
	fmt.Fprintf(out, "adding %d users\n", len(missing))
	if err := admin.AddInBatches(ctx, s, policy, missing); err != nil {
		return nil, err
	}
	if list, missing, err = f.findUsers(ctx, s); err == nil && len(missing) > 0 {
		err = im.Errorf(im.Internal, "user %s was added, but the store does not list it",
			missing[0].Name)
	}
	return list, err
}

// findUsers returns the ids of the users in the order of their numbers, 0 for those that
// are missing, and the missing users.
func (f *benchFill) findUsers(ctx context.Context, s im.UserStore) ([]uint32, []admin.NewUser,
	error) {
	ids := map[string]uint32{}
	err := admin.EachUser(ctx, s, func(users []im.User) error {
		for _, u := range users {
			if u.Status != im.StatusDeparted {
				ids[admin.FoldName(u.Name)] = u.ID
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	list := make([]uint32, f.users)
	var missing []admin.NewUser
	for i := range list {
		name := fmt.Sprintf(f.format, i+1)
		if list[i] = ids[admin.FoldName(name)]; list[i] == 0 {
			missing = append(missing, admin.NewUser{User: im.User{Name: name},
				Password: f.password})
		}
	}
	return list, missing, nil
}

// makeGroups makes the missing groups, and returns all. Their names identify the groups.
func (f *benchFill) makeGroups(ctx context.Context, s im.GroupStore, users []uint32) ([]fill.Group,
	error) {
	if f.groups == 0 {
		return nil, nil
	}
	byName := map[string]im.Group{}
	err := admin.EachGroup(ctx, s, func(list []im.Group) error {
		for _, g := range list {
			byName[g.Name] = g
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	groups := make([]fill.Group, f.groups)
	for i := range groups {
		name := fmt.Sprintf("filled %d", i+1)
		g, ok := byName[name]
		if !ok {
			members := make([]uint32, f.members)
			for k := range members {
				members[k] = users[(i*f.members+k)%len(users)]
			}
			g, err = s.CreateGroup(ctx, im.Group{
				Name: name, Creator: members[0], Type: pb.GroupType_GROUP_TYPE_NORMAL,
				Members: members,
			}, 0)
			if err != nil {
				return nil, err
			}
		}
		groups[i] = fill.Group{ID: g.ID, Members: g.Members}
	}
	return groups, nil
}

// fillProgress returns a function that prints a line every few seconds, and one at the
// end of each stage.
func fillProgress(out io.Writer) func(stage string, done, total int64) {
	const every = 3 * time.Second
	var name string
	var began, told time.Time
	return func(stage string, done, total int64) {
		now := time.Now()
		if stage != name {
			name, began, told = stage, now, now
		}
		if done < total && now.Sub(told) < every {
			return
		}
		told = now
		rate := ""
		if d := now.Sub(began).Seconds(); d > 1 {
			rate = fmt.Sprintf(", %.0f/s", float64(done)/d)
		}
		fmt.Fprintf(out, "%s: %d of %d%s\n", stage, done, total, rate)
	}
}
