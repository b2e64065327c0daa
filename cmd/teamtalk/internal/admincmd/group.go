package admincmd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// NewGroup returns the command "group".
func NewGroup() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "Create, list and change groups",
		Long: `Create, list and change groups, in the store that the settings name. Servers may
run on the store.

A change of members applies to all later messages. Clients see a new group, its members and its
name when they next connect. A new member also sees the group with its next message.

A GROUP is an id, or a name that only one group has. A USER is a name or an id; id:7
means the id 7 alone, whatever names users have. These commands may change every group, whatever
users may change in their clients.`,
		Example: `  teamtalk group create "All staff" --from staff.txt
  teamtalk group add "All staff" alice bob
  teamtalk group show 3`,
		Args:        cobra.ArbitraryArgs,
		RunE:        cli.CommandsOnly,
		Annotations: cli.HoldsCommands,
	}
	cli.AddConfigFlags(cmd, "data_dir", "store", "mysql.master", "redis.addrs")
	cmd.AddCommand(newGroupCreateCommand(), newGroupListCommand(), newGroupShowCommand(),
		newGroupRenameCommand(),
		newGroupMembersCommand(pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD, "add",
			"Add users to a group",
			`Add users to a group. Members remain members. A former member sees the messages from
now on.`),
		newGroupMembersCommand(pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL, "remove",
			"Remove users from a group",
			`Remove users from a group. They receive no more messages of the group, and cannot read
its history. Users that are no members are ignored.`),
		newGroupDissolveCommand())
	return cmd
}

// memberFlags are the flags that name users.
type memberFlags struct{ from string }

// add defines the flags.
func (f *memberFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.from, "from", "",
		"also add the users of this file, one name or id a line; - is standard input")
}

// names returns the users of the arguments and of the file.
func (f *memberFlags) names(cmd *cobra.Command, args []string) ([]string, error) {
	names := slices.Clone(args)
	if f.from != "" {
		in := cmd.InOrStdin()
		if f.from != "-" {
			file, err := os.Open(f.from)
			if err != nil {
				return nil, err
			}
			defer file.Close()
			in = file
		}
		lines := bufio.NewScanner(admin.SkipBOM(in))
		for lines.Scan() {
			if name := strings.TrimSpace(lines.Text()); name != "" {
				names = append(names, name)
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read the users: %w", err)
		}
	}
	if len(names) == 0 {
		return nil, cli.Usagef(cmd, "want users, as arguments or with --from FILE")
	}
	return names, nil
}

// newGroupCreateCommand returns the command "group create".
func newGroupCreateCommand() *cobra.Command {
	var members memberFlags
	var kind, creator, avatar string
	cmd := &cobra.Command{
		Use:   "create NAME USER ... | --from FILE",
		Short: "Create a group",
		Long: `Create a group of users. Several groups may have the same name.

A normal group is in its members' lists of groups. In a client only its creator can change it;
without a creator no client can. Clients create temporary groups: any member may add others.`,
		Example: `  teamtalk group create "All staff" --from staff.txt
  teamtalk group create Sales alice bob --creator alice
  teamtalk user list --json | jq -r .name | teamtalk group create Everybody --from -`,
		Args: cli.AtLeast(1, "a NAME and users"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, ok := admin.GroupTypes[kind]
			if !ok {
				return cli.Usagef(cmd, "--type %q is none of normal and temporary", kind)
			}
			if err := admin.CheckName("group", args[0], im.MaxGroupName); err != nil {
				return &cli.UsageError{Cmd: cmd, Err: err}
			}
			if err := admin.CheckText("avatar", avatar, im.MaxGroupName); err != nil {
				return &cli.UsageError{Cmd: cmd, Err: err}
			}
			names, err := members.names(cmd, args[1:])
			if err != nil {
				return err
			}
			return withStore(cmd, true, func(ctx context.Context, cfg *config.Config,
				s im.Store) error {
				g := im.Group{Name: args[0], Avatar: avatar, Type: t}
				return createGroup(ctx, s, cmd.OutOrStdout(), g, creator, names)
			})
		},
	}
	members.add(cmd)
	cmd.Flags().StringVar(&kind, "type", "normal", "normal or temporary")
	cmd.Flags().StringVar(&creator, "creator", "",
		"the user that may change the group in a client; becomes a member")
	cmd.Flags().StringVar(&avatar, "avatar", "", "URL of a picture")
	return cmd
}

// createGroup creates a group of the named users and the creator, if one is named.
func createGroup(ctx context.Context, s im.Store, out io.Writer, g im.Group, creator string,
	names []string) error {
	if creator != "" {
		names = append([]string{creator}, names...)
	}
	users, err := admin.FindMembers(ctx, s, names, true)
	if err != nil {
		return err
	}
	if creator != "" {
		g.Creator = users[0].ID
	}
	g.Members = admin.UserIDs(users)
	if g, err = s.CreateGroup(ctx, g, 0); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "created the group %s (id %d) of %s\n", cli.Printable(g.Name), g.ID,
		countOf(len(g.Members), "member"))
	return err
}

// countOf returns a number and the noun that it counts.
func countOf(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprint(n, " ", what, "s")
}

// groupJSON is the form in which --json prints a group.
type groupJSON struct {
	ID       uint32   `json:"id"`
	Name     string   `json:"name"`
	Avatar   string   `json:"avatar"`
	Type     string   `json:"type"`
	Creator  uint32   `json:"creator"`
	Version  uint32   `json:"version"`
	Created  uint32   `json:"created"`
	Updated  uint32   `json:"updated"`
	LastChat uint32   `json:"last_chat"`
	Members  []uint32 `json:"members"`
}

// asJSON returns the form of a group for --json.
func asJSON(g im.Group) groupJSON {
	return groupJSON{
		ID: g.ID, Name: g.Name, Avatar: g.Avatar, Type: admin.GroupTypeName(g.Type),
		Creator: g.Creator,
		Version: g.Version, Created: g.Created, Updated: g.Updated, LastChat: g.LastChat,
		Members: append([]uint32{}, g.Members...),
	}
}

// newGroupListCommand returns the command "group list".
func newGroupListCommand() *cobra.Command {
	var wantJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all groups",
		Long: `List all groups in order of id.

With --json, print one object a line: id, name, avatar, type (normal or temporary), creator (an
id, or 0), version, created, updated and last_chat (unix seconds), members (ids).`,
		Example: `  teamtalk group list
  teamtalk group list --json | jq -r 'select(.members | length > 100) | .name'`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config,
				s im.Store) error {
				return listGroups(ctx, s, cmd.OutOrStdout(), wantJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&wantJSON, "json", false, "print one JSON object a line")
	return cmd
}

// listGroups writes the groups as a table, or as lines of JSON.
func listGroups(ctx context.Context, s im.GroupStore, out io.Writer, wantJSON bool) error {
	enc, first := cli.NewEncoder(out), true
	err := admin.EachGroup(ctx, s, func(groups []im.Group) error {
		var rows [][]string
		if first {
			rows = append(rows, []string{"ID", "NAME", "TYPE", "MEMBERS", "LAST MESSAGE"})
		}
		first = false
		for _, g := range groups {
			if wantJSON {
				if err := enc.Encode(asJSON(g)); err != nil {
					return err
				}
			}
			rows = append(rows, []string{
				fmt.Sprint(g.ID), g.Name, admin.GroupTypeName(g.Type), fmt.Sprint(len(g.Members)),
				timeText(g.LastChat),
			})
		}
		if wantJSON {
			return nil
		}
		return cli.WriteTable(out, rows)
	})
	if err == nil && first && !wantJSON {
		_, err = fmt.Fprintln(out,
			"no groups yet; create one with teamtalk group create NAME USER ...")
	}
	return err
}

// timeText returns a time in the zone of this machine, from unix seconds; an empty text
// for 0.
func timeText(seconds uint32) string {
	if seconds == 0 {
		return ""
	}
	return time.Unix(int64(seconds), 0).Format("2006-01-02 15:04:05")
}

// newGroupShowCommand returns the command "group show".
func newGroupShowCommand() *cobra.Command {
	var wantJSON bool
	cmd := &cobra.Command{
		Use:   "show GROUP",
		Short: "Show a group and its members",
		Long: `Show a group and its members.

With --json, print one object, as teamtalk group list does.`,
		Example: `  teamtalk group show "All staff"
  teamtalk group show 3 --json | jq .members`,
		Args: cli.Exactly(1, "one GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config,
				s im.Store) error {
				g, err := admin.FindGroup(ctx, s, args[0])
				if err != nil {
					return err
				}
				if wantJSON {
					return cli.NewEncoder(cmd.OutOrStdout()).Encode(asJSON(g))
				}
				return showGroup(ctx, s, cmd.OutOrStdout(), g)
			})
		},
	}
	cmd.Flags().BoolVar(&wantJSON, "json", false, "print one JSON object")
	return cmd
}

// showGroup writes a group and its members as tables.
func showGroup(ctx context.Context, s im.UserStore, out io.Writer, g im.Group) error {
	ids := g.Members
	if g.Creator != 0 {
		ids = append(slices.Clone(ids), g.Creator)
	}
	users, err := s.Users(ctx, ids)
	if err != nil {
		return err
	}
	byID := make(map[uint32]im.User, len(users))
	for _, u := range users {
		byID[u.ID] = u
	}
	creator := "nobody"
	if g.Creator != 0 {
		creator = fmt.Sprintf("%s (id %d)", byID[g.Creator].Name, g.Creator)
	}
	rows := [][]string{
		{"name", g.Name}, {"id", fmt.Sprint(g.ID)}, {"type", admin.GroupTypeName(g.Type)},
		{"creator", creator},
		{"avatar", g.Avatar}, {"version", fmt.Sprint(g.Version)}, {"created", timeText(g.Created)},
		{"changed", timeText(g.Updated)}, {"last message", timeText(g.LastChat)},
		{"members", fmt.Sprint(len(g.Members))},
	}
	if err := cli.WriteTable(out, rows); err != nil {
		return err
	}
	fmt.Fprintln(out)
	rows = [][]string{{"ID", "NAME", "NICK", "STATUS"}}
	for _, id := range g.Members {
		u := byID[id]
		rows = append(rows, []string{fmt.Sprint(id), u.Name, u.Nick, admin.StatusName(u.Status)})
	}
	return cli.WriteTable(out, rows)
}

// newGroupRenameCommand returns the command "group rename".
func newGroupRenameCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rename GROUP NAME",
		Short:   "Give a group another name",
		Long:    "Give a group another name. Clients see it when they next connect.",
		Example: `  teamtalk group rename 3 "All staff"`,
		Args:    cli.Exactly(2, "a GROUP and its new NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := admin.CheckName("group", args[1], im.MaxGroupName); err != nil {
				return &cli.UsageError{Cmd: cmd, Err: err}
			}
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config,
				s im.Store) error {
				g, err := admin.FindGroup(ctx, s, args[0])
				if err != nil {
					return err
				}
				if err := s.SetGroupName(ctx, g.ID, args[1]); err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "the group %s (id %d) is now %s\n",
					cli.Printable(g.Name), g.ID, cli.Printable(args[1]))
				return err
			})
		},
	}
}

// newGroupDissolveCommand returns the command "group dissolve".
func newGroupDissolveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "dissolve GROUP",
		Short: "Remove all members of a group",
		Long: `Remove all members of a group. Nobody can send to it or read its history any more.
The group and its messages remain in the store: to use it again, add members.`,
		Example: `  teamtalk group dissolve "All staff"`,
		Args:    cli.Exactly(1, "one GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config,
				s im.Store) error {
				g, err := admin.FindGroup(ctx, s, args[0])
				if err != nil {
					return err
				}
				if err := admin.DissolveGroup(ctx, s, g); err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "the group %s (id %d) is dissolved: %s "+
					"removed\n", cli.Printable(g.Name), g.ID, countOf(len(g.Members), "member"))
				return err
			})
		},
	}
}

// newGroupMembersCommand returns the command "group add" or "group remove".
func newGroupMembersCommand(t pb.GroupModifyType, verb, short, long string) *cobra.Command {
	var members memberFlags
	cmd := &cobra.Command{
		Use:   verb + " GROUP USER ... | --from FILE",
		Short: short,
		Long:  long,
		Example: "  teamtalk group " + verb + " \"All staff\" alice bob\n  teamtalk group " + verb +
			" 3 --from names.txt",
		Args: cli.AtLeast(1, "a GROUP and users"),
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := members.names(cmd, args[1:])
			if err != nil {
				return err
			}
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config,
				s im.Store) error {
				return changeMembers(ctx, s, cmd.OutOrStdout(), t, args[0], names)
			})
		},
	}
	members.add(cmd)
	return cmd
}

// changeMembers adds or removes members, and writes how many changed.
func changeMembers(ctx context.Context, s im.Store, out io.Writer, t pb.GroupModifyType,
	group string, names []string) error {
	g, err := admin.FindGroup(ctx, s, group)
	if err != nil {
		return err
	}
	add := t == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	users, err := admin.FindMembers(ctx, s, names, add)
	if err != nil {
		return err
	}
	change, err := s.ChangeMembers(ctx, im.MemberEdit{Group: g.ID, Type: t,
		Users: admin.UserIDs(users)})
	if err != nil {
		return err
	}
	done, passed := "removed", "not in it"
	if add {
		done, passed = "added", "in it already"
	}
	note := ""
	asked := admin.UserIDs(users)
	slices.Sort(asked)
	if n := len(slices.Compact(asked)) - len(change.Changed); n > 0 {
		note = fmt.Sprintf("; %s: %d", passed, n)
	}
	_, err = fmt.Fprintf(out, "%s (id %d): %s %s, %d now%s\n", cli.Printable(g.Name), g.ID,
		countOf(len(change.Changed), "member"), done, len(change.Current), note)
	return err
}
