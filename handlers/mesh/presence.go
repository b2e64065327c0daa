package mesh

import (
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/recent"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

// All message servers receive the notifies that package handlers/route describes. The message
// server on which a user changes announces the change, as it learns from the store what the others
// have. Notifies of one user may overtake each other on their way from two message servers, so each
// has the version of its change, and one that is older than another is dropped.

// presence is what this mesh knows of the presence of users. With Server.mu held.
type presence struct {
	*Server
	seen recent.Map[noteKey, uint64] // the version of the latest notify
	// elsewhere are the users that have a PC on another message server, as far as the clients
	// here were told.
	elsewhere map[uint32]whereabouts.Node
	owed      []leftUser // to be looked at
}

// noteKey names what notifies tell: the status of a user, or whether the user's phones show a PC. A
// phone that comes elsewhere is later news for the phones alone.
type noteKey struct {
	user uint32
	pc   bool
}

// leftUser is a user that had a PC on a message server that has ended.
type leftUser struct {
	user uint32
	node whereabouts.Node
	due  time.Time // when it is looked at
}

// forget forgets the versions of notifies.
func (s *presence) forget() {
	s.seen = recent.Map[noteKey, uint64]{Age: versionsKept, Max: maxVersions}
}

// isNews reports whether a notify of another message server is later than all that were seen, and
// records it. One that is sent again is no news.
func (s *presence) isNews(key noteKey, version uint64) bool {
	if last, _ := s.seen.Get(key); last >= version {
		s.metrics.late.Inc()
		return false
	}
	s.seen.Put(key, version, s.opt.Now())
	return true
}

// setElsewhere records that the clients here are told that a user has a PC on a node; one without a
// name: on none.
func (s *presence) setElsewhere(user uint32, node whereabouts.Node) {
	_, known := s.elsewhere[user]
	switch {
	case node.Name == "":
		delete(s.elsewhere, user)
	case !known && len(s.elsewhere) >= maxElsewhere:
		s.metrics.drops.WithLabelValues("presence_full").Inc()
	default:
		s.elsewhere[user] = node
	}
}

// statusNote returns the notify that tells all PC clients whether a user is online.
func statusNote(user uint32, status pb.UserStatType) *pb.IMUserStatNotify {
	return pb.IMUserStatNotify_builder{UserStat: pb.UserStat_builder{UserId: proto.Uint32(user),
		Status: status.Enum()}.Build()}.Build()
}

// pcNote returns the notify that tells a user's phones whether a PC is online.
func pcNote(user uint32, online bool) *pb.IMServerPCLoginStatusNotify {
	status := uint32(0)
	if online {
		status = 1
	}
	return pb.IMServerPCLoginStatusNotify_builder{UserId: proto.Uint32(user),
		LoginStatus: proto.Uint32(status)}.Build()
}

// announceArrived announces the clients that arrived, once the store has them.
func (s *presence) announceArrived(u *user) {
	if u.pending == nil || len(u.arrived) == 0 {
		return
	}
	var notes []pb.Message
	pc := u.hasPC()
	if pc || u.pcElsewhere {
		notes = append(notes, pcNote(u.id, true))
	}
	for _, client := range u.arrived {
		if !client.IsMobile() && pc {
			notes = append(notes, statusNote(u.id, pb.UserStatType_USER_STATUS_ONLINE))
			break
		}
	}
	u.arrived = nil
	s.status.announce(u.id, u.version, notes...)
}

// announceGone announces that no PC of a user is left. rest says that a phone is.
func (s *presence) announceGone(u *user, rest bool) {
	var notes []pb.Message
	if rest {
		notes = append(notes, pcNote(u.id, false))
	}
	s.status.announce(u.id, u.version,
		append(notes, statusNote(u.id, pb.UserStatType_USER_STATUS_OFFLINE))...)
}

// announce sends notifies of a user here to all message servers.
func (s *presence) announce(user uint32, version uint64, notes ...pb.Message) {
	for _, m := range notes {
		key := noteKey{user: user}
		var out pb.Message
		switch m := m.(type) {
		case *pb.IMUserStatNotify:
			c := proto.CloneOf(m)
			c.SetVersion(version)
			out = c
		case *pb.IMServerPCLoginStatusNotify:
			c := proto.CloneOf(m)
			c.SetVersion(version)
			key.pc, out = true, c
		}
		if last, _ := s.seen.Get(key); last > version {
			continue // the user has changed on another message server meanwhile
		}
		s.seen.Put(key, version, s.opt.Now())
		s.toLocal(m)
		s.links.spread(out)
	}
}

// handleStatus takes the news of another message server that the last PC of a user left, or that
// one came.
func (s *presence) handleStatus(l *session.Link, _ uint16, m *pb.IMUserStatNotify) error {
	node := of(l).node
	if node.Name == "" {
		return errNoMesh(m)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	user := m.GetUserStat().GetUserId()
	comes := m.GetUserStat().GetStatus() != pb.UserStatType_USER_STATUS_OFFLINE
	if !s.isNews(noteKey{user: user}, m.GetVersion()) {
		return nil
	}
	if !comes {
		node = whereabouts.Node{}
	}
	s.setElsewhere(user, node)
	if comes && s.known.Ended(node) && len(s.owed) < maxElsewhere {
		// It leaves, or it is back and not in the list yet.
		s.owed = append(s.owed, leftUser{user, node, s.opt.Now().Add(waitLasts)})
	}
	m.ClearVersion()
	s.toLocal(m)
	return nil
}

// handlePCStatus takes the news of another message server for the phones of a user.
func (s *presence) handlePCStatus(l *session.Link, _ uint16,
	m *pb.IMServerPCLoginStatusNotify) error {
	if of(l).node.Name == "" {
		return errNoMesh(m)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isNews(noteKey{m.GetUserId(), true}, m.GetVersion()) {
		m.ClearVersion()
		s.toLocal(m)
	}
	return nil
}

// errNoMesh is the error of a message that only other meshes may send.
func errNoMesh(m pb.Message) error {
	return im.Errorf(im.Denied, "%s of a server that has not introduced itself as a message server",
		m.Command())
}

// leftBehind makes the users of a message server that has ended be looked at. The caller holds
// s.mu.
func (s *presence) leftBehind(node whereabouts.Node) {
	for user, n := range s.elsewhere {
		if n == node {
			s.owed = append(s.owed, leftUser{user, node, s.opt.Now()})
		}
	}
}

// owedAtOnce is how many users of message servers that have ended are looked at at a time.
const owedAtOnce = 2048

// askOwed looks whether users of message servers that have ended are elsewhere now. Those that are
// not go offline for the clients here.
func (s *presence) askOwed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list, later []leftUser
	var users []uint32
	now := s.opt.Now()
	for _, left := range s.owed {
		switch {
		case len(list) == owedAtOnce || now.Before(left.due):
			later = append(later, left)
		case s.known.Ended(left.node):
			list, users = append(list, left), append(users, left.user)
		}
	}
	if s.owed = later; len(list) == 0 {
		return
	}
	asked := s.lookups.lookup(lookup{users: users,
		then: func(find func(uint32) ([]whereabouts.Entry, error)) {
			for _, left := range list {
				entries, err := find(left.user)
				if err != nil {
					s.owed = append(s.owed, left)
				} else if s.elsewhere[left.user] == left.node { // no later news
					s.gone(left.user, entries)
				}
			}
		}})
	if !asked {
		s.owed = append(s.owed, list...)
	}
}

// gone tells the clients here that a user has no PC, unless one of the entries has.
func (s *presence) gone(user uint32, entries []whereabouts.Entry) {
	u := s.users[user]
	for _, e := range entries {
		if e.HasPC() {
			s.setElsewhere(user, e.Node)
			return
		}
	}
	s.setElsewhere(user, whereabouts.Node{})
	if u != nil && u.hasPC() {
		return
	}
	if u != nil {
		u.pcElsewhere = false
	}
	if u != nil && len(u.devices) > 0 || len(entries) > 0 {
		s.toLocal(pcNote(user, false))
	}
	s.toLocal(statusNote(user, pb.UserStatType_USER_STATUS_OFFLINE))
}
