package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

func newDepartCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "depart",
		Short: "Add, list and change departments",
		Long: `Add, list and change departments, in the store that the settings name. It works beside running servers;
they notice within a second, and clients see it when they connect again.

A DEPARTMENT is given by its id, by its name where only one has it, or by its place: Sales/East. Put users
into departments with teamtalk user set NAME --department DEPARTMENT.`,
		Example: `  teamtalk depart add Sales
  teamtalk depart add East --parent Sales
  teamtalk depart list`,
		Args:        cobra.ArbitraryArgs,
		RunE:        commandsOnly,
		Annotations: holdsCommands,
	}
	addConfigFlags(cmd, "data_dir", "store", "mysql.master", "redis.addrs")
	cmd.AddCommand(newDepartAddCommand(), newDepartListCommand(), newDepartRenameCommand(), newDepartMoveCommand(), newDepartDeleteCommand())
	return cmd
}

// departBook is all departments that are not deleted.
type departBook struct {
	byID  map[uint32]im.Depart
	below map[uint32][]im.Depart // by parent, as clients show them
}

// readDeparts reads them.
func readDeparts(ctx context.Context, s im.DepartStore) (*departBook, error) {
	list, _, err := s.DepartsChangedSince(ctx, 0)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b im.Depart) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	b := &departBook{byID: map[uint32]im.Depart{}, below: map[uint32][]im.Depart{}}
	for _, d := range list {
		b.byID[d.ID] = d
	}
	for _, d := range list {
		b.below[d.Parent] = append(b.below[d.Parent], d)
	}
	return b, nil
}

// path is a department's place. Other programs may have left circles: the way up is no longer than there are departments.
func (b *departBook) path(d im.Depart) string {
	path := d.Name
	for range b.byID {
		p, ok := b.byID[d.Parent]
		if !ok {
			break
		}
		path, d = p.Name+"/"+path, p
	}
	return path
}

// find looks a department up by id, or else by place or name.
func (b *departBook) find(text string) (im.Depart, error) {
	if id, err := strconv.ParseUint(text, 10, 32); err == nil {
		if d, ok := b.byID[uint32(id)]; ok {
			return d, nil
		}
	}
	var found []im.Depart
	for _, d := range b.byID {
		if path := b.path(d); path == strings.Trim(text, "/") { // one place has one name
			return d, nil
		}
		if d.Name == text {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 0:
		return im.Depart{}, im.Errorf(im.NotFound, "no department has the name, place or id %q; see teamtalk depart list", text)
	case len(found) > 1:
		slices.SortFunc(found, func(x, y im.Depart) int { return cmp.Compare(x.ID, y.ID) })
		var which []string
		for _, d := range found[:min(len(found), 10)] {
			which = append(which, fmt.Sprintf("%d (%s)", d.ID, b.path(d)))
		}
		return im.Depart{}, im.Errorf(im.Invalid, "%d departments have the name %q; say which by its place or id: %s", len(found), text, strings.Join(which, ", "))
	}
	return found[0], nil
}

// findParent is find, with "/" or nothing for the company itself.
func (b *departBook) findParent(text string) (uint32, error) {
	if text == "" || text == "/" {
		return 0, nil
	}
	d, err := b.find(text)
	return d.ID, err
}

// withDeparts opens the store for a command that looks departments up.
func withDeparts(cmd *cobra.Command, mustExist bool, do func(ctx context.Context, s im.Store, b *departBook) error) error {
	return withStore(cmd, mustExist, func(ctx context.Context, _ *config.Config, s im.Store) error {
		b, err := readDeparts(ctx, s)
		if err != nil {
			return err
		}
		return do(ctx, s, b)
	})
}

func newDepartAddCommand() *cobra.Command {
	var parent string
	var priority uint32
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a department",
		Long:  "Add a department, to the company or inside another one. In one place every name is there once.",
		Example: `  teamtalk depart add Sales
  teamtalk depart add East --parent Sales --priority 2`,
		Args: exactly(1, "one NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkDepartName(cmd, args[0]); err != nil {
				return err
			}
			return withDeparts(cmd, false, func(ctx context.Context, s im.Store, b *departBook) error {
				p, err := b.findParent(parent)
				if err != nil {
					return err
				}
				id, err := s.CreateDepart(ctx, im.Depart{Name: args[0], Parent: p, Priority: priority})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "added %s (id %d)\n", printable(b.path(im.Depart{Name: args[0], Parent: p})), id)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&parent, "parent", "", "the department it is inside (default the company)")
	cmd.Flags().Uint32Var(&priority, "priority", 0, "its rank among its neighbours; lower is shown first")
	return cmd
}

func checkDepartName(cmd *cobra.Command, name string) error {
	if err := checkText("name", name, im.MaxDepartName); err != nil || name == "" {
		return usageOr(cmd, err, "a department needs a name")
	}
	return nil
}

func newDepartListCommand() *cobra.Command {
	var wantJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all departments as a tree",
		Long: `List all departments as a tree, with how many users are in each, not counting disabled ones and those of
the departments inside.

With --json, print one object a line, in the same order: id, name, path, parent (an id, or 0),
priority, users.`,
		Example: `  teamtalk depart list
  teamtalk depart list --json | jq -r 'select(.users == 0) | .path'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withDeparts(cmd, true, func(ctx context.Context, s im.Store, b *departBook) error {
				users, err := usersByDepart(ctx, s)
				if err != nil {
					return err
				}
				return listDeparts(cmd.OutOrStdout(), b, users, wantJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&wantJSON, "json", false, "print one JSON object a line")
	return cmd
}

// usersByDepart counts who is in each department.
func usersByDepart(ctx context.Context, s im.UserStore) (map[uint32]int, error) {
	count := map[uint32]int{}
	err := eachUser(ctx, s, func(users []im.User) error {
		for _, u := range users {
			if u.Status != im.StatusDeparted {
				count[u.DepartID]++
			}
		}
		return nil
	})
	return count, err
}

// inOrder returns all departments from the top down, with how deep each is. What hangs in no tree, since another program deleted what it hung in, or made a circle,
// comes last.
func (b *departBook) inOrder() (list []im.Depart, depth []int) {
	seen := map[uint32]bool{}
	var walk func(d im.Depart, deep int)
	walk = func(d im.Depart, deep int) {
		if seen[d.ID] {
			return
		}
		seen[d.ID] = true
		list, depth = append(list, d), append(depth, deep)
		for _, inside := range b.below[d.ID] {
			walk(inside, deep+1)
		}
	}
	for _, d := range b.below[0] {
		walk(d, 0)
	}
	rest := make([]uint32, 0, len(b.byID)-len(list))
	for id := range b.byID {
		rest = append(rest, id)
	}
	slices.Sort(rest)
	for _, orphans := range []bool{true, false} { // the top of what hangs nowhere before what is inside it
		for _, id := range rest {
			if _, ok := b.byID[b.byID[id].Parent]; ok != orphans {
				walk(b.byID[id], 0)
			}
		}
	}
	return list, depth
}

func listDeparts(out io.Writer, b *departBook, users map[uint32]int, wantJSON bool) error {
	enc := newEncoder(out)
	rows := [][]string{{"ID", "NAME", "PRIORITY", "USERS"}}
	list, depth := b.inOrder()
	for i, d := range list {
		if wantJSON {
			if err := enc.Encode(struct {
				ID       uint32 `json:"id"`
				Name     string `json:"name"`
				Path     string `json:"path"`
				Parent   uint32 `json:"parent"`
				Priority uint32 `json:"priority"`
				Users    int    `json:"users"`
			}{d.ID, d.Name, b.path(d), d.Parent, d.Priority, users[d.ID]}); err != nil {
				return err
			}
		}
		rows = append(rows, []string{fmt.Sprint(d.ID), strings.Repeat("  ", depth[i]) + d.Name, fmt.Sprint(d.Priority), fmt.Sprint(users[d.ID])})
	}
	switch {
	case wantJSON:
		return nil
	case len(list) == 0:
		_, err := fmt.Fprintln(out, "no departments yet; add one with teamtalk depart add NAME")
		return err
	}
	return writeTable(out, rows)
}

// changeDepart changes one department and says what it is then.
func changeDepart(cmd *cobra.Command, text string, change func(b *departBook, d *im.Depart) error) error {
	return withDeparts(cmd, true, func(ctx context.Context, s im.Store, b *departBook) error {
		d, err := b.find(text)
		if err != nil {
			return err
		}
		before := b.path(d)
		if err := change(b, &d); err != nil {
			return err
		}
		if err := s.UpdateDepart(ctx, d); err != nil {
			return err
		}
		what := "is now " + b.path(d)
		if d.Status == pb.DepartmentStatusType_DEPT_STATUS_DELETE {
			what = "is deleted"
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s (id %d) %s\n", printable(before), d.ID, printable(what))
		return err
	})
}

func newDepartRenameCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rename DEPARTMENT NAME",
		Short:   "Give a department another name",
		Long:    "Give a department another name. It stays where it is.",
		Example: "  teamtalk depart rename Sales/East Orient",
		Args:    exactly(2, "a DEPARTMENT and its new NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkDepartName(cmd, args[1]); err != nil {
				return err
			}
			return changeDepart(cmd, args[0], func(_ *departBook, d *im.Depart) error {
				d.Name = args[1]
				return nil
			})
		},
	}
}

func newDepartMoveCommand() *cobra.Command {
	var priority uint32
	cmd := &cobra.Command{
		Use:   "move DEPARTMENT PARENT",
		Short: "Put a department inside another, or change its rank",
		Long: `Put a department, with all that is inside, into another one; / is the company itself. With --priority,
change its rank among its neighbours too.`,
		Example: `  teamtalk depart move East Sales
  teamtalk depart move Sales/East / --priority 4`,
		Args: exactly(2, "a DEPARTMENT and its new PARENT (/ for the company)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeDepart(cmd, args[0], func(b *departBook, d *im.Depart) (err error) {
				if cmd.Flags().Changed("priority") {
					d.Priority = priority
				}
				d.Parent, err = b.findParent(args[1])
				return err
			})
		},
	}
	cmd.Flags().Uint32Var(&priority, "priority", 0, "its rank among its neighbours; lower is shown first (default what it was)")
	return cmd
}

func newDepartDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "delete DEPARTMENT",
		Short: "Delete a department that is empty",
		Long: `Delete a department. It must be empty: no departments inside, and no users but disabled ones. Put them
elsewhere first, with teamtalk depart move and teamtalk user set.`,
		Example: "  teamtalk depart delete Sales/East",
		Args:    exactly(1, "one DEPARTMENT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeDepart(cmd, args[0], func(_ *departBook, d *im.Depart) error {
				d.Status = pb.DepartmentStatusType_DEPT_STATUS_DELETE
				return nil
			})
		},
	}
}
