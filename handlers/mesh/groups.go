package mesh

import (
	"context"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/handlers/mesh/marks"
	"teamtalk/handlers/mesh/outgoing"
	"teamtalk/proto/pb"
)

// groups sends what concerns a group to the message servers that have a member. With Server.mu
// held.
type groups struct {
	*Server
	index *marks.Index // has a lock of its own
	// forwards counts messages by where they were sent, and saved the frames that were not sent.
	forwards *prometheus.CounterVec
	saved    prometheus.Counter
}

// newGroups makes the groups of a mesh.
func newGroups(s *Server) groups {
	o := &s.opt
	g := groups{Server: s, index: marks.New(marks.Options{Store: o.Store, Self: s.self,
		Ended: s.groups.hasEnded, Begun: s.groups.begun,
		Written: func() { wake(s.writer.wake) }, Timeout: o.StoreTimeout,
		ListWait: o.GroupWait, Linger: o.GroupLinger, Now: o.Now,
		Turn: o.Turn, Log: s.log, Registerer: o.Registerer}),
		forwards: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_mesh_group_forwards_total",
			Help: "Texts of groups and changes of members forwarded, by where to: marked (the " +
				"message servers with a member), or all message servers, because: unsettled (the " +
				"marks are of an earlier version of the group than the message), no_version (the " +
				"message has none), unreadable (the store fails)."}, []string{"to"}),
		saved: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_mesh_group_frames_saved_total",
			Help: "Frames that were not sent because no member of the group is on the message " +
				"server."})}
	if o.Registerer != nil {
		o.Registerer.MustRegister(g.forwards, g.saved)
	}
	return g
}

// await answers a login when the groups of its user are marked. The caller holds s.mu.
func (s *groups) await(c *coming) {
	tell := func() {
		if !c.told && !c.ended {
			c.told = true
			c.done(c.others, nil)
		}
	}
	if s.groups.index.Come(c.user.id, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		tell()
	}) {
		tell()
	}
}

// hasEnded reports whether the process of a node has ended.
func (s *groups) hasEnded(n whereabouts.Node) bool {
	self := s.self()
	s.mu.Lock()
	defer s.mu.Unlock()
	return n != self && s.known.Ended(n)
}

// maxBegun is how many groups the message server is told of in one message.
const maxBegun = 4096

// begun tells the message server that it gets everything of groups from now on.
func (s *groups) begun(groups []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(groups) > 0 {
		n := min(len(groups), maxBegun)
		m := &pb.IMRoleSet{}
		m.SetMaster(0)
		m.SetBegunGroups(groups[:n])
		s.toLocal(m)
		groups = groups[n:]
	}
}

// change is a change of the members of a group.
type change struct {
	group, version uint32
	added          []uint32
}

// text forwards a text of a group to the message servers that have a member, after those that
// wait for their turn.
func (s *groups) text(from *end, m *pb.MsgData) {
	if from.node.Name != "" {
		s.groups.index.Heard(m.ToSessionID)
		s.metrics.received.WithLabelValues(m.Command().String()).Inc()
		s.toLocal(m)
		return
	}
	q := lookup{size: outgoing.SizeOf(m)}
	q.thenGroup = func(*answers, whereabouts.Group) { s.groups.flood(from.local, m, "no_version") }
	if m.HasGroupVersion && m.GroupVersion != 0 && m.ToSessionID != marks.Everything {
		q.group = m.ToSessionID
		q.thenGroup = func(a *answers, g whereabouts.Group) {
			s.groups.send(from.local, change{group: q.group, version: m.GroupVersion}, nil, a, g, m)
		}
	}
	if !s.lookups.lookup(q) {
		s.lookups.dropped()
	}
}

// handleChange forwards a change of the members of a group to the message servers that have a
// member, or one of the users that were added or removed. Those of added users are marked before,
// so that messages that follow reach them.
func (s *groups) handleChange(l *session.Link, _ uint16,
	m *pb.IMGroupChangeMemberNotify) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, group := of(l), m.GetGroupId()
	added := m.GetChangeType() == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	s.groups.index.Change(group, added, m.GetChgUserIdList())
	if from.node.Name != "" {
		s.pass(from, nil, m)
		return nil
	}
	q := lookup{size: outgoing.SizeOf(m) + 4*len(m.GetCurUserIdList())}
	q.thenGroup = func(*answers, whereabouts.Group) { s.groups.flood(from.local, m, "no_version") }
	if m.GetVersion() != 0 && group != marks.Everything {
		c := change{group: group, version: m.GetVersion()}
		if added {
			c.added = m.GetChgUserIdList()
		}
		q.change = &c
		q.users = append(append(q.users, m.GetChgUserIdList()...), m.GetUserId())
		q.thenGroup = func(a *answers, g whereabouts.Group) {
			s.groups.send(from.local, c, q.users, a, g, m)
		}
	}
	if !s.lookups.lookup(q) {
		s.lookups.dropped()
	}
	return nil
}

// groupsOf returns the groups that questions are for, sorted, each once, and the one of message
// servers that get everything.
func groupsOf(questions []lookup) (list []uint32) {
	every := false
	for _, q := range questions {
		if q.group != 0 {
			list = append(list, q.group)
		}
		every = every || q.group != 0 || q.change != nil
	}
	if every {
		list = append(list, marks.Everything)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// settleChanges marks groups for the users that were added to them, and returns the groups after
// that, by the number of the question.
func (s *lookups) settleChanges(ctx context.Context, questions []lookup,
	a *answers) map[int]whereabouts.Group {
	settled := map[int]whereabouts.Group{}
	var list []whereabouts.Mark
	var of []int
	for i, q := range questions {
		if q.change == nil {
			continue
		}
		var found []whereabouts.Found
		for _, user := range q.change.added {
			at, _ := slices.BinarySearch(a.users, user)
			found = append(found, a.found[at])
		}
		nodes, err := s.groups.index.Nodes(found)
		if err != nil {
			settled[i] = whereabouts.Group{Err: err}
			continue
		}
		of = append(of, i)
		list = append(list, whereabouts.Mark{Group: q.change.group, Nodes: nodes,
			Version: q.change.version, Since: q.change.version - 1})
	}
	if len(list) > 0 {
		ctx, cancel := context.WithTimeout(ctx, s.opt.StoreTimeout)
		defer cancel()
		for i, g := range s.opt.Store.Mark(ctx, list) {
			settled[of[i]] = g
		}
	}
	return settled
}

// send sends a message that is of a version of a group to the message servers that have a
// member, or one of users. g is the marks of the group. If they are of an earlier version, members
// may be on other message servers: all get the message.
func (s *groups) send(local bool, c change, users []uint32, a *answers,
	g whereabouts.Group, m pb.Message) {
	every := a.group(marks.Everything)
	to := map[whereabouts.Node]struct{}{}
	for _, user := range users {
		entries, err := a.find(user)
		if err != nil {
			g.Err = err
		}
		for _, e := range entries {
			to[e.Node] = struct{}{}
		}
	}
	switch {
	case g.Err != nil || every.Err != nil:
		s.groups.flood(local, m, "unreadable")
		return
	case g.Version < c.version:
		s.groups.index.Mend(c.group)
		s.groups.flood(local, m, "unsettled")
		return
	}
	here := slices.ContainsFunc(users, func(user uint32) bool { return s.users[user] != nil })
	for _, part := range []struct {
		group uint32
		nodes []whereabouts.Node
	}{{c.group, g.Nodes}, {marks.Everything, every.Nodes}} {
		for _, n := range s.groups.alive(part.group, part.nodes) {
			if n.Name == s.opt.Name {
				here = true
			} else {
				to[n] = struct{}{}
			}
		}
	}
	for node := range to {
		s.links.Peer(node).Send(m)
	}
	s.forwards.WithLabelValues("marked").Inc()
	s.saved.Add(float64(max(0, s.links.Alive()-len(to))))
	if here && !local {
		s.toLocal(m)
	} else if len(to) == 0 {
		s.metrics.nobody.WithLabelValues(m.Command().String()).Inc()
	}
}

// flood sends a message of a group to all message servers. Those without a member ignore it.
func (s *groups) flood(local bool, m pb.Message, why string) {
	s.forwards.WithLabelValues(why).Inc()
	s.links.Spread(m)
	if !local {
		s.toLocal(m)
	}
}

// alive returns the nodes whose processes have not ended. The marks of the others are removed
// from the store.
func (s *groups) alive(group uint32, nodes []whereabouts.Node) []whereabouts.Node {
	var list []whereabouts.Node
	var ended []whereabouts.Unmark
	for _, n := range nodes {
		if s.known.Ended(n) && (n.Name != s.opt.Name || n.Epoch < s.writer.epoch) {
			ended = append(ended, whereabouts.Unmark{Group: group, Node: n,
				Version: whereabouts.EveryVersion})
		} else {
			list = append(list, n)
		}
	}
	if len(ended) > 0 {
		s.buryLater(burial{marks: ended})
	}
	return list
}
