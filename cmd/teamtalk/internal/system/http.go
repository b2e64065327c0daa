package system

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/address"
	"teamtalk/cmd/teamtalk/internal/system/check"
	"teamtalk/cmd/teamtalk/internal/system/peering"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/config/apps"
	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/mono"
	"teamtalk/core/web"
	"teamtalk/handlers/dbproxy"
	"teamtalk/handlers/httpapi"
)

// httpAPI is the role http while it runs.
type httpAPI struct {
	server   *httpapi.Server
	register *httpapi.Register // nil: users cannot register
	store    im.Store          // for new users; nil: none is open
	addr     string            // listened on; empty: no port
	at       *net.TCPAddr      // the same
	url      string            // at which users reach the API
}

// startHTTPAPI opens the port for other systems. In a process with all roles it runs only
// if there are callers: the systems of the apps file, or, in a demo without one, users on
// this machine that register.
func (s *system) startHTTPAPI(ctx context.Context) error {
	if s.cfg.HTTP.AppsFile == "" && !s.demo {
		check.WarnClosedAPI(s.cfg, s.log)
		return nil
	}
	text, err := im.NewTextCipher(string(s.cfg.Keys.Text))
	if err != nil {
		return fmt.Errorf("%w (setting keys.text_key)", err)
	}
	opt := httpapi.Options{Text: text, Audit: s.audit, Log: s.log, Registerer: s.reg}
	store, err := s.admitCallers(ctx, &opt)
	if err != nil {
		return err
	}
	db, err := s.group(peering.Peers{
		Role: config.RoleDBProxy, Here: s.localDB(), Addrs: s.cfg.HTTP.DBProxy,
		Handler: httpapi.Link{},
	})
	if err != nil {
		return err
	}
	routes, err := routesOf(s)
	if err != nil {
		return err
	}
	route := routes.group
	opt.DB, opt.Route, opt.Routes = db, route, routes.Routes
	if opt.Pushes, err = s.apiPushes(text, db, route); err != nil {
		return err
	}
	api, err := httpapi.New(opt)
	if err != nil {
		return fmt.Errorf("%s: %w", s.cfg.HTTP.AppsFile, err)
	}
	s.api = &httpAPI{server: api, register: opt.Register, store: store}
	return s.serveAPI()
}

// loopback holds the networks of this machine alone.
var loopback = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
}

// admitCallers sets the systems that may call, and whether users may register. It returns the
// store for new users; nil when none is open.
func (s *system) admitCallers(ctx context.Context, opt *httpapi.Options) (im.Store, error) {
	if s.cfg.HTTP.AppsFile == "" {
		policy, err := open.PasswordPolicy(s.cfg, s.store)
		opt.Register = &httpapi.Register{
			Accounts: accounts{s.store, s.db}, Passwords: policy, Open: true, Networks: loopback,
		}
		return s.store, err
	}
	file, err := apps.Load(s.cfg.HTTP.AppsFile)
	if err != nil {
		return nil, fmt.Errorf("%w (setting http.apps_file)", err)
	}
	opt.Apps, opt.Register = open.Apps(file)
	if opt.Register == nil {
		return s.store, nil
	}
	store, err := s.accountStore(ctx)
	if err != nil {
		return nil, err
	}
	policy, err := open.PasswordPolicy(s.cfg, store)
	opt.Register.Accounts, opt.Register.Passwords = accounts{store, s.db}, policy
	return store, err
}

// registration returns the URL for registering that login servers tell clients: the
// setting's, else that of the HTTP API in this process if it registers users; and the
// networks that may register.
func (s *system) registration() (url string, from []netip.Prefix) {
	switch {
	case s.cfg.Login.Register != "":
		return s.cfg.Login.Register, nil
	case s.api != nil && s.api.register != nil:
		return s.api.url, s.api.register.Networks
	}
	return "", nil
}

// accounts adds users and tells the dbproxy of this process, which otherwise would tell
// its clients about them up to a second later.
type accounts struct {
	store im.Store
	db    *dbproxy.Server // nil: in another process
}

// CreateUsers adds users, see im.Store.
func (a accounts) CreateUsers(ctx context.Context, list []im.Account) ([]uint32, error) {
	ids, err := a.store.CreateUsers(ctx, list)
	if a.db != nil {
		a.db.UsersChanged() // after an error too: some users may have been added
	}
	return ids, err
}

// accountStore returns the store of the HTTP APIs: the store of this process, or one opened for
// them.
func (s *system) accountStore(ctx context.Context) (im.Store, error) {
	if s.store != nil {
		return s.store, nil
	}
	if s.opened != nil {
		return s.opened, nil
	}
	if err := s.cfg.CheckStore(); err != nil {
		return nil, err
	}
	store, err := open.Store(ctx, s.cfg, open.Options{Log: s.log})
	if err != nil {
		return nil, fmt.Errorf("self-registration and the admin API use the store: %w", err)
	}
	s.opened = store
	s.stops.Push(stops.CloseStore, "store of the HTTP APIs", stops.Closing(store.Close))
	return store, nil
}

// routeServers are the links of the HTTP APIs to route servers.
type routeServers struct {
	*httpapi.Routes
	group *link.Group
}

// routesOf opens the links to route servers, once.
func routesOf(s *system) (*routeServers, error) {
	if s.routes != nil {
		return s.routes, nil
	}
	var addrs []string
	if s.cfg.Runs(config.RoleHTTP) { // otherwise the setting was not checked
		addrs = s.cfg.HTTP.Route
	}
	routes := httpapi.NewRoutes(mono.Now, s.reg)
	group, err := s.group(peering.Peers{
		Role: config.RoleRoute, Here: s.localRoute(), Addrs: addrs, Handler: routes,
	})
	if err == nil {
		s.routes = &routeServers{routes, group}
	}
	return s.routes, err
}

// serveAPI opens the port.
func (s *system) serveAPI() error {
	addr := config.Addr(s.cfg.HTTP.Listen)
	if addr == "" {
		return nil
	}
	if s.cfg.HTTP.AppsFile == "" { // a demo: for this machine alone
		addr = address.Reachable(addr)
	}
	l, err := web.Listen(addr)
	if err != nil {
		return fmt.Errorf("%w (setting http.listen)", err)
	}
	s.api.at = l.Addr().(*net.TCPAddr)
	s.api.addr, s.api.url = l.Addr().String(), address.Web(s.cfg, s.cfg.HTTP.URL, l)
	limit := func(c *config.Config) int { return c.HTTP.MaxConnections }
	srv := s.ports.ServeWeb(l, limit, web.Options{Name: "http", Handler: s.api.server})
	s.stops.Push(stops.FinishCalls, "HTTP API", srv.Close)
	return nil
}
