package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/config"
	"teamtalk/core/registry"
	"teamtalk/sql/redisregistry"
)

// newDrainCommand returns the command "cluster drain".
func newDrainCommand() *cobra.Command {
	o := order{drain: true}
	cmd := &cobra.Command{
		Use:   "drain NAME",
		Short: "Take the load off a server",
		Long: `Order the servers of a process, or some of its roles, to take no new work and to end
what they have. The name is that of the process (node.name), as "teamtalk cluster"
lists it. Processes of one machine share its name, unless they have another: without --role all of
them are meant.

Login servers send no client to a message server that drains. After registry.poll, when all of them
know, it accepts no connection, and ends those that it has over the time in msg.release. Clients
connect again, to other message servers: without another one they are refused. Message servers use a
db_proxy that drains no more, unless all of them drain. For the other roles the order is shown in
the list, and if all roles of the process drain, /readyz fails, so that balancers send it nothing
new. The process continues to run, and answers what is under way.

The order holds until "teamtalk cluster serve", or until the process ends: it serves again when it
is restarted. SIGTERM drains a process in the same way, and ends it: this command is for a look in
between, or for a machine that keeps running.

Exit codes: 0 the servers are drained, or with --wait 0s have the order; 1 they were not drained in
time, or Redis does not answer; 2 no such server is registered, or the settings are wrong.`,
		Example: `  teamtalk cluster drain msg-1 --config teamtalk.toml
  teamtalk cluster drain node-3 --role msg --wait 10m --config teamtalk.toml`,
		Args: cli.Exactly(1, "the NAME of a process"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	o.flags(cmd)
	cmd.Flags().DurationVar(&o.wait, "wait", 2*time.Minute, "how long to wait until the servers "+
		"are drained (0s: do not wait)")
	return cmd
}

// newServeAgainCommand returns the command "cluster serve".
func newServeAgainCommand() *cobra.Command {
	var o order
	cmd := &cobra.Command{
		Use:   "serve NAME",
		Short: "End the order to drain a server",
		Long: `End the order of "teamtalk cluster drain": the servers of a process, or some of its
roles, take work again within registry.renew and registry.poll.

Exit codes: 0 the order has ended, or there was none; 1 Redis does not answer; 2 no such server is
registered, or the settings are wrong.`,
		Example: `  teamtalk cluster serve msg-1 --config teamtalk.toml`,
		Args:    cli.Exactly(1, "the NAME of a process"),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	o.flags(cmd)
	return cmd
}

// order is an order to the servers of a process.
type order struct {
	drain bool
	roles []string // empty: all
	wait  time.Duration
	// poll is the time within which all processes read a change in the registry.
	poll time.Duration
}

func (o *order) flags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&o.roles, "role", nil, "the roles, when not all that the process "+
		"runs are meant")
	addRegistryFlags(cmd)
}

// run gives the order and waits until it is carried out.
func (o *order) run(cmd *cobra.Command, name string) error {
	cfg, err := cli.LoadConfig(cmd)
	if err != nil {
		return err
	}
	o.poll = cfg.Registry.Poll
	if o.wait < 0 {
		return &cli.UsageError{Err: fmt.Errorf("--wait %v: must not be negative", o.wait)}
	}
	for _, role := range o.roles {
		if !slices.Contains(config.Roles(), role) {
			return &cli.UsageError{Err: fmt.Errorf("--role %s: no such role, the roles are %s",
				role, strings.Join(config.Roles(), ", "))}
		}
	}
	return inRegistry(cmd, cfg, func(r openedRegistry, list []redisregistry.Entry) error {
		return o.give(cmd, r, list, name)
	})
}

// give gives the order to a process in list, and waits until it is carried out.
func (o *order) give(cmd *cobra.Command, r openedRegistry, list []redisregistry.Entry,
	name string) error {
	nodes, err := o.choose(list, name)
	if err != nil {
		return err
	}
	if o.drain {
		warnLast(cmd.ErrOrStderr(), list, nodes)
	}
	err = r.Order(cmd.Context(), nodes, o.drain)
	switch {
	case errors.Is(err, redisregistry.ErrUnknown):
		return fmt.Errorf("%w any more", err)
	case err != nil:
		return fmt.Errorf("write the order to the registry in Redis at %s: %w", r.at, err)
	}
	if !o.drain || o.wait <= 0 {
		what := "serve again"
		if o.drain {
			what = "drain"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "ordered to %s: %s\n", what, joinKeys(nodes))
		return nil
	}
	return o.await(cmd.Context(), r, nodes, cmd.OutOrStdout())
}

// warnLast warns of nodes that drain while no other one of their role serves.
func warnLast(out io.Writer, list []redisregistry.Entry, nodes []registry.Key) {
	for _, k := range nodes {
		what := map[string]string{
			"msg": fmt.Sprintf("no other message server serves: clients are refused until one "+
				"does, or until \"teamtalk cluster serve %s\"", k.Name),
			"dbproxy": fmt.Sprintf("no other db_proxy serves: message servers use %s all the same",
				k.Name),
		}[k.Role]
		if what != "" && !slices.ContainsFunc(list, func(e redisregistry.Entry) bool {
			return e.Role == k.Role && e.Name != k.Name && !e.Draining
		}) {
			fmt.Fprintf(out, "teamtalk: warning: %s\n", what)
		}
	}
}

// choose returns the nodes of a process that the order is for.
func (o *order) choose(list []redisregistry.Entry, name string) ([]registry.Key, error) {
	var nodes []registry.Key
	for _, e := range list {
		if e.Name == name && (len(o.roles) == 0 || slices.Contains(o.roles, e.Role)) {
			nodes = append(nodes, e.Key())
		}
	}
	for _, role := range o.roles {
		if k := (registry.Key{Role: role, Name: name}); !slices.Contains(nodes, k) {
			return nil, &cli.UsageError{Err: fmt.Errorf("%s is not registered, see \"teamtalk "+
				"cluster\"", k)}
		}
	}
	if len(nodes) == 0 {
		return nil, &cli.UsageError{Err: fmt.Errorf("no server with the name %q is registered, "+
			"see \"teamtalk cluster\"", name)}
	}
	return nodes, nil
}

// lookEvery is the time between two looks at the registry.
const lookEvery = 500 * time.Millisecond

// await waits until nodes are drained, and tells each that is.
func (o *order) await(ctx context.Context, r openedRegistry, nodes []registry.Key,
	out io.Writer) error {
	limited, cancel := context.WithTimeout(ctx, o.wait)
	defer cancel()
	next := time.NewTicker(lookEvery)
	defer next.Stop()
	since := map[registry.Key]time.Time{}
	var left []string
	for {
		list, err := r.list(limited)
		if err == nil {
			nodes, left = o.undrained(list, nodes, since, out)
			if len(nodes) == 0 {
				return nil
			}
		}
		select {
		case <-next.C:
		case <-limited.Done():
			if err != nil && len(left) == 0 {
				return err
			}
			ended := fmt.Sprintf("not drained within %v", o.wait)
			if ctx.Err() != nil {
				ended = "interrupted"
			}
			return fmt.Errorf("%s, the order stays: %s", ended, strings.Join(left, ", "))
		}
	}
}

// undrained returns those of nodes that are not drained, with the reasons, and tells the others.
// A process that has ended has no work left. since has the times at which nodes were seen to
// drain: a message server serves clients until all login servers have read that.
func (o *order) undrained(list []redisregistry.Entry, nodes []registry.Key,
	since map[registry.Key]time.Time, out io.Writer) (still []registry.Key, why []string) {
	for _, k := range nodes {
		i := slices.IndexFunc(list, func(e redisregistry.Entry) bool { return e.Key() == k })
		if i >= 0 && list[i].Draining && since[k].IsZero() {
			since[k] = time.Now()
		}
		switch {
		case i < 0:
			fmt.Fprintf(out, "%s has ended\n", k)
			continue
		case !list[i].Draining:
			why = append(why, fmt.Sprintf("%s has not confirmed it", k))
		case k.Role == "msg" && list[i].Load.Connections > 0:
			why = append(why, fmt.Sprintf("%s has %d connections", k, list[i].Load.Connections))
		case k.Role == "msg" && time.Since(since[k]) <= o.poll:
			why = append(why, fmt.Sprintf("%s may be sent clients (registry.poll)", k))
		default:
			fmt.Fprintf(out, "%s is drained\n", k)
			continue
		}
		still = append(still, k)
	}
	return still, why
}

func joinKeys(nodes []registry.Key) string {
	var all []string
	for _, k := range nodes {
		all = append(all, k.String())
	}
	return strings.Join(all, ", ")
}
