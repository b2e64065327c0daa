package system

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/session"
	"teamtalk/core/web"
	"teamtalk/handlers/dbproxy"
	"teamtalk/handlers/httpapi"
)

// httpAPI is the role http while it runs.
type httpAPI struct {
	store im.Store // its own, for registrations, where there is no other in the process

	register *httpapi.Register // nil: nobody registers

	http *web.Server // nil: off
	addr string
	url  string // how people reach it
}

// startHTTPAPI opens the port for other systems. In a process with everything it runs only if somebody may call it: the systems of the file, or, in a
// demo without one, people on this machine who register.
func (s *system) startHTTPAPI(ctx context.Context) error {
	if s.cfg.HTTP.AppsFile == "" && !s.demo {
		return nil
	}
	text, err := im.NewTextCipher(string(s.cfg.Keys.Text))
	if err != nil {
		return fmt.Errorf("%w (setting keys.text_key)", err)
	}
	s.api = &httpAPI{}
	opt := httpapi.Options{Text: text, Log: s.log, Registerer: s.reg}
	if err := s.admitCallers(ctx, &opt); err != nil {
		return err
	}
	db, route, err := s.apiPeers()
	if err != nil {
		return err
	}
	opt.DB, opt.Route = db, route
	if opt.Pushes, err = s.apiPushes(text, db, route); err != nil {
		return err
	}
	api, err := httpapi.New(opt)
	if err != nil {
		return fmt.Errorf("%s: %w", s.cfg.HTTP.AppsFile, err)
	}
	s.api.register = opt.Register
	return s.serveAPI(api)
}

// loopback are the networks of this machine alone.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// admitCallers enters who may call.
func (s *system) admitCallers(ctx context.Context, opt *httpapi.Options) error {
	if s.cfg.HTTP.AppsFile == "" {
		opt.Register = &httpapi.Register{Accounts: accounts{s.store, s.db}, Open: true, Networks: loopback}
		return nil
	}
	file, err := config.LoadApps(s.cfg.HTTP.AppsFile)
	if err != nil {
		return fmt.Errorf("%w (setting http.apps_file)", err)
	}
	for _, a := range file.App {
		opt.Apps = append(opt.Apps, httpapi.App{Name: a.Name, Key: string(a.Key), Calls: a.Calls, As: a.As, Users: a.Users, Groups: a.Groups,
			Networks: a.Nets, Rate: a.Rate, Burst: a.Burst})
	}
	r := &file.Register
	if !r.Open && len(r.Invites) == 0 {
		return nil
	}
	store, err := s.accountStore(ctx)
	if err != nil {
		return err
	}
	opt.Register = &httpapi.Register{Accounts: accounts{store, s.db}, Open: r.Open, Invites: r.Invites, Networks: r.Nets, PerHour: r.PerHour, Depart: r.Depart}
	return nil
}

// registration is where people may register, as login servers tell them: as set, else the HTTP API of this process, if it is on there; and from which networks.
func (s *system) registration() (url string, from []netip.Prefix) {
	switch {
	case s.cfg.Login.Register != "":
		return s.cfg.Login.Register, nil
	case s.api != nil && s.api.register != nil:
		return s.api.url, s.api.register.Networks
	}
	return "", nil
}

// accounts makes new users, and has the db_proxy of this process know: else it would tell clients of them a second later only.
type accounts struct {
	store im.Store
	db    *dbproxy.Server // nil: elsewhere
}

// CreateUsers makes users, see im.Store.
func (a accounts) CreateUsers(ctx context.Context, list []im.Account) ([]uint32, error) {
	ids, err := a.store.CreateUsers(ctx, list)
	if a.db != nil {
		a.db.UsersChanged() // also when it failed: who knows how far it came
	}
	return ids, err
}

// accountStore is where new users are made: the store of this process, or one opened for it.
func (s *system) accountStore(ctx context.Context) (im.Store, error) {
	if s.store != nil {
		return s.store, nil
	}
	if err := s.cfg.CheckStore(); err != nil {
		return nil, err
	}
	store, err := OpenStore(ctx, s.cfg, StoreOptions{Log: s.log})
	if err != nil {
		return nil, fmt.Errorf("self-registration makes users in the store: %w", err)
	}
	s.api.store = store
	return store, nil
}

// apiPeers makes the links to the servers that calls are passed on to.
func (s *system) apiPeers() (db, route *link.Group, err error) {
	var dbHere, routeHere session.Handler
	if s.db != nil {
		dbHere = s.db
	}
	if s.route != nil {
		routeHere = s.route
	}
	if db, err = s.group("dbproxy", dbHere, s.cfg.HTTP.DBProxy, 1, httpapi.Link{}); err != nil {
		return nil, nil, err
	}
	route, err = s.group("route", routeHere, s.cfg.HTTP.Route, 1, httpapi.Link{Route: true})
	return db, route, err
}

// serveAPI opens the port.
func (s *system) serveAPI(api http.Handler) error {
	addr := config.Addr(s.cfg.HTTP.Listen)
	if addr == "" {
		return nil
	}
	if s.cfg.HTTP.AppsFile == "" { // the demo's: for this machine alone
		addr = reachable(addr)
	}
	l, err := web.Listen(addr)
	if err != nil {
		return fmt.Errorf("%w (setting http.listen)", err)
	}
	a := s.api
	a.addr, a.url = l.Addr().String(), webAddress(s.cfg.HTTP.URL, l)
	a.http = s.serveWeb(l, web.Options{Name: "http", Handler: api, MaxConns: s.cfg.HTTP.MaxConnections})
	return nil
}

// stop ends the port once its calls are answered. Before the servers that it calls.
func (a *httpAPI) stop(ctx context.Context) error {
	var errs []error
	if a.http != nil {
		errs = append(errs, a.http.Close(ctx))
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	return errors.Join(errs...)
}
