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

// handlePresence registers the commands that report or ask which users are online.
func (r *Server) handlePresence() {
	router.Handle(r.Router, router.Public, r.handleRoleSet)
	router.Handle(r.Router, router.Public, r.handleOnlineUserInfo)
	router.Handle(r.Router, router.Public, r.handleUserStatusUpdate)
	router.Handle(r.Router, router.Public, r.handleUsersStatReq)
	router.Handle(r.Router, router.Public, r.handleHeartBeat)
}

// features are the features of this server.
const features = uint32(pb.ServerFeature_SERVER_FEATURE_RECEIPTS |
	pb.ServerFeature_SERVER_FEATURE_REPEATS |
	pb.ServerFeature_SERVER_FEATURE_RESENT |
	pb.ServerFeature_SERVER_FEATURE_KICKS |
	pb.ServerFeature_SERVER_FEATURE_FILES)

// handleRoleSet records whether the message server takes presence from this route server.
// A message server of ours sends its features and receives this server's. A C++ message
// server sends none and must not receive an answer.
func (r *Server) handleRoleSet(s *session.Link, _ uint16, m *pb.IMRoleSet) error {
	of(s).slave.Store(m.GetMaster() == 0)
	s.SetName(m.GetPeer())
	if !m.HasFeatures() {
		return nil
	}
	of(s).repeats.Store(m.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_REPEATS) != 0)
	of(s).resent.Store(m.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_RESENT) != 0)
	of(s).files.Store(m.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_FILES) != 0)
	of(s).missed = m.GetMissed()
	return s.Send(0, pb.IMRoleSet_builder{
		Master:   proto.Uint32(m.GetMaster()),
		Features: proto.Uint32(features),
	}.Build())
}

// client is one client in the list of a message server.
type client struct {
	kind pb.ClientType
	acks bool
}

// handleOnlineUserInfo replaces the clients of a message server by the list that it sends
// after it has connected.
func (r *Server) handleOnlineUserInfo(s *session.Link, _ uint16, m *pb.IMOnlineUserInfo) error {
	sv := of(s)
	list, whole, err := sv.listed(m)
	if err != nil || !whole {
		return err
	}
	first := !sv.reported
	sv.reported = true
	now := map[uint32][]client{}
	for _, u := range list {
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
	r.tellMissed(sv)
	s.Log(r.log, "server reported its users", "role", "route", "users", len(now))
	return nil
}

// listed returns the list of clients that ends with m. whole is false when more parts of it
// follow.
func (sv *server) listed(m *pb.IMOnlineUserInfo) (list []*pb.ServerUserStat, whole bool,
	err error) {
	before := sv.parts
	sv.parts = nil
	if m.GetOffset() == 0 {
		before = nil // of a list that its sender did not finish
	}
	total := max(int(m.GetTotal()), len(m.GetUserStatList()))
	list = append(before, m.GetUserStatList()...)
	switch {
	case int(m.GetOffset()) != len(before) || len(list) > total:
		return nil, false, im.Errorf(im.Malformed,
			"clients from %d to %d of a list of %d, after %d of them", m.GetOffset(),
			int(m.GetOffset())+len(m.GetUserStatList()), m.GetTotal(), len(before))
	case len(list) < total:
		sv.parts = list
		return nil, false, nil
	}
	return list, true, nil
}

// replace sets user's clients on sv. The caller holds the lock of user's stripe.
func (r *Server) replace(st *stripe, n *notes, sv *server, user uint32, clients []client,
	first bool) {
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

// handleUserStatusUpdate records a client that connected or disconnected, or a change of
// whether a client acknowledges deliveries.
func (r *Server) handleUserStatusUpdate(s *session.Link, _ uint16,
	m *pb.IMUserStatusUpdate) error {
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

// arrive records a client that connected, and sends the notifies and the kicks of later
// logins.
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
	r.notify(st, n)
	for _, kick := range st.arrive(sv.node, user, client) {
		r.send([]*server{sv}, 0, kick)
	}
}

// leave records a client that disconnected. It fails when the client was not known.
func (r *Server) leave(sv *server, user uint32, client pb.ClientType) error {
	st := r.stripe(user)
	st.mu.Lock()
	defer st.mu.Unlock()
	c, known := r.where.Remove(sv.node, user, client)
	if !known {
		r.metrics.unknown.Inc()
		return im.Errorf(im.NotFound, "client type %d of user %d disconnected, but was not known",
			client, user)
	}
	if sv.users[user]--; sv.users[user] == 0 {
		delete(sv.users, user)
	}
	if c.PCBefore && !c.PCAfter {
		var n notes
		n.gone(user, c)
		r.notify(st, n)
	}
	return nil
}

// lose takes the users of a server offline.
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

// each calls f for each of many users, with the user's stripe locked, and pushes the
// notifies that f adds. The notifies of a stripe's users are pushed together: a lost
// message server with tens of thousands of users must not fill the mailboxes of the other
// servers with as many pushes.
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
		r.notify(st, n)
		st.mu.Unlock()
	}
}

// notes collects the notifies of one change, or of many changes that are pushed together.
type notes []pb.Message

// gone adds the notifies for user's last pc client, which disconnected.
func (n *notes) gone(user uint32, c Change) {
	if c.Online { // only phones are left, and they show whether a pc is online
		n.pc(user, false)
	}
	n.status(user, pb.UserStatType_USER_STATUS_OFFLINE)
}

// pc adds the notify that tells user's phones whether a pc is online.
func (n *notes) pc(user uint32, online bool) {
	status := uint32(0)
	if online {
		status = 1
	}
	*n = append(*n, pb.IMServerPCLoginStatusNotify_builder{UserId: proto.Uint32(user),
		LoginStatus: proto.Uint32(status)}.Build())
}

// status adds the notify that tells all pc clients whether user is online.
func (n *notes) status(user uint32, status pb.UserStatType) {
	*n = append(*n, pb.IMUserStatNotify_builder{
		UserStat: pb.UserStat_builder{UserId: proto.Uint32(user), Status: status.Enum()}.Build(),
	}.Build())
}

// notify pushes n to the message servers. The caller holds st, the stripe of the users
// concerned.
func (r *Server) notify(st *stripe, n notes) {
	if len(n) == 0 {
		return
	}
	r.metrics.forgotten.Add(float64(st.note(n, r.opt.Now())))
	to := r.masters()
	r.metrics.notifies.Add(float64(len(to) * len(n)))
	r.send(to, 0, n...)
}

// scopeOf returns the device scope of a presence request; 0 when it has none that this
// server knows.
func scopeOf(m *pb.IMUsersStatReq) pb.DeviceScope {
	if _, known := pb.DeviceScope_name[int32(m.GetScope())]; known && m.HasScope() {
		return m.GetScope()
	}
	return 0
}

// filterOf returns the clients that a presence request counts. A user is online when a pc
// client is, as in the first implementation, unless the request has a scope or a class.
func filterOf(s *session.Link, m *pb.IMUsersStatReq) Filter {
	scope := scopeOf(m)
	f := Filter{PC: !m.HasSameClass() && scope == 0}
	// A message server asks in these two ways about clients on other servers: rivals of a
	// client that logs in, and receivers' devices whose acks it should wait for. It knows
	// its own clients itself, and earlier than this server.
	if m.HasSameClass() {
		f.SameClass, f.Class, f.Except = true, m.GetSameClass(), Node(s.ID())
	}
	if scope == pb.DeviceScope_DEVICE_SCOPE_ACKS {
		f.Acks, f.Except = true, Node(s.ID())
	}
	return f
}

// handleUsersStatReq answers whether each of the users is online, in the order of the
// request.
func (r *Server) handleUsersStatReq(s *session.Link, seq uint16, m *pb.IMUsersStatReq) error {
	f := filterOf(s, m)
	list := make([]*pb.UserStat, 0, len(m.GetUserIdList()))
	for _, user := range m.GetUserIdList() {
		status := pb.UserStatType_USER_STATUS_OFFLINE
		if r.where.Online(user, f) {
			status = pb.UserStatType_USER_STATUS_ONLINE
		}
		list = append(list, pb.UserStat_builder{UserId: proto.Uint32(user),
			Status: status.Enum()}.Build())
	}
	rsp := pb.IMUsersStatRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		UserStatList: list}.Build()
	rsp.SetAttachData(m.GetAttachData())
	if scope := scopeOf(m); scope != 0 {
		rsp.SetScope(scope)
	}
	// The answer must follow the notifies of earlier changes that the same server reported.
	// Send keeps that order.
	return s.Send(seq, rsp)
}
