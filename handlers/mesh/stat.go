package mesh

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

// filter selects the clients that a presence request counts.
type filter struct {
	class     pb.ClientType
	sameClass bool // only clients of class's device class
	pc        bool // only PC clients
	acks      bool // only clients that acknowledge deliveries
	elsewhere bool // not those of the asking message server, which is the local one
}

// scopeOf returns the device scope of a presence request; 0 when it has none that is known.
func scopeOf(m *pb.IMUsersStatReq) pb.DeviceScope {
	if _, known := pb.DeviceScope_name[int32(m.GetScope())]; known && m.HasScope() {
		return m.GetScope()
	}
	return 0
}

// filterOf returns the clients that a request counts. A user is online when a PC client is, unless
// the request has a scope or a class. local says that the local message server asks. It knows its
// own clients itself.
func filterOf(m *pb.IMUsersStatReq, local bool) filter {
	scope := scopeOf(m)
	f := filter{pc: !m.HasSameClass() && scope == 0, class: m.GetSameClass(),
		sameClass: m.HasSameClass(), acks: scope == pb.DeviceScope_DEVICE_SCOPE_ACKS}
	f.elsewhere = local && (f.sameClass || f.acks)
	return f
}

func (f filter) counts(client pb.ClientType, acks bool) bool {
	return (!f.sameClass || client.SameClass(f.class)) && (!f.pc || !client.IsMobile()) &&
		(!f.acks || acks)
}

// online reports whether a user has a client that counts, here or in one of the entries. u may be
// nil.
func (f filter) online(u *user, entries []whereabouts.Entry) bool {
	if u != nil && !f.elsewhere && slices.ContainsFunc(u.devices,
		func(d device) bool { return f.counts(d.client, d.acks) }) {
		return true
	}
	return slices.ContainsFunc(entries, func(e whereabouts.Entry) bool {
		return slices.ContainsFunc(e.Devices,
			func(d whereabouts.Device) bool { return f.counts(d.Client, d.Acks) })
	})
}

// askStat asks the store about the users of a request, and answers. The caller holds s.mu.
func (s *Server) askStat(l *session.Link, seq uint16, m *pb.IMUsersStatReq) {
	users, here := m.GetUserIdList(), of(l).local
	f := filterOf(m, here)
	asked := s.lookups.lookup(lookup{users: users,
		then: func(find func(uint32) ([]whereabouts.Entry, error)) {
			online := make([]bool, len(users))
			for i, user := range users {
				entries, err := find(user)
				if err != nil {
					refuse(l, seq, m, errStore(err))
					return
				}
				if f.acks {
					entries = s.reachable(entries)
				}
				online[i] = f.online(s.users[user], entries)
				if at := slices.IndexFunc(entries, whereabouts.Entry.HasPC); here && at >= 0 {
					s.status.setElsewhere(user, entries[at].Node, false) // one client is told
				}
			}
			answerStat(l, seq, m, online)
		}})
	if !asked {
		refuse(l, seq, m, im.Errorf(im.Busy, "%d questions wait for the whereabouts", maxLookups))
	}
}

// reachable returns the entries of message servers whose acks arrive. A killed one has entries
// until its lease ends.
func (s *Server) reachable(entries []whereabouts.Entry) (list []whereabouts.Entry) {
	now := s.opt.Now()
	for _, e := range entries {
		if !s.links.Unreachable(e.Node, now) {
			list = append(list, e)
		}
	}
	return list
}

// answerStat answers whether each of the users of a request is online.
func answerStat(l *session.Link, seq uint16, m *pb.IMUsersStatReq, online []bool) {
	list := make([]*pb.UserStat, 0, len(online))
	for i, user := range m.GetUserIdList() {
		status := pb.UserStatType_USER_STATUS_OFFLINE
		if online[i] {
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
	_ = l.Send(seq, rsp) // after a failed Send the call has failed as well
}

// refuse answers that a request was not served. Another server may ask another message server. The
// call of one that does not understand refusals ends without an answer. The caller holds s.mu.
func refuse(l *session.Link, seq uint16, m *pb.IMUsersStatReq, err error) {
	if !of(l).local && !of(l).refusals {
		return
	}
	rsp := &pb.IMRequestRefused{}
	if !of(l).local {
		rsp.SetElsewhere(true)
	}
	rsp.SetAttachData(m.GetAttachData())
	rsp.SetKind(pb.RefusalKind_REFUSAL_KIND_UNAVAILABLE)
	if im.KindOf(err) == im.Busy {
		rsp.SetKind(pb.RefusalKind_REFUSAL_KIND_BUSY)
	}
	rsp.SetReason(err.Error())
	_ = l.Send(seq, rsp)
}
