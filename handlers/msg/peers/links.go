package peers

import (
	"slices"
	"time"

	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// routeEnd is the handler of links to route servers.
type routeEnd struct {
	*router.Router[*session.Link]
	p *Links
}

// RouteEnd returns the handler for links to route servers. It tells them this server's
// clients, and takes what they pass on with the handlers in r, to which it adds its own.
func (p *Links) RouteEnd(r *router.Router[*session.Link]) session.LinkHandler {
	router.Handle(r, router.Public, router.Ignore[*pb.IMHeartBeat])
	router.Handle(r, router.Public, p.handleFeatures)
	router.Handle(r, router.Public, router.Ignore[*pb.IMUsersStatRsp]) // its call had given up
	return &routeEnd{Router: r, p: p}
}

// handleFeatures takes a route server's answer to what this server said of itself, and
// what it passes on of other message servers. A route server that missed a change before it
// answered gets the whole state, see CatchUp.
func (p *Links) handleFeatures(s *session.Link, _ uint16, m *pb.IMRoleSet) error {
	if m.GetLost() { // changes made elsewhere, and acks of devices there
		p.opt.RouteChanged()
		p.opt.RouteLost()
	}
	if groups := m.GetBegunGroups(); len(groups) > 0 {
		p.opt.GroupsBegun(groups)
	}
	p.mu.Lock()
	defer p.unlock()
	if !slices.Contains(p.routes, s) {
		return nil
	}
	if m.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_REPEATS) != 0 &&
		!slices.Contains(p.repeats, s) {
		p.repeats = append(p.repeats, s)
	}
	if m.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_RESENT) != 0 {
		p.resends[s] = struct{}{}
		if m.HasMissed() { // by another message server
			missed := time.Duration(m.GetMissed()) * time.Millisecond
			p.outbox.want(p.opt.Now().Add(-missed - inFlight))
			p.kickMissed(missed)
		}
		p.sendTexts()
	}
	if m.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_RECEIPTS) == 0 ||
		slices.Contains(p.receipts, s) {
		return nil
	}
	p.receipts = append(p.receipts, s)
	p.hasReceipts.Store(true)
	if _, missed := p.early[s]; missed {
		delete(p.early, s)
		p.behind[s] = struct{}{}
	}
	return nil
}

// forgetFeatures forgets what a route server that is gone understood. With mu held.
func (p *Links) forgetFeatures(s *session.Link) {
	delete(p.early, s)
	delete(p.resends, s)
	gone := func(o *session.Link) bool { return o == s }
	p.receipts, p.repeats = slices.DeleteFunc(p.receipts, gone), slices.DeleteFunc(p.repeats, gone)
	p.hasReceipts.Store(len(p.receipts) > 0)
}

// Open introduces this server. Updates are sent on the link from now on. None can be sent
// between the list and the updates.
func (l *routeEnd) Open(s *session.Link) error {
	p := l.p
	p.opt.RouteChanged() // messages and changes made elsewhere were missed until now
	p.mu.Lock()
	defer p.unlock()
	role := &pb.IMRoleSet{}
	role.SetMaster(0)
	role.SetFeatures(uint32(pb.ServerFeature_SERVER_FEATURE_RECEIPTS |
		pb.ServerFeature_SERVER_FEATURE_REPEATS | pb.ServerFeature_SERVER_FEATURE_RESENT |
		pb.ServerFeature_SERVER_FEATURE_FILES))
	if p.opt.HostName != "" {
		role.SetPeer("msg/" + p.opt.HostName)
	}
	now := p.opt.Now()
	if len(p.routes) == 0 {
		role.SetMaster(1)
		p.since, p.outbox.since = now, now
	}
	if missed := p.outbox.linkOpened(now); missed > 0 && p.online.Count() > 0 {
		role.SetMissed(uint32(min(missed.Milliseconds(), 1<<32-1)))
	}
	if err := s.Send(0, role); err != nil {
		return err
	}
	if err := p.sendUsers(s); err != nil {
		return err
	}
	p.routes = append(p.routes, s)
	return nil
}

// Close forgets the link. The next route server, if one is connected, is told that it
// forwards now.
func (l *routeEnd) Close(s *session.Link, _ error) {
	p := l.p
	p.opt.RouteChanged() // messages and changes made elsewhere may be missed from now on
	p.opt.RouteLost()
	p.mu.Lock()
	defer p.unlock()
	delete(p.behind, s)
	p.forgetFeatures(s)
	i := slices.Index(p.routes, s)
	if i < 0 {
		return
	}
	p.routes = slices.Delete(p.routes, i, i+1)
	if i == 0 {
		p.kicks.lost()
		if !p.opt.Whereabouts { // a mesh in this process loses nothing
			p.statuses.linkLost(p.opt.Now())
		}
	}
	p.outbox.linkLost(p.opt.Now(), i == 0)
	if i == 0 && len(p.routes) > 0 {
		role := &pb.IMRoleSet{}
		role.SetMaster(1)
		_ = p.routes[0].Send(0, role)
		p.sendTexts()
	}
}

// loginEnd is the handler of links to login servers.
type loginEnd struct {
	*router.Router[*session.Link]
	p *Links
}

// LoginEnd returns the handler for links to login servers. It announces where clients
// reach this server, and how many it has. r must be empty.
func (p *Links) LoginEnd(r *router.Router[*session.Link]) session.LinkHandler {
	router.Handle(r, router.Public, router.Ignore[*pb.IMHeartBeat])
	return &loginEnd{Router: r, p: p}
}

// Open announces this server.
func (l *loginEnd) Open(s *session.Link) error {
	l.p.mu.Lock()
	defer l.p.unlock()
	if err := s.Send(0, l.p.info()); err != nil {
		return err
	}
	l.p.logins = append(l.p.logins, s)
	return nil
}

// info returns where clients reach this server, and how many it has.
func (p *Links) info() *pb.IMMsgServInfo {
	info := &pb.IMMsgServInfo{}
	info.SetIp1(p.ip1)
	info.SetIp2(p.ip2)
	info.SetPort(uint32(p.port))
	info.SetMaxConnCnt(uint32(p.maxConns))
	if p.full {
		info.SetMaxConnCnt(0)
	}
	info.SetCurConnCnt(uint32(p.online.Count()))
	info.SetHostName(p.opt.HostName)
	return info
}

// SetMaxConns replaces Options.MaxConns, and tells the login servers.
func (p *Links) SetMaxConns(n int) {
	p.mu.Lock()
	defer p.unlock()
	p.maxConns = n
	for _, l := range p.logins {
		p.tell(l, p.info())
	}
}

// SetFull tells the login servers that this server takes no client, or that it does.
func (p *Links) SetFull(full bool) {
	p.mu.Lock()
	defer p.unlock()
	p.full = full
	for _, l := range p.logins {
		p.tell(l, p.info())
	}
}

// Close forgets the link.
func (l *loginEnd) Close(s *session.Link, _ error) {
	l.p.mu.Lock()
	defer l.p.unlock()
	delete(l.p.behind, s)
	if i := slices.Index(l.p.logins, s); i >= 0 {
		l.p.logins = slices.Delete(l.p.logins, i, i+1)
	}
}

// dbEnd is the handler of links to db_proxies.
type dbEnd struct{ *router.Router[*session.Link] }

// DBEnd returns the handler for links to db_proxies, for messages that are no answers to
// calls. r must be empty.
func DBEnd(r *router.Router[*session.Link]) session.LinkHandler {
	router.Handle(r, router.Public, router.Ignore[*pb.IMHeartBeat])
	// A logout does not wait for its answer.
	router.Handle(r, router.Public, router.Ignore[*pb.IMDeviceTokenRsp])
	return &dbEnd{r}
}

// Open sends nothing.
func (*dbEnd) Open(*session.Link) error { return nil }

// Close does nothing: the link fails its calls itself.
func (*dbEnd) Close(*session.Link, error) {}
