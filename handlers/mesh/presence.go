package mesh

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/recent"
	"teamtalk/core/whereabouts"
	"teamtalk/handlers/mesh/elsewhere"
	"teamtalk/handlers/mesh/outgoing"
	"teamtalk/proto/pb"
)

// All message servers receive the notifies that package handlers/route describes. The message
// server on which a user changes announces the change, as it learns from the store what the others
// have. Changes of one user may overtake each other on their way from two message servers, so each
// has a version, and one that is older than another of its kind is dropped.

// presence is what this mesh knows of the presence of users. With Server.mu held.
type presence struct {
	*Server
	seen recent.Map[subject, uint64] // the version of the latest change
	// elsewhere are the users that have a PC on another message server, as far as the clients
	// here were told.
	elsewhere elsewhere.Map
	owed      []leftUser // to be looked at
}

// leftUser is a user that had a PC on a message server that has ended, or that may have missed to
// tell of a change.
type leftUser struct {
	user uint32
	node whereabouts.Node
	due  time.Time // when it is looked at
	lost bool      // the message server may run
}

// forget forgets the versions of changes.
func (s *presence) forget() {
	s.seen = recent.Map[subject, uint64]{Age: versionsKept, Max: maxVersions}
}

// isNews reports whether a change of another message server is later than all that were seen, and
// records it. One that is sent again is no news.
func (s *presence) isNews(key subject, version uint64) bool {
	if last, _ := s.seen.Get(key); last >= version {
		s.metrics.late.Inc()
		return false
	}
	s.seen.Put(key, version, s.opt.Now())
	return true
}

// setElsewhere records that a user has a PC on a node; one without a name: on none. told says that
// all clients here are told. If clients are not told of users, only the phones here are.
func (s *presence) setElsewhere(user uint32, node whereabouts.Node, told bool) {
	if node.Name == "" || s.opt.NoStatuses && s.users[user] == nil {
		s.elsewhere.Remove(user)
	} else if !s.elsewhere.Set(user, node, told) {
		s.metrics.drops.WithLabelValues("presence_full").Inc()
	}
}

// settled takes where a user is besides, after a write of its devices here.
func (s *presence) settled(u *user, devices []whereabouts.Device, others []whereabouts.Entry) {
	u.pcElsewhere = false
	u.phoneElsewhere = slices.ContainsFunc(others, whereabouts.Entry.HasPhone)
	if i := slices.IndexFunc(others, whereabouts.Entry.HasPC); i >= 0 {
		u.pcElsewhere = true
		s.setElsewhere(u.id, others[i].Node, false)
	}
	if s.opt.NoStatuses && len(devices) == 0 {
		s.elsewhere.Remove(u.id)
	}
}

// statusOfUser returns the change that tells all PC clients whether a user is online.
func statusOfUser(user uint32, status pb.UserStatType) *pb.UserChange {
	return pb.UserChange_builder{UserId: proto.Uint32(user), Status: status.Enum()}.Build()
}

// pcOfUser returns the change that tells a user's phones whether a PC is online.
func pcOfUser(user uint32, online bool) *pb.UserChange {
	return pb.UserChange_builder{UserId: proto.Uint32(user), PcOnline: proto.Bool(online)}.Build()
}

// announceArrived announces the clients that arrived, once the store has them.
func (s *presence) announceArrived(u *user) {
	if u.pending == nil || len(u.arrived) == 0 {
		return
	}
	var list []*pb.UserChange
	pc := u.hasPC()
	if pc || u.pcElsewhere {
		list = append(list, pcOfUser(u.id, true))
	}
	for _, client := range u.arrived {
		if !client.IsMobile() && pc {
			list = append(list, statusOfUser(u.id, pb.UserStatType_USER_STATUS_ONLINE))
			break
		}
	}
	u.arrived = nil
	s.status.announce(u, list...)
}

// announceGone announces that no PC of a user is left. rest says that a phone is.
func (s *presence) announceGone(u *user, rest bool) {
	var list []*pb.UserChange
	if rest {
		list = append(list, pcOfUser(u.id, false))
	}
	s.status.announce(u,
		append(list, statusOfUser(u.id, pb.UserStatType_USER_STATUS_OFFLINE))...)
}

// announce tells all message servers of changes of a user here.
func (s *presence) announce(u *user, list ...*pb.UserChange) {
	for _, c := range list {
		key := subjectOf(c)
		if last, _ := s.seen.Get(key); last > u.version {
			continue // the user has changed on another message server meanwhile
		}
		s.seen.Put(key, u.version, s.opt.Now())
		c.SetVersion(u.version)
		s.toLocal(pb.IMUserChangesNotify_builder{Changes: []*pb.UserChange{c}}.Build())
		if s.tells(u, c) {
			s.changes.add(c)
		}
	}
}

// tells reports whether other message servers need a change of a user here. If clients are not
// told of users, the phones elsewhere are, and the message servers that wait for acks of a PC that
// leaves.
func (s *presence) tells(u *user, c *pb.UserChange) bool {
	return !s.opt.NoStatuses || u.phoneElsewhere ||
		c.GetStatus() == pb.UserStatType_USER_STATUS_OFFLINE && c.HasStatus()
}

// here returns the changes that tell which users have a PC here.
func (s *presence) here() (list []*pb.UserChange) {
	for _, u := range s.users {
		if !u.pcSaved || !u.hasPC() {
			continue
		}
		own := []*pb.UserChange{statusOfUser(u.id, pb.UserStatType_USER_STATUS_ONLINE)}
		if u.phoneElsewhere {
			own = append(own, pcOfUser(u.id, true))
		}
		for _, c := range own {
			if c.SetVersion(u.version); s.tells(u, c) {
				list = append(list, c)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b *pb.UserChange) int {
		return cmp.Compare(a.GetUserId(), b.GetUserId())
	})
	return list
}

// takeStatus takes a change of another message server: the last PC of a user left, or one came. It
// reports whether this is news. One that is sent again is no news when it is known, however long
// ago it came.
func (s *presence) takeStatus(node whereabouts.Node, c *pb.UserChange, again bool) bool {
	user := c.GetUserId()
	comes := c.GetStatus() != pb.UserStatType_USER_STATUS_OFFLINE
	if !s.isNews(subjectOf(c), c.GetVersion()) {
		return false
	}
	if !comes {
		node = whereabouts.Node{}
	}
	was, told := s.elsewhere.Get(user)
	s.setElsewhere(user, node, true)
	if comes && s.known.Ended(node) && len(s.owed) < elsewhere.Max {
		// It leaves, or it is back and not in the list yet.
		s.owed = append(s.owed, leftUser{user: user, node: node,
			due: s.opt.Now().Add(outgoing.WaitLasts)})
	}
	return !again || was != node || !told
}

// errNoMesh is the error of a message that only other meshes may send.
func errNoMesh(m pb.Message) error {
	return im.Errorf(im.Denied, "%s of a server that has not introduced itself as a message server",
		m.Command())
}

// leftBehind makes the users of a message server that has ended be looked at. The caller holds
// s.mu.
func (s *presence) leftBehind(node whereabouts.Node) {
	for _, user := range s.elsewhere.At(node) {
		s.owed = append(s.owed, leftUser{user: user, node: node, due: s.opt.Now()})
	}
}

// doubt makes the users of a message server that runs be looked at, since changes that it sent may
// be lost. The caller holds s.mu.
func (s *presence) doubt(node whereabouts.Node) {
	for _, user := range s.elsewhere.At(node) {
		if len(s.owed) < elsewhere.Max {
			s.owed = append(s.owed, leftUser{user, node, s.opt.Now(), true})
		}
	}
}

// owedAtOnce is how many users of message servers that have ended are looked at at a time.
const owedAtOnce = 2048

// askOwed looks whether users of message servers that have ended, or whose changes may be lost, are
// elsewhere now. Those that are not go offline for the clients here.
func (s *presence) askOwed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list, later []leftUser
	var users []uint32
	var versions []uint64
	now := s.opt.Now()
	for _, left := range s.owed {
		switch {
		case len(list) == owedAtOnce || now.Before(left.due):
			later = append(later, left)
		case left.lost || s.known.Ended(left.node):
			version, _ := s.seen.Get(subject{left.user, statusChange})
			list, users = append(list, left), append(users, left.user)
			versions = append(versions, version)
		}
	}
	if s.owed = later; len(list) == 0 {
		return
	}
	asked := s.lookups.lookup(lookup{users: users,
		then: func(find func(uint32) ([]whereabouts.Entry, error)) {
			for i, left := range list {
				entries, err := find(left.user)
				version, _ := s.seen.Get(subject{left.user, statusChange})
				at, _ := s.elsewhere.Get(left.user)
				switch {
				case err != nil:
					s.owed = append(s.owed, left)
				case at != left.node, left.lost && version != versions[i]:
					// there is later news
				default:
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
	if i := slices.IndexFunc(entries, whereabouts.Entry.HasPC); i >= 0 {
		s.setElsewhere(user, entries[i].Node, false)
		return
	}
	s.elsewhere.Remove(user)
	if u != nil && u.hasPC() {
		return
	}
	if u != nil {
		u.pcElsewhere = false
	}
	var list []*pb.UserChange
	if u != nil && len(u.devices) > 0 || len(entries) > 0 {
		list = append(list, pcOfUser(user, false))
	}
	list = append(list, statusOfUser(user, pb.UserStatType_USER_STATUS_OFFLINE))
	s.toLocal(pb.IMUserChangesNotify_builder{Changes: list}.Build())
}
