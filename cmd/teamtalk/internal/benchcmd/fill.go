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
	"teamtalk/cmd/teamtalk/internal/system"
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

func newBenchFillCommand() *cobra.Command {
	f := &benchFill{}
	cmd := &cobra.Command{
		Use:   "fill --relations N --messages M",
		Short: "Make very many conversations and messages, to measure a store that is large",
		Long: `Put conversations and messages straight into a store, millions in minutes, to measure whether servers
are as fast on a store that is large. No server may run on the store meanwhile.

Users are made when they are missing, named like those of "teamtalk user add --count". The pairs that
"teamtalk bench single" uses are among the first conversations. Messages are spread evenly over the
conversations and over the last --days; all count as read. What is there already stays: run again, it
completes the conversations and adds messages behind the last ones.

It is for databases that are there to be measured. There is no way to take the rows out again.`,
		Example: `  teamtalk bench fill --relations 1000000 --messages 10000000
  teamtalk bench fill --relations 1000 --messages 10000 --groups 20 --members 200 --group-messages 5000 --config teamtalk.toml`,
		Args: cli.CheckArgs(cobra.NoArgs),
		RunE: f.run,
	}
	f.cmd = cmd
	flags := cmd.Flags()
	flags.IntVar(&f.relations, "relations", 1000, "pairs of users with a conversation")
	flags.IntVar(&f.messages, "messages", 0, "messages between users to add")
	flags.IntVar(&f.users, "users", 0, "users who have the conversations (0: as many as --relations and --members need, at least 1000)")
	flags.IntVar(&f.groups, "groups", 0, "groups; those of an earlier fill are used again")
	flags.IntVar(&f.members, "members", 50, "members of each group")
	flags.IntVar(&f.groupMsgs, "group-messages", 0, "messages to add to the groups")
	flags.IntVar(&f.size, "size", 64, "bytes of each text, before it is encrypted as clients do")
	flags.IntVar(&f.days, "days", 30, "days that the messages are spread over")
	flags.StringVar(&f.format, "format", "u%05d", "login names of the users, %d or %05d standing for the number, from 1 on")
	flags.StringVar(&f.password, "password", "pw", "password of users who are made")
	addDatabaseFlags(cmd)
	return cmd
}

// maxFill bounds what is asked for: more is a mistake, or memory for hours.
const maxFill = 1_000_000_000

// check says what is wrong, and decides how many users there have to be.
func (f *benchFill) check() error {
	for _, n := range []struct {
		name           string
		v, least, most int
	}{
		{"relations", f.relations, 0, 50_000_000}, {"messages", f.messages, 0, maxFill}, {"users", f.users, 0, 10_000_000}, {"groups", f.groups, 0, 1_000_000},
		{"members", f.members, 1, im.MaxGroupMembers}, {"group-messages", f.groupMsgs, 0, maxFill}, {"size", f.size, 1, im.MaxText}, {"days", f.days, 1, 10_000},
	} {
		if n.v < n.least || n.v > n.most {
			return cli.Usagef(f.cmd, "--%s must be %d to %d", n.name, n.least, n.most)
		}
	}
	switch {
	case !admin.OneNumber.MatchString(f.format):
		return cli.Usagef(f.cmd, "--format %q must hold one %%d, such as u%%05d", f.format)
	case f.messages > 0 && f.relations == 0:
		return cli.Usagef(f.cmd, "--messages need --relations")
	case f.groupMsgs > 0 && f.groups == 0:
		return cli.Usagef(f.cmd, "--group-messages need --groups")
	}
	if f.users == 0 {
		f.users = 1000
		for fill.MaxRelations(f.users) < f.relations*20 && f.users < 20_000 { // so that a list of conversations is of a length that people have
			f.users += 1000
		}
		for fill.MaxRelations(f.users) < f.relations {
			f.users += 1000
		}
		if f.groups > 0 {
			f.users = max(f.users, f.members)
		}
	}
	if fill.MaxRelations(f.users) < f.relations {
		return cli.Usagef(f.cmd, "%d users have at most %d conversations", f.users, fill.MaxRelations(f.users))
	}
	if f.groups > 0 && f.members > f.users {
		return cli.Usagef(f.cmd, "%d users are too few for groups of %d", f.users, f.members)
	}
	return nil
}

func (f *benchFill) run(cmd *cobra.Command, _ []string) (err error) {
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
	ctx, out := cmd.Context(), cmd.ErrOrStderr()
	began := time.Now()
	s, err := f.open(ctx, cfg)
	if err != nil {
		return err
	}
	close := func() {
		if s != nil {
			err = errors.Join(err, s.Close())
			s = nil
		}
	}
	defer close()
	spec := fill.Spec{Relations: f.relations, Messages: f.messages, GroupMessages: f.groupMsgs, Texts: f.texts(text), Progress: fillProgress(out)}
	spec.Until = uint32(time.Now().Unix())
	spec.Since = spec.Until - uint32(f.days)*24*3600
	if spec.Users, err = f.makeUsers(ctx, s, out); err != nil {
		return err
	}
	if spec.Groups, err = f.makeGroups(ctx, s, spec.Users); err != nil {
		return err
	}
	var res fill.Result
	if e, ok := s.(*embedded.Store); ok {
		res, err = fill.Embedded(ctx, e, spec)
	} else {
		close() // its caches would not know
		if err == nil {
			res, err = fill.MySQL(ctx, cfg.MySQL.Master.Reveal(), spec)
		}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "added to %s in %.1f s: %d conversations, %d messages between users, %d to groups\n",
		system.StoreName(cfg), time.Since(began).Seconds(), res.Relations, res.Messages, res.GroupMessages)
	return nil
}

// open opens the store: the embedded one as a server does, so that none runs on it.
func (f *benchFill) open(ctx context.Context, cfg *config.Config) (im.Store, error) {
	if cfg.Store == "mysql" {
		return system.OpenMySQL(ctx, cfg, system.StoreOptions{Admin: true})
	}
	// Not through openStore: a command that only looks for something must not lock out a server, this one must.
	return embedded.Open(ctx, embedded.Options{Dir: cfg.DataDir, Workers: pool.SizesFor(cfg.Workers).SQLOpen})
}

// texts are bodies as clients make them, a few different ones.
func (f *benchFill) texts(c *im.TextCipher) [][]byte {
	const words = "The quick brown fox jumps over the lazy dog. "
	texts := make([][]byte, 64)
	for i := range texts {
		text := strings.Repeat(words[i%len(words):]+words, f.size/len(words)+1)
		texts[i] = c.Encrypt(text[:f.size])
	}
	return texts
}

// makeUsers makes the users that are missing, and returns the ids of all in order of their numbers.
func (f *benchFill) makeUsers(ctx context.Context, s im.UserStore, out io.Writer) ([]uint32, error) {
	find := func() ([]uint32, []admin.NewUser, error) {
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
				missing = append(missing, admin.NewUser{User: im.User{Name: name}, Password: f.password})
			}
		}
		return list, missing, nil
	}
	list, missing, err := find()
	if err != nil || len(missing) == 0 {
		return list, err
	}
	for i := range missing {
		if err := missing[i].Complete(); err != nil {
			return nil, &cli.UsageError{Cmd: f.cmd, Err: err}
		}
	}
	fmt.Fprintf(out, "making %d users\n", len(missing))
	for done := 0; done < len(missing); done += admin.AddBatch {
		if _, err := admin.AddUsers(ctx, s, missing[done:min(done+admin.AddBatch, len(missing))]); err != nil {
			return nil, fmt.Errorf("%d of %d users were added: %w", done, len(missing), err)
		}
	}
	if list, missing, err = find(); err == nil && len(missing) > 0 {
		err = im.Errorf(im.Internal, "user %s was added and is not there", missing[0].Name)
	}
	return list, err
}

// makeGroups makes the groups that are missing: they are known by their names.
func (f *benchFill) makeGroups(ctx context.Context, s im.GroupStore, users []uint32) ([]fill.Group, error) {
	if f.groups == 0 {
		return nil, nil
	}
	there := map[string]im.Group{}
	for after := uint32(0); ; {
		list, err := s.ListGroups(ctx, after, admin.ListBatch)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			break
		}
		for _, g := range list {
			there[g.Name] = g
		}
		after = list[len(list)-1].ID
	}
	groups := make([]fill.Group, f.groups)
	for i := range groups {
		g, ok := there[fmt.Sprintf("filled %d", i+1)]
		if !ok {
			members := make([]uint32, f.members)
			for k := range members {
				members[k] = users[(i*f.members+k)%len(users)]
			}
			var err error
			g, err = s.CreateGroup(ctx, im.Group{Name: fmt.Sprintf("filled %d", i+1), Creator: members[0], Type: pb.GroupType_GROUP_TYPE_NORMAL, Members: members})
			if err != nil {
				return nil, err
			}
		}
		groups[i] = fill.Group{ID: g.ID, Members: g.Members}
	}
	return groups, nil
}

// fillProgress prints a line every few seconds, and one at the end of each stage.
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
