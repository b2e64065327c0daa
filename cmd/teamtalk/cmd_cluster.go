package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/sql/redisregistry"
)

// newClusterCommand returns the command "cluster".
func newClusterCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "List the servers that are registered",
		Long: `List the servers of the deployment that have registered in Redis and are alive, one
for each role of a process: whether it serves or drains, the address for other servers and those
for clients, the open connections and their limit, the users that are online, the epoch, which
grows with each start of the name, and the time since the server renewed its lease.

The command needs the settings of one of the servers, with registry.enabled. C++ servers do not
register.

With --json, print one object a line: role, name, draining, addr (for servers), clients (their
addresses), connections, users, capacity (0: no limit of its own), epoch, version, lease_age_ms,
lease_left_ms.

Exit codes: 0 the list is complete, even if it is empty; 1 Redis does not answer; 2 the registry is
off, or other settings are wrong.`,
		Example: `  teamtalk cluster --config teamtalk.toml
  teamtalk cluster --registry.enabled --redis.addrs rd1:6379
  teamtalk cluster --json --config teamtalk.toml | jq -r 'select(.role == "msg") | .name'`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := cli.LoadConfig(cmd)
			if err != nil {
				return err
			}
			return inRegistry(cmd, cfg, func(_ openedRegistry, list []redisregistry.Entry) error {
				if len(list) == 0 {
					fmt.Fprintln(cmd.ErrOrStderr(), "teamtalk: no server is registered")
				}
				if asJSON {
					return writeNodesJSON(cmd.OutOrStdout(), list)
				}
				return writeNodes(cmd.OutOrStdout(), list)
			})
		},
	}
	addRegistryFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.AddCommand(newDrainCommand(), newServeAgainCommand())
	return cmd
}

// openedRegistry is the registry of a deployment, for a command.
type openedRegistry struct {
	*redisregistry.Registry
	at string // the addresses of Redis
}

// addRegistryFlags adds the flags that say where the registry is.
func addRegistryFlags(cmd *cobra.Command) {
	cli.AddConfigFlags(cmd, "registry.enabled", "registry.redis", "redis.addrs")
}

// inRegistry calls do with the registry and the servers that are registered.
func inRegistry(cmd *cobra.Command, cfg *config.Config,
	do func(openedRegistry, []redisregistry.Entry) error) error {
	if !cfg.Registry.Enabled {
		return &cli.UsageError{Err: errors.New("the registry is off: set registry.enabled = true " +
			"in the settings of all servers, and give this command those of one of them")}
	}
	i, err := open.RegistryRedis(cfg)
	if err != nil {
		return &cli.UsageError{Err: err}
	}
	r := openedRegistry{redisregistry.Open(open.RegistryOptions(cfg, i)),
		strings.Join(i.Addrs, ",")}
	defer r.Close()
	list, err := r.list(cmd.Context())
	if err != nil {
		return err
	}
	return do(r, list)
}

// list reads the servers that are registered.
func (r openedRegistry) list(ctx context.Context) ([]redisregistry.Entry, error) {
	list, err := r.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the registry in Redis at %s: %w", r.at, err)
	}
	return list, nil
}

// writeNodes writes servers as a table.
func writeNodes(out io.Writer, list []redisregistry.Entry) error {
	rows := [][]string{{"ROLE", "NAME", "STATE", "SERVERS", "CLIENTS", "CONNECTIONS", "CAPACITY",
		"USERS", "EPOCH", "RENEWED", "VERSION"}}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	or := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	for _, e := range list {
		capacity := "-"
		if e.Capacity > 0 {
			capacity = number(e.Capacity)
		}
		state := "serves"
		if e.Draining {
			state = "drains"
		}
		rows = append(rows, []string{e.Role, e.Name, state, or(e.Addr),
			or(strings.Join(e.Clients, ",")), number(e.Load.Connections), capacity,
			number(e.Load.Users), strconv.FormatUint(e.Epoch, 10),
			e.Age.Round(100*time.Millisecond).String() + " ago", or(e.Version)})
	}
	return cli.WriteTable(out, rows)
}

// nodeJSON is the form in which --json prints a server.
type nodeJSON struct {
	Role        string   `json:"role"`
	Name        string   `json:"name"`
	Draining    bool     `json:"draining"`
	Addr        string   `json:"addr"`
	Clients     []string `json:"clients"`
	Connections int64    `json:"connections"`
	Users       int64    `json:"users"`
	Capacity    int64    `json:"capacity"`
	Epoch       uint64   `json:"epoch"`
	Version     string   `json:"version"`
	LeaseAge    int64    `json:"lease_age_ms"`
	LeaseLeft   int64    `json:"lease_left_ms"`
}

// writeNodesJSON writes servers as JSON, one a line.
func writeNodesJSON(out io.Writer, list []redisregistry.Entry) error {
	enc := cli.NewEncoder(out)
	for _, e := range list {
		n := nodeJSON{Role: e.Role, Name: e.Name, Draining: e.Draining, Addr: e.Addr,
			Clients:     e.Clients,
			Connections: e.Load.Connections, Users: e.Load.Users, Capacity: e.Capacity,
			Epoch: e.Epoch, Version: e.Version, LeaseAge: e.Age.Milliseconds(),
			LeaseLeft: e.Left.Milliseconds()}
		if n.Clients == nil {
			n.Clients = []string{}
		}
		if err := enc.Encode(n); err != nil {
			return err
		}
	}
	return nil
}
