package msg

import (
	"slices"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// What IMUserStatusUpdate and IMUserCntUpdate say.
const (
	online  = uint32(pb.UserStatType_USER_STATUS_ONLINE) // also: one more
	offline = uint32(pb.UserStatType_USER_STATUS_OFFLINE)
)

// update tells every route and login server that the user of s came or went. It reports whether a route server hears of it, now or
// when it gets the whole state. With mu held.
func (p *presence) update(s *session.Session, status uint32) (heard bool) {
	st := statusUpdate(s.User, s.Client, status)
	for _, r := range p.routes {
		if p.tell(r, st) {
			heard = true
		}
	}
	cnt := &pb.IMUserCntUpdate{}
	cnt.SetUserAction(status)
	cnt.SetUserId(s.User)
	for _, l := range p.logins {
		p.tell(l, cnt)
	}
	return heard
}

func statusUpdate(user uint32, client pb.ClientType, status uint32) *pb.IMUserStatusUpdate {
	st := &pb.IMUserStatusUpdate{}
	st.SetUserStatus(status)
	st.SetUserId(user)
	st.SetClientType(client)
	return st
}

// tell sends an update on a link. One that is full missed it: it gets the whole state later, see catchUp. (One that is closed gets it when
// it is back.) It reports whether the link is there. With mu held.
func (p *presence) tell(link *session.Session, m pb.Message) (there bool) {
	err := link.Push(0, m)
	if err != nil {
		p.behind[link] = struct{}{}
	}
	return err == nil || im.KindOf(err) == im.Busy
}

// catchUp gives links that missed updates the whole state, as far as they take it now.
func (h *Server) catchUp() {
	p := &h.presence
	p.mu.Lock()
	defer p.mu.Unlock()
	for link := range p.behind {
		var m pb.Message
		switch {
		case slices.Contains(p.routes, link):
			m = h.users()
		case slices.Contains(p.logins, link):
			m = h.info()
		}
		if m == nil || link.Push(0, m) == nil {
			delete(p.behind, link)
		}
	}
	h.tellMissed()
}

const (
	// missedAfter is how long a route server has to be back before it is told who went meanwhile: the other message servers, whose clients are to hear it, come back
	// at about the same time.
	missedAfter = 3 * time.Second
	// missedAtOnce is how many are told of at a time.
	missedAtOnce = 1000
)

// tellMissed tells the route servers of users whose pc went while none of them was there: one that was restarted does not know that they ever were here, and nobody
// would hear that they are gone. So each is said to come, and to go. With mu held.
func (h *Server) tellMissed() {
	p := &h.presence
	if len(p.missed) == 0 || len(p.routes) == 0 || h.opt.Now().Sub(p.since) < missedAfter {
		return
	}
	n := 0
	for user, client := range p.missed {
		if n++; n > missedAtOnce {
			return
		}
		delete(p.missed, user)
		if h.hasPC(user) {
			continue
		}
		for _, r := range p.routes {
			if p.tell(r, statusUpdate(user, client, online)) {
				p.tell(r, statusUpdate(user, client, offline)) // a link that is full gets the list of those here later
			}
		}
	}
}

// hasPC reports whether a pc client of user is here.
func (h *Server) hasPC(user uint32) bool {
	return slices.ContainsFunc(h.online.Of(user), func(s *session.Session) bool { return !s.Client.IsMobile() })
}

// forward gives m to the route server that passes messages on to other message servers. With mu held.
func (p *presence) forward(m pb.Message) {
	if len(p.routes) == 0 || p.routes[0].Push(0, m) != nil {
		p.notForwarded.WithLabelValues(m.Command().String()).Inc()
	}
}

// toRoute gives m to the forwarding route server. What it does not take, or when there is none, is lost to devices elsewhere, and counted: they find
// messages in the history. It reports whether m was taken.
func (h *Server) toRoute(seq uint16, m pb.Message) bool {
	h.presence.mu.Lock()
	var r *session.Session
	if len(h.presence.routes) > 0 {
		r = h.presence.routes[0]
	}
	h.presence.mu.Unlock()
	if r == nil || r.Push(seq, m) != nil {
		h.metrics.notForwarded.WithLabelValues(m.Command().String()).Inc()
		return false
	}
	return true
}

func (h *Server) hasRoute() bool {
	h.presence.mu.Lock()
	defer h.presence.mu.Unlock()
	return len(h.presence.routes) > 0
}

func (h *Server) hasLogin() bool {
	h.presence.mu.Lock()
	defer h.presence.mu.Unlock()
	return len(h.presence.logins) > 0
}

// routeLink is the handler of links to route servers.
type routeLink struct {
	*router.Router
	h *Server
}

// RouteLink is the handler for links to route servers: it introduces this server with all its users, and takes what route
// servers pass on.
func (h *Server) RouteLink() session.Handler {
	l := &routeLink{Router: router.New(router.Options{Role: "msg_route", Log: h.opt.Log, Registerer: h.opt.Registerer}), h: h}
	router.Handle(l.Router, router.Public, ignore[*pb.IMHeartBeat])
	router.Handle(l.Router, router.Public, h.handleFeatures)
	router.Handle(l.Router, router.Public, h.handleRoutedMsgData)
	router.Handle(l.Router, router.Public, h.handleRoutedAck)
	router.Handle(l.Router, router.Public, h.handleRoutedRead)
	router.Handle(l.Router, router.Public, h.handleRoutedGroupChange)
	router.Handle(l.Router, router.Public, h.handleServerKick)
	router.Handle(l.Router, router.Public, h.handlePCLoginStatus)
	router.Handle(l.Router, router.Public, h.handleUserStat)
	router.Handle(l.Router, router.Public, h.handleRoutedRemoval)
	router.Handle(l.Router, router.Public, h.handleRoutedP2P)
	router.Handle(l.Router, router.Public, h.handleRoutedFile)
	router.Handle(l.Router, router.Public, h.handleSignInfoChanged)
	router.Handle(l.Router, router.Public, h.handleAvatarChanged)
	router.Handle(l.Router, router.Public, ignore[*pb.IMUsersStatRsp]) // came after its call had given up
	return l
}

// ignore is the handler of messages that need no action.
func ignore[P pb.Message](*session.Session, uint16, P) error { return nil }

// Open introduces this server. Updates go to the link from now on; none can come between list and updates.
func (l *routeLink) Open(s *session.Session) error {
	l.h.groups.forget() // messages and changes made elsewhere were missed until now
	p := &l.h.presence
	p.mu.Lock()
	defer p.mu.Unlock()
	role := &pb.IMRoleSet{}
	role.SetMaster(0)
	role.SetFeatures(uint32(pb.ServerFeature_SERVER_FEATURE_RECEIPTS))
	if len(p.routes) == 0 {
		role.SetMaster(1)
		p.since = l.h.opt.Now()
	}
	if err := s.Push(0, role); err != nil {
		return err
	}
	if err := s.Push(0, l.h.users()); err != nil {
		return err
	}
	p.routes = append(p.routes, s)
	return nil
}

// users is the list of all clients here.
func (h *Server) users() *pb.IMOnlineUserInfo {
	var list []*pb.ServerUserStat
	h.online.Each(func(c *session.Session) {
		st := &pb.ServerUserStat{}
		st.SetUserId(c.User)
		st.SetStatus(pb.UserStatType_USER_STATUS_ONLINE)
		st.SetClientType(c.Client)
		if clientOf(c).unacked.answers.Load() {
			st.SetAcks(true)
		}
		list = append(list, st)
	})
	m := &pb.IMOnlineUserInfo{}
	m.SetUserStatList(list)
	return m
}

// Close forgets the link. The next route server, if there is one, is told that it forwards now.
func (l *routeLink) Close(s *session.Session, _ error) {
	l.h.groups.forget() // what happens elsewhere may be missed from now on
	p := &l.h.presence
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.behind, s)
	p.forgetFeatures(s)
	i := slices.Index(p.routes, s)
	if i < 0 {
		return
	}
	p.routes = slices.Delete(p.routes, i, i+1)
	if i == 0 && len(p.routes) > 0 {
		role := &pb.IMRoleSet{}
		role.SetMaster(1)
		_ = p.routes[0].Push(0, role)
	}
}

// loginLink is the handler of links to login servers.
type loginLink struct {
	*router.Router
	h *Server
}

// LoginLink is the handler for links to login servers: it announces where clients reach this server, and how full it is.
func (h *Server) LoginLink() session.Handler {
	l := &loginLink{Router: router.New(router.Options{Role: "msg_login", Log: h.opt.Log, Registerer: h.opt.Registerer}), h: h}
	router.Handle(l.Router, router.Public, ignore[*pb.IMHeartBeat])
	return l
}

// Open announces this server.
func (l *loginLink) Open(s *session.Session) error {
	h := l.h
	h.presence.mu.Lock()
	defer h.presence.mu.Unlock()
	if err := s.Push(0, h.info()); err != nil {
		return err
	}
	h.presence.logins = append(h.presence.logins, s)
	return nil
}

// info is where clients reach this server, and how full it is.
func (h *Server) info() *pb.IMMsgServInfo {
	info := &pb.IMMsgServInfo{}
	info.SetIp1(h.ip1)
	info.SetIp2(h.ip2)
	info.SetPort(uint32(h.port))
	info.SetMaxConnCnt(uint32(h.opt.MaxConns))
	info.SetCurConnCnt(uint32(h.online.Count()))
	info.SetHostName(h.opt.HostName)
	return info
}

// Close forgets the link.
func (l *loginLink) Close(s *session.Session, _ error) {
	p := &l.h.presence
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.behind, s)
	if i := slices.Index(p.logins, s); i >= 0 {
		p.logins = slices.Delete(p.logins, i, i+1)
	}
}

// dbLink is the handler of links to db_proxies.
type dbLink struct{ *router.Router }

// DBLink is the handler for links to db_proxies, for what is not an answer to a call.
func (h *Server) DBLink() session.Handler {
	l := &dbLink{Router: router.New(router.Options{Role: "msg_dbproxy", Log: h.opt.Log, Registerer: h.opt.Registerer})}
	router.Handle(l.Router, router.Public, ignore[*pb.IMHeartBeat])
	router.Handle(l.Router, router.Public, ignore[*pb.IMDeviceTokenRsp]) // of a logout, which does not wait for it
	return l
}

// Open has nothing to say.
func (*dbLink) Open(*session.Session) error { return nil }

// Close has nothing to do: the link fails its calls itself.
func (*dbLink) Close(*session.Session, error) {}

// handleServerKick ends sessions of a user who logged in on another message server, or whose phone wants the pc gone.
func (h *Server) handleServerKick(_ *session.Session, _ uint16, m *pb.IMServerKickUser) error {
	reason := pb.KickReasonType(m.GetReason())
	h.presence.mu.Lock()
	defer h.presence.mu.Unlock()
	for _, s := range h.online.Of(m.GetUserId()) {
		switch {
		case reason == pb.KickReasonType_KICK_REASON_MOBILE_KICK && s.Client.IsMobile():
		case reason != pb.KickReasonType_KICK_REASON_MOBILE_KICK && !h.replaces(m.GetClientType(), s.Client):
		default:
			h.kick(s, reason)
		}
	}
	return nil
}

// handlePCLoginStatus tells a user's phones that its pc came or went.
func (h *Server) handlePCLoginStatus(_ *session.Session, _ uint16, m *pb.IMServerPCLoginStatusNotify) error {
	n := &pb.IMPCLoginStatusNotify{}
	n.SetUserId(m.GetUserId())
	n.SetLoginStat(pb.UserStatType_USER_STATUS_OFFLINE)
	if m.GetLoginStatus() == online {
		n.SetLoginStat(pb.UserStatType_USER_STATUS_ONLINE)
	}
	for _, s := range h.online.Of(m.GetUserId()) {
		if s.Client.IsMobile() {
			_ = s.Push(0, n) // a full mailbox closes the session
		}
	}
	return nil
}

// handleUserStat tells pc clients that a user's pc came or went.
func (h *Server) handleUserStat(_ *session.Session, _ uint16, m *pb.IMUserStatNotify) error {
	if h.opt.Presence != PresenceNone {
		st := m.GetUserStat()
		h.tell(news{about: about{st.GetUserId(), newStatus}, status: st.GetStatus()})
	}
	return nil
}
