package remote

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/core/audit"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/core/registry"
	"teamtalk/core/whereabouts"
	"teamtalk/handlers/adminapi"
	"teamtalk/handlers/adminapi/live"
	"teamtalk/handlers/file"
	"teamtalk/handlers/route"
	"teamtalk/proto/pb"
	"teamtalk/sql/redisregistry"
)

// Cluster is an adminapi.Cluster.
type Cluster struct {
	Users im.UserStore
	// Statuses asks which users are online. Kicker ends the connections of a user.
	Statuses func(ctx context.Context, users []uint32) ([]*pb.UserStat, error)
	Kicker   func(ctx context.Context, user uint32) error
	// Registry has the servers of all processes; nil: the settings turn it off.
	Registry *redisregistry.Registry
	// Where has the devices of users in a cluster without route servers, and Route in this
	// process. nil: neither tells them.
	Where whereabouts.Store
	Route *route.Server
}

// Online tells which users are online.
func (c *Cluster) Online(ctx context.Context, q adminapi.Online) (a adminapi.OnlineUsers,
	err error) {
	if len(q.Users) == 0 {
		return a, im.Errorf(im.Invalid, "want users: 1 to 1000 ids")
	}
	list, err := c.Statuses(ctx, q.Users)
	if err != nil {
		return a, err
	}
	a.Users = []adminapi.OnlineUser{}
	for _, u := range list {
		a.Users = append(a.Users, adminapi.OnlineUser{ID: u.GetUserId(),
			Online: u.GetStatus() != pb.UserStatType_USER_STATUS_OFFLINE})
	}
	if c.Where == nil {
		for i := range a.Users {
			a.Users[i].Devices = c.routed(a.Users[i].ID)
		}
		return a, nil
	}
	ids := make([]uint32, len(a.Users))
	for i, u := range a.Users {
		ids[i] = u.ID
	}
	for i, found := range c.Where.Lookup(ctx, ids) {
		if found.Err != nil {
			return a, found.Err
		}
		a.Users[i].Devices = c.devices(found.Entries)
	}
	return a, nil
}

// routed returns the devices of a user that the route server of this process knows; nil: it does
// not know them.
func (c *Cluster) routed(user uint32) []adminapi.Device {
	if c.Route == nil {
		return nil
	}
	known, ok := route.Devices(c.Route, user)
	if !ok {
		return nil
	}
	list := []adminapi.Device{}
	for _, d := range known {
		list = append(list, adminapi.Device{Node: d.Server,
			Client: strings.TrimPrefix(d.Client.String(), "CLIENT_TYPE_")})
	}
	return list
}

// devices returns the devices of entries whose processes are alive.
func (c *Cluster) devices(entries []whereabouts.Entry) []adminapi.Device {
	nodes, _ := c.Registry.View().Nodes("msg")
	list := []adminapi.Device{}
	for _, e := range entries {
		if !slices.ContainsFunc(nodes, func(n registry.Node) bool {
			return n.Name == e.Name && n.Epoch == e.Epoch
		}) {
			continue
		}
		for _, d := range e.Devices {
			list = append(list, adminapi.Device{Node: e.Name,
				Client: strings.TrimPrefix(d.Client.String(), "CLIENT_TYPE_")})
		}
	}
	return list
}

// ListOnline returns a page of the users that are online. It asks for the users of the store, up to
// maxScan for a page.
func (c *Cluster) ListOnline(ctx context.Context, q adminapi.ListOnline) (p adminapi.OnlinePage,
	err error) {
	limit, err := pageSize(q.Limit)
	if err != nil {
		return p, err
	}
	where := map[uint32]adminapi.OnlineUser{}
	read := func(after uint32, n int) ([]im.User, error) {
		rows, err := c.Users.ListUsers(ctx, after, n)
		if err != nil || len(rows) == 0 {
			return rows, err
		}
		ids := make([]uint32, len(rows))
		for i, u := range rows {
			ids[i] = u.ID
		}
		online, err := c.Online(ctx, adminapi.Online{Users: ids})
		for _, u := range online.Users {
			if u.Online {
				where[u.ID] = u
			}
		}
		return rows, err
	}
	users, next, err := pages(q.After, limit, read, func(u im.User) uint32 { return u.ID },
		func(u im.User) bool {
			_, ok := where[u.ID]
			return ok && contains(u, q.Search)
		})
	p.Users, p.Next = make([]adminapi.OnlineName, len(users)), next
	for i, u := range users {
		p.Users[i] = adminapi.OnlineName{OnlineUser: where[u.ID], Name: u.Name, Nick: u.Nick}
	}
	return p, err
}

// Kick ends the connections of a user.
func (c *Cluster) Kick(ctx context.Context, q adminapi.UserName) (none adminapi.None, err error) {
	u, err := admin.FindUser(ctx, c.Users, q.User)
	if err == nil {
		err = c.Kicker(ctx, u.ID)
	}
	return none, err
}

// list returns the registered servers.
func (c *Cluster) list(ctx context.Context) ([]redisregistry.Entry, error) {
	list, err := c.Registry.List(ctx)
	return list, im.WithKind(im.Unavailable, "read the registry", err)
}

// Nodes returns the registered servers.
func (c *Cluster) Nodes(ctx context.Context, _ adminapi.None) (a adminapi.Nodes, err error) {
	a.Nodes = []adminapi.Node{}
	if c.Registry == nil {
		return a, nil
	}
	a.Registry = true
	list, err := c.list(ctx)
	for _, e := range list {
		a.Nodes = append(a.Nodes, adminapi.Node{Role: e.Role, Name: e.Name, Draining: e.Draining,
			Addr: e.Addr, Clients: append([]string{}, e.Clients...),
			Connections: e.Load.Connections, Users: e.Load.Users, Capacity: e.Capacity,
			Epoch: e.Epoch, Version: e.Version, LeaseAge: e.Age.Milliseconds(),
			LeaseLeft: e.Left.Milliseconds()})
	}
	return a, err
}

// Drain orders the servers of a process to drain, or to serve again. It does not wait.
func (c *Cluster) Drain(ctx context.Context, q adminapi.Drain) (none adminapi.None, err error) {
	if c.Registry == nil {
		return none, im.Errorf(im.Denied, "the registry is off (setting registry.enabled)")
	}
	list, err := c.list(ctx)
	if err != nil {
		return none, err
	}
	var nodes []registry.Key
	for _, e := range list {
		if e.Name == q.Node && (len(q.Roles) == 0 || slices.Contains(q.Roles, e.Role)) {
			nodes = append(nodes, e.Key())
		}
	}
	if len(nodes) == 0 || len(q.Roles) > 0 && len(nodes) != len(q.Roles) {
		return none, im.Errorf(im.NotFound, "no process %s is registered with these roles: %s",
			q.Node, strings.Join(q.Roles, ", "))
	}
	err = c.Registry.Order(ctx, nodes, q.Drain)
	if errors.Is(err, redisregistry.ErrUnknown) {
		return none, im.WithKind(im.NotFound, "the process has ended", err)
	}
	return none, im.WithKind(im.Unavailable, "write the order to the registry", err)
}

// Process is an adminapi.Process.
type Process struct {
	Config   *config.Config
	Level    *slog.LevelVar // nil: it cannot be changed
	Gatherer prometheus.Gatherer
	Files    *file.Server // nil: the role file does not run here
	Ring     *live.Ring
	Events   *audit.Log
	Now      func() time.Time
}

// Settings returns the settings of this process.
func (p *Process) Settings(context.Context, adminapi.None) (a adminapi.Settings, err error) {
	for _, v := range p.Config.Effective() {
		a.Settings = append(a.Settings, adminapi.Setting{Key: v.Key, Value: v.Text,
			Origin: string(v.Origin), Reloads: v.Reloads})
	}
	return a, nil
}

// LogLevel returns the level of the log.
func (p *Process) LogLevel(context.Context, adminapi.None) (adminapi.LogLevel, error) {
	if p.Level == nil {
		return adminapi.LogLevel{Level: p.Config.Log.Level}, nil
	}
	return adminapi.LogLevel{Level: strings.ToLower(p.Level.Level().String())}, nil
}

// SetLogLevel changes the level of the log until the process ends.
func (p *Process) SetLogLevel(ctx context.Context, q adminapi.LogLevel) (adminapi.LogLevel,
	error) {
	level, err := obs.ParseLevel(q.Level)
	switch {
	case err != nil || q.Level == "":
		return q, im.Errorf(im.Invalid, "level %q is none of debug, info, warn, error", q.Level)
	case p.Level == nil:
		return q, im.Errorf(im.Denied, "the level of this process cannot be changed")
	}
	p.Level.Set(level)
	return p.LogLevel(ctx, adminapi.None{})
}

// maxMetrics bounds the values of one answer.
const maxMetrics = 5000

// Metrics returns metrics of this process.
func (p *Process) Metrics(_ context.Context, q adminapi.Metrics) (a adminapi.MetricList,
	err error) {
	if q.Prefix == "" {
		q.Prefix = "teamtalk_"
	}
	families, _ := p.Gatherer.Gather() // a broken collector must not hide the others
	a.Metrics = []adminapi.Metric{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), q.Prefix) {
			continue
		}
		for _, m := range f.GetMetric() {
			x := adminapi.Metric{Name: f.GetName(), Labels: map[string]string{},
				Type: strings.ToLower(f.GetType().String()),
				Value: finite(m.GetCounter().GetValue() + m.GetGauge().GetValue() +
					float64(m.GetHistogram().GetSampleCount())),
				Sum: finite(m.GetHistogram().GetSampleSum())}
			for _, l := range m.GetLabel() {
				x.Labels[l.GetName()] = l.GetValue()
			}
			if _, ok := x.Labels[q.Label]; q.Label != "" && !ok || q.NonZero && x.Value == 0 {
				continue
			}
			if len(a.Metrics) == maxMetrics {
				return a, im.Errorf(im.Invalid, "more than %d values: give a longer prefix",
					maxMetrics)
			}
			a.Metrics = append(a.Metrics, x)
		}
	}
	return a, nil
}

// finite returns 0 for a value that JSON does not have.
func finite(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}

// maxTransfers bounds the transfers of one answer.
const maxTransfers = 1000

// Transfers returns the transfers of files that run in this process.
func (p *Process) Transfers(context.Context, adminapi.None) (a adminapi.Transfers, err error) {
	a.Transfers = []adminapi.Transfer{}
	if p.Files == nil {
		return a, nil
	}
	for _, t := range file.Transfers(p.Files, maxTransfers) {
		a.Transfers = append(a.Transfers, adminapi.Transfer{ID: t.ID, From: t.From, To: t.To,
			Name: strings.ToValidUTF8(t.Name, "?"), Size: t.Size, Online: t.Online,
			Created: t.Created})
	}
	slices.SortFunc(a.Transfers, func(x, y adminapi.Transfer) int {
		return x.Created.Compare(y.Created)
	})
	return a, nil
}

// Audit returns the last events of the audit log.
func (p *Process) Audit(context.Context, adminapi.None) (a adminapi.AuditEvents, err error) {
	lines := p.Events.Recent()
	a.Events = make([]adminapi.AuditEvent, len(lines))
	for i, l := range lines {
		a.Events[i] = adminapi.AuditEvent{Time: l.Time, Event: l.Kind, By: l.By, User: l.User,
			Name: l.Name, From: l.From, Client: l.Client, What: l.What, Result: l.Result,
			Detail: l.Detail}
	}
	return a, nil
}

// Live returns what this process did in the last hour.
func (p *Process) Live(_ context.Context, q adminapi.Live) (a adminapi.LiveData, err error) {
	if q.Step == 0 {
		q.Step = 60
	}
	if q.Minutes == 0 {
		q.Minutes = 60
	}
	if q.Step != 10 && q.Step != 60 || q.Minutes < 1 || q.Minutes > 60 {
		return a, im.Errorf(im.Invalid, "want step 10 or 60, and minutes from 1 to 60")
	}
	samples := p.Ring.Since(p.Now().Add(-time.Duration(q.Minutes)*time.Minute), q.Step/10)
	a = adminapi.LiveData{Step: q.Step, Times: []time.Time{}, Series: map[string][]*float64{}}
	for _, s := range samples {
		a.Times = append(a.Times, s.Time.UTC())
	}
	for i, name := range live.Names() {
		values := make([]*float64, len(samples))
		for j, s := range samples {
			if !math.IsNaN(s.Values[i]) {
				values[j] = &s.Values[i]
			}
		}
		a.Series[name] = values
	}
	return a, nil
}
