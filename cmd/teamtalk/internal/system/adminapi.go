package system

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"teamtalk/cmd/teamtalk/internal/admin/remote"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/address"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/web"
	"teamtalk/handlers/adminapi"
	"teamtalk/handlers/adminapi/console"
	"teamtalk/handlers/adminapi/live"
	"teamtalk/handlers/adminapi/tokens"
	"teamtalk/handlers/httpapi"
	"teamtalk/proto/pb"
)

// maxAdminAPI bounds the connections of the admin API.
const maxAdminAPI = 256

// startAdminAPI opens the port of the admin API, if the settings have one.
func startAdminAPI(ctx context.Context, s *system, o Options) error {
	addr := config.Addr(s.cfg.AdminAPI.Listen)
	if addr == "" {
		return nil
	}
	callers, err := tokens.Open(s.cfg.AdminAPI.Tokens)
	if err != nil {
		return fmt.Errorf("%w (setting admin_api.tokens)", err)
	}
	routes, err := routesOf(s)
	if err != nil {
		return err
	}
	directory, err := directoryOf(ctx, s, routes)
	if err != nil {
		return err
	}
	ring := live.New(s.reg)
	s.stops.Go(stops.EndUpkeep, "samples of the admin API", func(ctx context.Context) {
		ring.Run(ctx.Done())
	})
	api := adminapi.New(adminapi.Options{
		Directory: directory, Cluster: clusterOf(s, directory.Store, routes),
		Process: &remote.Process{Config: s.cfg, Level: o.Level, Gatherer: s.reg, Files: s.file,
			Ring: ring, Events: s.audit, Now: time.Now},
		Tokens: callers, Messages: s.cfg.AdminAPI.Messages, Audit: s.audit, Log: s.log,
		Registerer: s.reg, Page: console.Page(), Name: processName(s.cfg),
		Version: o.Version.Version,
	})
	l, err := web.Listen(addr)
	if err != nil {
		return fmt.Errorf("%w (setting admin_api.listen)", err)
	}
	if at := l.Addr().(*net.TCPAddr); s.tls == nil && !at.IP.IsLoopback() {
		s.log.Warn("tokens of the admin API cross the network in clear text: set tls.certificate, "+
			"or let admin_api.listen be on 127.0.0.1", "addr", at.String())
	}
	s.log.Info("the admin API is open", "addr", l.Addr().String())
	s.console = pageURL(s, l.Addr())
	limit := func(*config.Config) int { return maxAdminAPI }
	srv := s.ports.ServeWeb(l, limit, web.Options{Name: "admin_api", Handler: api,
		Plain: onThisMachine, PerAddress: maxAdminAPI / 4})
	s.stops.Push(stops.FinishCalls, "admin API", srv.Close)
	return nil
}

// pageURL returns the URL of the page of a port, as this machine opens it.
func pageURL(s *system, at net.Addr) string {
	scheme := "http://"
	if s.tls != nil {
		scheme = "https://"
	}
	return scheme + address.Reachable(at.String()) + "/"
}

// processName returns the name of this process for people; empty when nothing names it.
func processName(cfg *config.Config) string {
	if cfg.Node.Name != "" {
		return cfg.Node.Name
	}
	host, _ := os.Hostname()
	return host
}

// onThisMachine reports whether an address is of this machine. Where the ports have TLS, other
// callers of the admin API must use it, whatever tls.plain_networks allows to clients.
func onThisMachine(from netip.Addr) bool { return from.Unmap().IsLoopback() }

// directoryOf returns the users and groups of the store of this process, or of one opened for
// the admin API.
func directoryOf(ctx context.Context, s *system, routes *routeServers) (*remote.Directory,
	error) {
	store, err := s.accountStore(ctx)
	if err != nil {
		return nil, err
	}
	policy, err := open.PasswordPolicy(s.cfg, store)
	if err != nil {
		return nil, err
	}
	text, err := im.NewTextCipher(string(s.cfg.Keys.Text))
	if err != nil {
		return nil, fmt.Errorf("%w (setting keys.text_key)", err)
	}
	return &remote.Directory{Store: store, Policy: policy, Text: text,
		Limits: open.LoginLimits(&s.cfg.DBProxy),
		Tell: func(group uint32, t pb.GroupModifyType, change im.MemberChange) bool {
			n := httpapi.MembersNotify(0, group, t, change.Current, change.Changed)
			n.SetVersion(change.Version)
			return routes.group.Send(im.GroupKey(group), 0, n) == nil
		},
		Changed: func() {
			if s.db != nil {
				s.db.UsersChanged()
			}
		}}, nil
}

// clusterOf returns what the admin API asks and orders of other servers.
func clusterOf(s *system, users im.UserStore, routes *routeServers) *remote.Cluster {
	connected := func() error {
		if !routes.group.Empty() && routes.group.Up() {
			return nil
		}
		return im.WithKind(im.Unavailable, "no route server", s.linker.Check(routes.group))
	}
	return &remote.Cluster{Users: users, Registry: s.registry, Where: s.where, Route: s.route,
		Statuses: func(ctx context.Context, users []uint32) ([]*pb.UserStat, error) {
			if err := connected(); err != nil {
				return nil, err
			}
			return httpapi.Statuses(ctx, routes.group, users)
		},
		Kicker: func(ctx context.Context, user uint32) error {
			if err := connected(); err != nil {
				return err
			}
			return routes.Kick(ctx, routes.group, user)
		}}
}
