package msg

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// groupStored goes on with a group message that is stored: the sender gets its ack at once, the members the message, here and elsewhere. It runs where the
// answers of a group arrive, in their order. late: it was stored some time ago.
func (h *Server) groupStored(s *session.Session, seq uint16, m *pb.MsgData, late bool) {
	m.ClientMsgID = nil
	if m.GroupVersion == 0 { // a db_proxy that knows of no versions gives back what it was sent
		m.HasGroupVersion = false
	}
	// Before the ack: who logs in once the sender has it finds the message in the history, and does not get it pushed as well.
	h.groups.deliver(m, s, late)
	s.Loop().Post(func() { h.acknowledge(s, seq, m, noWait) })
	forward := *m
	h.toRoute(0, &forward)
}

// onLoop is sessions of one loop. The slice is never changed, only replaced.
type onLoop struct {
	loop     *session.Loop
	sessions []*session.Session
}

// sessionsOf is the sessions of users here, by loop.
func (h *Server) sessionsOf(users []uint32) []onLoop {
	var lists []onLoop
	for _, user := range users {
		for _, s := range h.online.Of(user) {
			i := slices.IndexFunc(lists, func(l onLoop) bool { return l.loop == s.Loop() })
			if i < 0 {
				i = len(lists)
				lists = append(lists, onLoop{loop: s.Loop()})
			}
			lists[i].sessions = append(lists[i].sessions, s)
		}
	}
	return lists
}

// sessions is the members' sessions here. They are gathered again when anybody has come or gone since. With mu held.
func (g *group) sessions() []onLoop {
	online := g.all.h.online
	if epoch := online.Epoch(); !g.gathered || g.onlineEpoch != epoch {
		g.online, g.onlineEpoch, g.gathered = g.all.h.sessionsOf(g.members), epoch, true
	}
	return g.online
}

// send delivers w. With mu held, so that all of a group leaves in one order.
func (g *group) send(w *waiting) {
	h := g.all.h
	switch id := w.m.MsgID; {
	case id <= g.last:
		g.all.metrics.late.Inc()
	case g.last != 0 && id > g.last+1:
		g.all.metrics.gaps.Inc()
	}
	g.last = max(g.last, w.m.MsgID)
	if w.from != nil {
		h.pushes.Stored(w.m, g.members)
	}
	lists := g.sessions()
	if len(lists) == 0 {
		return
	}
	if frame := h.clientFrame(w.m); frame != nil {
		h.postLists(lists, w, frame, session.Tag{Peer: g.id, ID: w.m.MsgID, Flags: tagGroup})
	}
}

// postLists gives one frame to all sessions but the one the message came from and those that are too young, with one note to each loop.
func (h *Server) postLists(lists []onLoop, w *waiting, frame []byte, tag session.Tag) {
	if len(frame) > androidFrame {
		var android []onLoop
		if android, lists = apartOnLoops(lists); len(android) > 0 {
			if short := h.shortFrame(frame); short != nil {
				h.postLists(android, w, short, tag)
			}
		}
	}
	for _, l := range lists {
		to := l.sessions
		if w.since != 0 || (w.from != nil && w.from.Loop() == l.loop) {
			to = make([]*session.Session, 0, len(l.sessions))
			for _, s := range l.sessions {
				if s != w.from && (w.since == 0 || s.ID() < w.since) {
					to = append(to, s)
				}
			}
		}
		if len(to) == 0 {
			continue
		}
		h.metrics.deliveries.Add(float64(len(to)))
		if err := l.loop.PostTagged(to, frame, tag); err != nil {
			h.warn(&h.often.delivery, "delivery dropped, sessions closed", "group", tag.Peer, "err", err)
		}
	}
}

// handleGroupCreate makes a temporary group; clients may not make others. As from the first implementation, only who asked is told of it: the
// others see the group with its first message.
func (h *Server) handleGroupCreate(s *session.Session, seq uint16, m *pb.IMGroupCreateReq) error {
	if m.GetGroupType() != pb.GroupType_GROUP_TYPE_TMP {
		return im.Errorf(im.Denied, "clients create temporary groups only, not of type %d", m.GetGroupType())
	}
	if len(m.GetMemberIdList()) > im.MaxGroupMembers {
		rsp := &pb.IMGroupCreateRsp{}
		rsp.SetUserId(s.User)
		rsp.SetResultCode(1)
		rsp.SetGroupName(m.GetGroupName())
		return s.Send(seq, rsp)
	}
	return ask(h, s, seq, h.db, m, func(rsp *pb.IMGroupCreateRsp) { h.answer(s, seq, rsp) }, nil)
}

// handleGroupChange adds members to a group or takes them out; who may is for db_proxy to say.
func (h *Server) handleGroupChange(s *session.Session, seq uint16, m *pb.IMGroupChangeMemberReq) error {
	if _, known := pb.GroupModifyType_name[int32(m.GetChangeType())]; !known {
		return im.Errorf(im.Malformed, "change type %d", m.GetChangeType())
	}
	if len(m.GetMemberIdList()) > im.MaxGroupMembers {
		rsp := &pb.IMGroupChangeMemberRsp{}
		rsp.SetUserId(s.User)
		rsp.SetChangeType(m.GetChangeType())
		rsp.SetResultCode(1)
		rsp.SetGroupId(m.GetGroupId())
		return s.Send(seq, rsp)
	}
	c := clientOf(s)
	if c.queries >= maxQueries {
		h.metrics.queriesFailed.WithLabelValues("too_many").Inc()
		return im.Errorf(im.Denied, "change of members dropped: %d queries are waiting for their answers", c.queries)
	}
	c.queries++
	m.SetUserId(s.User)
	m.ClearAttachData()
	// Not on the client's loop: what is stored after the change is delivered after it, see groups.
	h.db.Call(nil, im.GroupKey(m.GetGroupId()), seq, m, func(rsp pb.Message, err error) {
		s.Loop().Post(func() { c.queries-- })
		h.groupChanged(s, seq, rsp, err)
	})
	return nil
}

// groupChanged goes on once db_proxy has answered. It runs where the answers of a group arrive, in their order.
func (h *Server) groupChanged(s *session.Session, seq uint16, rsp pb.Message, err error) {
	answer, ok := rsp.(*pb.IMGroupChangeMemberRsp)
	if err != nil || !ok {
		h.metrics.queriesFailed.WithLabelValues(im.KindOf(err).String()).Inc()
		h.warn(&h.often.query, "change of members not answered", "conn", s.ID(), "user", s.User, "seq", seq, "err", err)
		return
	}
	answer.ClearAttachData()
	if answer.GetResultCode() != 0 || len(answer.GetChgUserIdList()) == 0 {
		answer.ClearVersion()
		_ = s.Push(seq, answer) // a full mailbox closes the session
		return
	}
	n := notifyOf(answer)
	h.groups.changed(n, func(cur, chg []uint32) {
		answer.SetCurUserIdList(cur)
		answer.ClearVersion()
		_ = s.Push(seq, answer)
		h.tellGroup(n, cur, chg, s)
	})
	h.toRoute(0, n)
}

// notifyOf is what other servers are told of a change that was answered so.
func notifyOf(rsp *pb.IMGroupChangeMemberRsp) *pb.IMGroupChangeMemberNotify {
	n := &pb.IMGroupChangeMemberNotify{}
	n.SetUserId(rsp.GetUserId())
	n.SetChangeType(rsp.GetChangeType())
	n.SetGroupId(rsp.GetGroupId())
	n.SetCurUserIdList(rsp.GetCurUserIdList())
	n.SetChgUserIdList(rsp.GetChgUserIdList())
	if rsp.HasVersion() {
		n.SetVersion(rsp.GetVersion())
	}
	return n
}

// tellGroup tells the devices here of all members cur, of those added or taken out, and of who did it, except the session it was asked for on.
func (h *Server) tellGroup(n *pb.IMGroupChangeMemberNotify, cur, chg []uint32, but *session.Session) {
	if len(chg) == 0 {
		return // undone by a later change
	}
	users := append(slices.Clone(cur), chg...)
	users = append(users, n.GetUserId())
	slices.Sort(users)
	lists := h.sessionsOf(slices.Compact(users))
	if len(lists) == 0 {
		return
	}
	out := &pb.IMGroupChangeMemberNotify{} // n goes to other servers as it is
	out.SetUserId(n.GetUserId())
	out.SetChangeType(n.GetChangeType())
	out.SetGroupId(n.GetGroupId())
	out.SetCurUserIdList(cur)
	out.SetChgUserIdList(chg)
	frame, err := pdu.Append(nil, 0, out)
	if err != nil {
		h.log.Error("notify not encoded", "group", n.GetGroupId(), "err", err)
		return
	}
	h.postLists(lists, &waiting{from: but}, frame, session.Tag{})
}

// handleRoutedGroupChange takes a change made on another message server.
func (h *Server) handleRoutedGroupChange(_ *session.Session, _ uint16, n *pb.IMGroupChangeMemberNotify) error {
	h.groups.changed(n, func(cur, chg []uint32) { h.tellGroup(n, cur, chg, nil) })
	return nil
}

// groupMetrics counts what becomes of group messages on their way to the members.
type groupMetrics struct {
	loads       prometheus.Counter
	loadsFailed prometheus.Counter
	dropped     *prometheus.CounterVec
	gaps        prometheus.Counter
	late        prometheus.Counter
}

func newGroupMetrics(reg prometheus.Registerer, gs *groups) groupMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_msg_group_" + name, Help: help})
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_msg_group_" + name, Help: help}, f)
	}
	locked := func(f func() int) func() float64 {
		return func() float64 {
			gs.mu.Lock()
			defer gs.mu.Unlock()
			return float64(f())
		}
	}
	m := groupMetrics{
		loads:       counter("loads_total", "Groups whose members were asked of db_proxy."),
		loadsFailed: counter("loads_failed_total", "Of those, the ones without an answer."),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_msg_group_dropped_total",
			Help: "Group messages not delivered to anybody here, by what is missing: room in the queue, or the members. They are in the history."}, []string{"reason"}),
		gaps: counter("gaps_total", "Group messages delivered although one before them had not come in time."),
		late: counter("late_total", "Group messages delivered after one with a higher id."),
	}
	if reg != nil {
		reg.MustRegister(m.loads, m.loadsFailed, m.dropped, m.gaps, m.late,
			gauge("cached", "Groups whose members may be known.", locked(func() int { return gs.table.Len() })),
			gauge("members_cached", "Members of those groups.", locked(func() int { return gs.members })),
			gauge("waiting", "Group messages that wait for their turn or for the members.", func() float64 { return float64(gs.waiting.Load()) }))
	}
	return m
}
