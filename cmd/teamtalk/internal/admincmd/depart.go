package admincmd

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// NewDepart returns the command "depart".
func NewDepart() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "depart",
		Short: "Add, list and change departments",
		Long: `Add, list and change departments, in the store that the settings name. Servers may
run on the store: they notice a change within a second. Clients see it when they next connect.

A DEPARTMENT is an id, a path such as Sales/East, or a name that only one department has. To put
a user into a department: teamtalk user set NAME --department DEPARTMENT.`,
		Example: `  teamtalk depart add Sales
  teamtalk depart add East --parent Sales
  teamtalk depart list`,
		Args:        cobra.ArbitraryArgs,
		RunE:        cli.CommandsOnly,
		Annotations: cli.HoldsCommands,
	}
	cli.AddConfigFlags(cmd, "data_dir", "store", "mysql.master", "redis.addrs")
	cmd.AddCommand(newDepartAddCommand(), newDepartListCommand(), newDepartRenameCommand(),
		newDepartMoveCommand(), newDepartDeleteCommand())
	return cmd
}

// withDeparts opens the store for a command, and calls do with the store and its
// departments.
func withDeparts(cmd *cobra.Command, mustExist bool,
	do func(ctx context.Context, s im.Store, b *admin.Departs) error) error {
	return withStore(cmd, mustExist, func(ctx context.Context, _ *config.Config, s im.Store) error {
		b, err := admin.ReadDeparts(ctx, s)
		if err != nil {
			return err
		}
		return do(ctx, s, b)
	})
}

// newDepartAddCommand returns the command "depart add".
func newDepartAddCommand() *cobra.Command {
	var parent string
	var priority uint32
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a department",
		Long: "Add a department, at the top or inside another one. Departments inside the " +
			"same one need\ndifferent names.",
		Example: `  teamtalk depart add Sales
  teamtalk depart add East --parent Sales --priority 2`,
		Args: cli.Exactly(1, "one NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkDepartName(cmd, args[0]); err != nil {
				return err
			}
			return withDeparts(cmd, false, func(ctx context.Context, s im.Store,
				b *admin.Departs) error {
				p, err := b.FindParent(parent)
				if err != nil {
					return err
				}
				id, err := s.CreateDepart(ctx,
					im.Depart{Name: args[0], Parent: p, Priority: priority})
				if err != nil {
					return err
				}
				path := b.Path(im.Depart{Name: args[0], Parent: p})
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "added %s (id %d)\n", cli.Printable(path),
					id)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&parent, "parent", "",
		"the department that it is inside (default: at the top)")
	cmd.Flags().Uint32Var(&priority, "priority", 0,
		"its rank among its neighbours; lower ranks are shown first")
	return cmd
}

// checkDepartName checks the name of a department.
func checkDepartName(cmd *cobra.Command, name string) error {
	if err := admin.CheckName("department", name, im.MaxDepartName); err != nil {
		return &cli.UsageError{Cmd: cmd, Err: err}
	}
	return nil
}

// newDepartListCommand returns the command "depart list".
func newDepartListCommand() *cobra.Command {
	var wantJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all departments as a tree",
		Long: `List all departments as a tree, with the number of users in each: without disabled
users, and without the users of departments inside.

With --json, print one object a line, in the same order: id, name, path, parent (an id, or 0),
priority, users.`,
		Example: `  teamtalk depart list
  teamtalk depart list --json | jq -r 'select(.users == 0) | .path'`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withDeparts(cmd, true, func(ctx context.Context, s im.Store,
				b *admin.Departs) error {
				users, err := admin.UsersByDepart(ctx, s)
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

// listDeparts writes the departments as a table, or as lines of JSON.
func listDeparts(out io.Writer, b *admin.Departs, users map[uint32]int, wantJSON bool) error {
	enc := cli.NewEncoder(out)
	rows := [][]string{{"ID", "NAME", "PRIORITY", "USERS"}}
	list, depth := b.InOrder()
	for i, d := range list {
		if wantJSON {
			if err := enc.Encode(struct {
				ID       uint32 `json:"id"`
				Name     string `json:"name"`
				Path     string `json:"path"`
				Parent   uint32 `json:"parent"`
				Priority uint32 `json:"priority"`
				Users    int    `json:"users"`
			}{d.ID, d.Name, b.Path(d), d.Parent, d.Priority, users[d.ID]}); err != nil {
				return err
			}
		}
		rows = append(rows, []string{
			fmt.Sprint(d.ID), strings.Repeat("  ", depth[i]) + d.Name, fmt.Sprint(d.Priority),
			fmt.Sprint(users[d.ID]),
		})
	}
	switch {
	case wantJSON:
		return nil
	case len(list) == 0:
		_, err := fmt.Fprintln(out, "no departments yet; add one with teamtalk depart add NAME")
		return err
	}
	return cli.WriteTable(out, rows)
}

// changeDepart changes one department and writes the result.
func changeDepart(cmd *cobra.Command, text string,
	change func(b *admin.Departs, d *im.Depart) error) error {
	return withDeparts(cmd, true, func(ctx context.Context, s im.Store, b *admin.Departs) error {
		d, err := b.Find(text)
		if err != nil {
			return err
		}
		before := b.Path(d)
		if err := change(b, &d); err != nil {
			return err
		}
		if err := s.UpdateDepart(ctx, d); err != nil {
			return err
		}
		what := "is now " + b.Path(d)
		if d.Status == pb.DepartmentStatusType_DEPT_STATUS_DELETE {
			what = "is deleted"
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s (id %d) %s\n", cli.Printable(before), d.ID,
			cli.Printable(what))
		return err
	})
}

// newDepartRenameCommand returns the command "depart rename".
func newDepartRenameCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rename DEPARTMENT NAME",
		Short:   "Give a department another name",
		Long:    "Give a department another name. It stays inside the same department.",
		Example: "  teamtalk depart rename Sales/East Orient",
		Args:    cli.Exactly(2, "a DEPARTMENT and its new NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkDepartName(cmd, args[1]); err != nil {
				return err
			}
			return changeDepart(cmd, args[0], func(_ *admin.Departs, d *im.Depart) error {
				d.Name = args[1]
				return nil
			})
		},
	}
}

// newDepartMoveCommand returns the command "depart move".
func newDepartMoveCommand() *cobra.Command {
	var priority uint32
	cmd := &cobra.Command{
		Use:   "move DEPARTMENT PARENT",
		Short: "Move a department into another one, or change its rank",
		Long: `Move a department, with the departments inside, into another one, or with / to the
top. With --priority, change its rank among its neighbours too.`,
		Example: `  teamtalk depart move East Sales
  teamtalk depart move Sales/East / --priority 4`,
		Args: cli.Exactly(2, "a DEPARTMENT and its new PARENT (/ for the top)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeDepart(cmd, args[0], func(b *admin.Departs, d *im.Depart) (err error) {
				if cmd.Flags().Changed("priority") {
					d.Priority = priority
				}
				d.Parent, err = b.FindParent(args[1])
				return err
			})
		},
	}
	cmd.Flags().Uint32Var(&priority, "priority", 0,
		"its rank among its neighbours; lower ranks are shown first (default: unchanged)")
	return cmd
}

// newDepartDeleteCommand returns the command "depart delete".
func newDepartDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "delete DEPARTMENT",
		Short: "Delete an empty department",
		Long: `Delete a department. It must have no departments inside and no users but disabled
ones. Move them first, with teamtalk depart move and teamtalk user set.`,
		Example: "  teamtalk depart delete Sales/East",
		Args:    cli.Exactly(1, "one DEPARTMENT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeDepart(cmd, args[0], func(_ *admin.Departs, d *im.Depart) error {
				d.Status = pb.DepartmentStatusType_DEPT_STATUS_DELETE
				return nil
			})
		},
	}
}
