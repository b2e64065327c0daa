package route

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// handlePresence enters the commands that say or ask who is online.
func (r *Server) handlePresence() {
	router.Handle(r.Router, router.Public, r.handleRoleSet)
	router.Handle(r.Router, router.Public, r.handleOnlineUserInfo)
	router.Handle(r.Router, router.Public, r.handleUserStatusUpdate)
	router.Handle(r.Router, router.Public, r.handleUsersStatReq)
	router.Handle(r.Router, router.Public, r.handleHeartBeat)
}

// handleRoleSet notes whether the message server listens to this route server. One of ours is told
// what this server understands; a C++ message server does not ask, and must not be answered.
func (r *Server) handleRoleSet(s *session.Session, _ uint16, m *pb.IMRoleSet) error {
	of(s).slave.Store(m.GetMaster() == 0)
	if !m.HasFeatures() {
		return nil
	}
	return s.Push(0, pb.IMRoleSet_builder{
		Master:   proto.Uint32(m.GetMaster()),
		Features: proto.Uint32(uint32(pb.ServerFeature_SERVER_FEATURE_RECEIPTS)),
	}.Build())
}

// client is one client in a message server's list.
type client struct {
	kind pb.ClientType
	acks bool
}

// handleOnlineUserInfo takes the list of all clients that a message server holds: what it sends when it has connected.
func (r *Server) handleOnlineUserInfo(s *session.Session, _ uint16, m *pb.IMOnlineUserInfo) error {
	sv := of(s)
	first := !sv.reported
	sv.reported = true
	now := map[uint32][]client{}
	for _, u := range m.GetUserStatList() {
		if u.GetStatus() != pb.UserStatType_USER_STATUS_OFFLINE {
			c := client{u.GetClientType(), u.GetAcks()}
			now[u.GetUserId()] = append(now[u.GetUserId()], c)
		}
	}
	changed := make([]uint32, 0, len(now))
	for user := range sv.users {
		if now[user] == nil {
			changed = append(changed, user)
		}
	}
	for user := range now {
		changed = append(changed, user)
	}
	r.each(changed, func(st *stripe, n *notes, user uint32) {
		r.replace(st, n, sv, user, now[user], first)
	})
	r.log.Info("server reported its users", "role", "route", "conn", s.ID(), "peer", s.Remote(), "users", len(now))
	return nil
}

// replace sets user's clients on sv. With the user's stripe locked.
func (r *Server) replace(st *stripe, n *notes, sv *server, user uint32, clients []client, first bool) {
	c := r.where.Drop(sv.node, user)
	for _, cl := range clients {
		a := r.where.Add(sv.node, user, cl.kind)
		c.PCAfter, c.Online = a.PCAfter, true
		if cl.acks {
			r.where.SetAcks(sv.node, user, cl.kind, true)
		}
	}
	delete(sv.users, user)
	if len(clients) > 0 {
		sv.users[user] = len(clients)
	}
	_, lost := st.lost[user]
	switch {
	case c.PCBefore && !c.PCAfter:
		n.gone(user, c)
	case !c.PCBefore && c.PCAfter:
		delete(st.lost, user)
		if lost || !first {
			n.pc(user, true)
			n.status(user, pb.UserStatType_USER_STATUS_ONLINE)
		}
	}
}

// handleUserStatusUpdate takes one client that came or went, or that acknowledges deliveries from
// now on, or no more.
func (r *Server) handleUserStatusUpdate(s *session.Session, _ uint16, m *pb.IMUserStatusUpdate) error {
	user, client := m.GetUserId(), m.GetClientType()
	if m.HasAcks() {
		r.where.SetAcks(of(s).node, user, client, m.GetAcks())
		return nil
	}
	if m.GetUserStatus() == uint32(pb.UserStatType_USER_STATUS_OFFLINE) {
		return r.leave(of(s), user, client)
	}
	r.arrive(of(s), user, client)
	return nil
}

func (r *Server) arrive(sv *server, user uint32, client pb.ClientType) {
	st := r.stripe(user)
	st.mu.Lock()
	defer st.mu.Unlock()
	sv.users[user]++
	c := r.where.Add(sv.node, user, client)
	var n notes
	if c.PCAfter {
		n.pc(user, true)
	}
	if !client.IsMobile() {
		delete(st.lost, user)
		n.status(user, pb.UserStatType_USER_STATUS_ONLINE)
	}
	r.notify(n)
	for _, kick := range st.arrive(sv.node, user, client) {
		r.send([]*server{sv}, 0, kick)
	}
}

func (r *Server) leave(sv *server, user uint32, client pb.ClientType) error {
	st := r.stripe(user)
	st.mu.Lock()
	defer st.mu.Unlock()
	c, known := r.where.Remove(sv.node, user, client)
	if !known {
		r.metrics.unknown.Inc()
		return im.Errorf(im.NotFound, "client type %d of user %d goes, but was not there", client, user)
	}
	if sv.users[user]--; sv.users[user] == 0 {
		delete(sv.users, user)
	}
	if c.PCBefore && !c.PCAfter {
		var n notes
		n.gone(user, c)
		r.notify(n)
	}
	return nil
}

// lose forgets a server's users.
func (r *Server) lose(sv *server) {
	for i := range r.stripes {
		r.stripes[i].forget(sv.node)
	}
	users := slices.Collect(maps.Keys(sv.users))
	r.each(users, func(st *stripe, n *notes, user uint32) {
		if c := r.where.Drop(sv.node, user); c.PCBefore && !c.PCAfter {
			st.lost[user] = struct{}{}
			n.gone(user, c)
		}
	})
	clear(sv.users)
}

// each calls f for many users, with the user's stripe locked, and pushes what f notes. Users of a stripe are taken together: a message server
// that takes tens of thousands of users with it must not fill the mailboxes of the others with as many notes.
func (r *Server) each(users []uint32, f func(st *stripe, n *notes, user uint32)) {
	var groups [len(r.stripes)][]uint32
	for _, user := range users {
		i := user % uint32(len(groups))
		groups[i] = append(groups[i], user)
	}
	for i, group := range groups {
		if len(group) == 0 {
			continue
		}
		st := &r.stripes[i]
		st.mu.Lock()
		var n notes
		for _, user := range group {
			f(st, &n, user)
		}
		r.notify(n)
		st.mu.Unlock()
	}
}

// notes are the notifies that one change, or many at once, lead to.
type notes []pb.Message

// gone notes that user's last pc client went.
func (n *notes) gone(user uint32, c Change) {
	if c.Online { // only phones are left to hear it
		n.pc(user, false)
	}
	n.status(user, pb.UserStatType_USER_STATUS_OFFLINE)
}

// pc notes, for the user's phones, whether a pc is online.
func (n *notes) pc(user uint32, online bool) {
	status := uint32(0)
	if online {
		status = 1
	}
	*n = append(*n, pb.IMServerPCLoginStatusNotify_builder{UserId: proto.Uint32(user), LoginStatus: proto.Uint32(status)}.Build())
}

// status notes, for everybody's pc clients, whether user is online.
func (n *notes) status(user uint32, status pb.UserStatType) {
	*n = append(*n, pb.IMUserStatNotify_builder{
		UserStat: pb.UserStat_builder{UserId: proto.Uint32(user), Status: status.Enum()}.Build(),
	}.Build())
}

// notify tells message servers. With the stripe of the users concerned locked.
func (r *Server) notify(n notes) {
	if len(n) == 0 {
		return
	}
	to := r.masters()
	r.metrics.notifies.Add(float64(len(to) * len(n)))
	r.send(to, 0, n...)
}

// scopeOf is the scope of a question about presence, 0 without one that this server knows.
func scopeOf(m *pb.IMUsersStatReq) pb.DeviceScope {
	if _, known := pb.DeviceScope_name[int32(m.GetScope())]; known && m.HasScope() {
		return m.GetScope()
	}
	return 0
}

// filterOf is what a question about presence counts. As in the first implementation a user is
// online when a pc client is, unless the question says otherwise.
func filterOf(s *session.Session, m *pb.IMUsersStatReq) Filter {
	scope := scopeOf(m)
	f := Filter{PC: !m.HasSameClass() && scope == 0}
	// A message server asks in these two ways about clients elsewhere: about rivals of one that logs
	// in there, and for a receiver's device to wait for. It knows its own, and sooner than this server.
	if m.HasSameClass() {
		f.SameClass, f.Class, f.Except = true, m.GetSameClass(), Node(s.ID())
	}
	if scope == pb.DeviceScope_DEVICE_SCOPE_ACKS {
		f.Acks, f.Except = true, Node(s.ID())
	}
	return f
}

// handleUsersStatReq answers who is online, in the order asked.
func (r *Server) handleUsersStatReq(s *session.Session, seq uint16, m *pb.IMUsersStatReq) error {
	f := filterOf(s, m)
	list := make([]*pb.UserStat, 0, len(m.GetUserIdList()))
	for _, user := range m.GetUserIdList() {
		status := pb.UserStatType_USER_STATUS_OFFLINE
		if r.where.Online(user, f) {
			status = pb.UserStatType_USER_STATUS_ONLINE
		}
		list = append(list, pb.UserStat_builder{UserId: proto.Uint32(user), Status: status.Enum()}.Build())
	}
	rsp := pb.IMUsersStatRsp_builder{UserId: proto.Uint32(m.GetUserId()), UserStatList: list}.Build()
	rsp.SetAttachData(m.GetAttachData())
	if scope := scopeOf(m); scope != 0 {
		rsp.SetScope(scope)
	}
	// Push, not Send: the answer stays behind the notifies of what the same server said before it asked.
	return s.Push(seq, rsp)
}
