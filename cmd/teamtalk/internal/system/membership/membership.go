// Package membership is the part of a process in the deployment: its name, its servers in the
// registry, and the roles of it that drain, because it stops or an operator has ordered it.
package membership

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/obs"
	"teamtalk/core/registry"
	"teamtalk/sql/redisregistry"
)

// Options configure a Member. All are required.
type Options struct {
	Config *config.Config
	// Ready gets the state of the registry, and of a process whose roles all drain.
	Ready *obs.Ready
	// Stops gets the stops of what is opened, and the end of the registration.
	Stops      *stops.Stack
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Member is a process of a deployment.
type Member struct {
	// Registry has the servers of all processes, and Name is the name of this one.
	Registry *redisregistry.Registry
	Name     string

	opt      Options
	servers  Servers
	draining draining
}

// Servers are the servers of a process that does not start any further.
type Servers struct {
	// Messages is the message server, and Requests the db_proxy; nil: there is none.
	Messages Messages
	Requests interface{ SetDraining(on bool) }
	// Nodes returns all servers with their present load. Any goroutine.
	Nodes func() []registry.Node
	// Failed is told when the process cannot stay registered. Any goroutine.
	Failed func(error)
}

// Messages is a message server that drains, see msg.Server.
type Messages interface {
	SetDraining(on bool)
	Release(ctx context.Context, over time.Duration) (left bool)
	Online() int
}

// Open opens the registry and begins to read the servers of other processes. It does not wait for
// Redis. The result is nil when the settings turn the registry off.
func Open(opt Options) (*Member, error) {
	if !opt.Config.Registry.Enabled {
		return nil, nil
	}
	name, err := Name(opt.Config)
	if err != nil {
		return nil, err
	}
	i, err := open.RegistryRedis(opt.Config)
	if err != nil {
		return nil, err
	}
	m := &Member{Name: name, opt: opt}
	r := open.RegistryOptions(opt.Config, i)
	r.Roles, r.Log, r.Registerer, r.Ordered = config.Roles(), opt.Log, opt.Registerer, m.order
	m.Registry = redisregistry.Open(r)
	opt.Stops.Push(stops.CloseStore, "connections to the registry",
		stops.Closing(m.Registry.Close))
	opt.Ready.Add("registry", func(context.Context) error {
		return obs.Degraded(m.Registry.State())
	})
	// Until the links are closed, they follow the other servers.
	opt.Stops.Go(stops.CloseStore, "reading of the registry", m.Registry.Watch)
	return m, nil
}

// ReadByLogins reports whether login servers learn of the message server of this process from the
// registry alone. m may be nil.
func (m *Member) ReadByLogins() bool {
	return m != nil && !m.opt.Config.Runs(config.RoleLogin) && len(m.opt.Config.Msg.Login) == 0
}

// Register registers the servers of this process, whose ports are all open. From then on operators
// can order them to drain. m may be nil.
func (m *Member) Register(servers Servers) {
	if m == nil {
		return
	}
	m.servers = servers
	run := stops.InBackground(func(ctx context.Context) {
		err := m.Registry.Run(ctx, servers.Nodes)
		if replaced := new(redisregistry.ReplacedError); errors.As(err, &replaced) {
			err = &ReplacedError{nameError(m.opt.Config, replaced.Error())}
		}
		if err != nil {
			servers.Failed(err)
		}
	})
	m.opt.Stops.Push(stops.AnnounceEnd, "registry", m.announceEnd)
	if servers.Messages != nil {
		m.opt.Stops.Push(stops.ReleaseClients, "message server", m.releaseAtEnd)
	}
	m.opt.Stops.Push(stops.LeaveRegistry, "registry", func(ctx context.Context) error {
		run.Stop()
		if err := m.Registry.Leave(ctx); err != nil && m.Registry.Epoch() > 0 {
			m.opt.Log.Warn("the registry still has this process until its lease ends", "err", err)
		}
		return nil
	})
}
