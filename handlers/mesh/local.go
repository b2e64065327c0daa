package mesh

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/handlers/mesh/marks"
	"teamtalk/proto/pb"
)

// features are what the local message server may use, as with a route server.
const features = uint32(pb.ServerFeature_SERVER_FEATURE_RECEIPTS |
	pb.ServerFeature_SERVER_FEATURE_REPEATS |
	pb.ServerFeature_SERVER_FEATURE_RESENT |
	pb.ServerFeature_SERVER_FEATURE_KICKS |
	pb.ServerFeature_SERVER_FEATURE_FILES)

// local handles the link of the message server of this process.
type local struct {
	*router.Router[*session.Link]
	s *Server
}

func newLocal(s *Server) *local {
	l := &local{s: s, Router: router.New[*session.Link](router.Options{Role: "mesh_local",
		Log: s.opt.Log, Registerer: s.opt.Registerer})}
	router.Handle(l.Router, router.Public, router.Ignore[*pb.IMHeartBeat])
	router.Handle(l.Router, router.Public, l.handleRoleSet)
	router.Handle(l.Router, router.Public, s.handleOnlineUserInfo)
	router.Handle(l.Router, router.Public, s.handleUserStatusUpdate)
	router.Handle(l.Router, router.Public, l.handleUsersStatReq)
	router.Handle(l.Router, router.Public, s.handleLocalKick)
	s.handleForwards(l.Router)
	return l
}

// Open takes the link.
func (l *local) Open(link *session.Link) error {
	link.Data = &end{link: link, local: true}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.here, l.s.lookups.told = link, false
	return nil
}

// Close forgets the link, and takes the users offline.
func (l *local) Close(link *session.Link, _ error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.here != link {
		return
	}
	l.s.here, l.s.parts = nil, nil
	for _, id := range slices.Sorted(maps.Keys(l.s.users)) {
		if u := l.s.users[id]; len(u.devices) > 0 {
			u.devices = nil
			l.s.writer.changed(u)
		}
	}
}

// handleRoleSet answers with the features of this server. A group that was made here is marked for
// its members, so that its first text reaches their message servers alone.
func (l *local) handleRoleSet(link *session.Link, _ uint16, m *pb.IMRoleSet) error {
	for _, group := range m.GetMadeGroups() {
		if group != marks.Everything {
			l.s.groups.index.Mend(group)
		}
	}
	if !m.HasFeatures() {
		return nil
	}
	return link.Send(0, pb.IMRoleSet_builder{Master: proto.Uint32(m.GetMaster()),
		Features: proto.Uint32(features)}.Build())
}

// handleOnlineUserInfo replaces the clients of the message server by the list that it sends after
// it has connected, and when this server has missed an update.
func (s *Server) handleOnlineUserInfo(_ *session.Link, _ uint16, m *pb.IMOnlineUserInfo) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.parts
	s.parts = nil
	if m.GetOffset() == 0 {
		before = nil
	}
	list := append(before, m.GetUserStatList()...)
	total := max(int(m.GetTotal()), len(m.GetUserStatList()))
	if int(m.GetOffset()) != len(before) || len(list) > total {
		return im.Errorf(im.Malformed, "a part of a list at %d, after %d clients", m.GetOffset(),
			len(before))
	}
	if len(list) < total {
		s.parts = list
		return nil
	}
	now := map[uint32][]device{}
	for _, u := range list {
		if u.GetStatus() != pb.UserStatType_USER_STATUS_OFFLINE {
			now[u.GetUserId()] = add(now[u.GetUserId()], u)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.users)) {
		if u := s.users[id]; now[id] == nil && len(u.devices) > 0 {
			s.replace(u, nil)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(now)) {
		s.replace(s.user(id), now[id])
	}
	return nil
}

// add adds a client of a list to the devices of its user.
func add(devices []device, c *pb.ServerUserStat) []device {
	for i := range devices {
		if d := &devices[i]; d.client == c.GetClientType() {
			d.count++
			d.acks = d.acks || c.GetAcks()
			return devices
		}
	}
	return append(devices, device{client: c.GetClientType(), count: 1, acks: c.GetAcks()})
}

// handleUserStatusUpdate records a client that connected or disconnected, a login that was given
// up, or a change of whether the clients of a type acknowledge deliveries.
func (s *Server) handleUserStatusUpdate(_ *session.Link, _ uint16,
	m *pb.IMUserStatusUpdate) error {
	id, client := m.GetUserId(), m.GetClientType()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case m.GetComes():
		if u := s.users[id]; u != nil {
			if c := u.oldest(client); c != nil {
				s.giveUp(c)
			}
		}
	case m.HasAcks():
		if u := s.users[id]; u != nil {
			if d := u.find(client); d != nil && d.acks != m.GetAcks() {
				d.acks = m.GetAcks()
				s.writer.changed(u)
			}
		}
	case m.GetUserStatus() == uint32(pb.UserStatType_USER_STATUS_OFFLINE):
		return s.leave(id, client)
	default:
		s.arrive(id, client)
	}
	return nil
}

// handleUsersStatReq answers the local message server: see Server.answerStat. A login is answered
// when the other message servers can know of it.
func (l *local) handleUsersStatReq(link *session.Link, seq uint16, m *pb.IMUsersStatReq) error {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if !m.HasComes() {
		s.askStat(link, seq, m)
		return nil
	}
	if len(m.GetUserIdList()) != 1 {
		return im.Errorf(im.Invalid, "a login of %d users", len(m.GetUserIdList()))
	}
	s.comes(m.GetUserIdList()[0], m.GetComes(), func(others []whereabouts.Entry, err error) {
		if err != nil {
			refuse(link, seq, m, err)
			return
		}
		answerStat(link, seq, m, []bool{filterOf(m, true).online(nil, others)})
	})
	return nil
}
