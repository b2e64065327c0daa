package msg

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// dbGroup is a group as the db_proxy of the tests has it.
type dbGroup struct {
	version uint32
	creator uint32
	members []uint32
	old     bool // versions are not given, as by the first implementation
	silent  bool // info requests fail
	loads   int  // how often the info was asked for
}

// addGroup makes a group, behind the backs of the message servers.
func (db *dbStand) addGroup(id uint32, members ...uint32) *dbGroup {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.groups == nil {
		db.groups = map[uint32]*dbGroup{}
	}
	g := &dbGroup{version: 1, members: members}
	if len(members) > 0 {
		g.creator = members[0]
	}
	db.groups[id] = g
	return g
}

// change changes a group behind the backs of the message servers.
func (db *dbStand) change(id uint32, f func(g *dbGroup)) {
	db.mu.Lock()
	defer db.mu.Unlock()
	f(db.groups[id])
}

// loads is how often the group's members were asked for since the last call.
func (db *dbStand) loads(id uint32) int {
	synctest.Wait()
	db.mu.Lock()
	defer db.mu.Unlock()
	n := db.groups[id].loads
	db.groups[id].loads = 0
	return n
}

// mayPost reports whether m is stored, and gives it its version. With mu held.
func (db *dbStand) mayPost(m *pb.MsgData) bool {
	if !m.Type.IsGroup() {
		return true
	}
	g := db.groups[m.ToSessionID]
	if g == nil || !slices.Contains(g.members, m.FromUserID) {
		return false
	}
	if m.HasGroupVersion && !g.old {
		m.GroupVersion = g.version
	}
	return true
}

// answerGroup answers what is about groups. With mu held.
func (db *dbStand) answerGroup(req pb.Message) (pb.Message, error) {
	switch m := req.(type) {
	case *pb.IMGroupInfoListReq:
		rsp := &pb.IMGroupInfoListRsp{}
		rsp.SetUserId(m.GetUserId())
		for _, v := range m.GetGroupVersionList() {
			g := db.groups[v.GetGroupId()]
			if g == nil {
				continue
			}
			g.loads++
			if g.silent {
				return nil, im.Errorf(im.Unavailable, "no answer")
			}
			rsp.SetGroupInfoList(append(rsp.GetGroupInfoList(), groupInfo(v.GetGroupId(), g)))
		}
		return rsp, nil
	case *pb.IMGroupCreateReq:
		rsp := &pb.IMGroupCreateRsp{}
		rsp.SetUserId(m.GetUserId())
		rsp.SetResultCode(0)
		rsp.SetGroupId(uint32(100 + len(db.groups)))
		rsp.SetGroupName(m.GetGroupName())
		rsp.SetUserIdList(m.GetMemberIdList())
		return rsp, nil
	case *pb.IMGroupChangeMemberReq:
		return db.changeMembers(m), nil
	}
	return nil, im.Errorf(im.Unavailable, "down")
}

func groupInfo(id uint32, g *dbGroup) *pb.GroupInfo {
	info := &pb.GroupInfo{}
	info.SetGroupId(id)
	info.SetVersion(g.version)
	info.SetGroupName("g")
	info.SetGroupAvatar("")
	info.SetGroupCreatorId(g.creator)
	info.SetGroupType(pb.GroupType_GROUP_TYPE_TMP)
	info.SetShieldStatus(0)
	info.SetGroupMemberList(slices.Clone(g.members))
	return info
}

func (db *dbStand) changeMembers(m *pb.IMGroupChangeMemberReq) *pb.IMGroupChangeMemberRsp {
	rsp := &pb.IMGroupChangeMemberRsp{}
	rsp.SetUserId(m.GetUserId())
	rsp.SetChangeType(m.GetChangeType())
	rsp.SetGroupId(m.GetGroupId())
	rsp.SetResultCode(1)
	g := db.groups[m.GetGroupId()]
	if g == nil || !slices.Contains(g.members, m.GetUserId()) {
		return rsp
	}
	var changed []uint32
	for _, user := range m.GetMemberIdList() {
		at := slices.Index(g.members, user)
		switch {
		case m.GetChangeType() == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD && at < 0:
			g.members = append(slices.Clip(g.members), user)
		case m.GetChangeType() == pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL && at >= 0:
			g.members = slices.Delete(slices.Clone(g.members), at, at+1)
		default:
			continue
		}
		changed = append(changed, user)
	}
	if len(changed) == 0 {
		return rsp
	}
	g.version++
	rsp.SetResultCode(0)
	rsp.SetCurUserIdList(slices.Clone(g.members))
	rsp.SetChgUserIdList(changed)
	if !g.old {
		rsp.SetVersion(g.version)
	}
	return rsp
}

// cluster is several message servers on one database, joined by a stand-in for
// route_server that sends everything to all others.
type cluster struct {
	t       *testing.T
	db      *dbStand
	servers []*world
	inboxes []chan routed
	// how long a message takes from one server to another; nil: no time
	lag    func() time.Duration
	routed []int  // messages that each server has sent to route_server
	lost   bool   // what is sent to route_server is lost
	away   []bool // servers that are not connected to it; nil: none
}

type routed struct {
	at  time.Time
	seq uint16
	m   pb.Message
}

// inCluster runs f with n message servers, in a bubble of virtual time.
func inCluster(t *testing.T, n int, opt Options, f func(c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, db: &dbStand{ids: map[uint64]uint32{}}, routed: make([]int, n)}
		for i := range n {
			w := newWorld(t, opt, c.db, &hub{c: c, from: i})
			defer w.stop()
			c.servers = append(c.servers, w)
			inbox := make(chan routed, 1<<16)
			defer close(inbox)
			c.inboxes = append(c.inboxes, inbox)
			go func() {
				link := w.h.RouteLink()
				for r := range inbox {
					time.Sleep(time.Until(r.at))
					link.Message(w.route.s, r.seq, r.m)
				}
			}()
		}
		for i := range n {
			c.routed[i] = 0 // what they said of themselves
		}
		f(c)
	})
}

// hub is a server's link to the route_server of a cluster.
type hub struct {
	c    *cluster
	from int
}

func (l *hub) SendMessage(seq uint16, m pb.Message) error {
	switch m.Command() {
	case pb.CmdMsgData, pb.CmdGroupChangeMemberNotify:
	default:
		return nil // of users, not of groups
	}
	if l.c.lost {
		return nil
	}
	l.c.routed[l.from]++
	for i, inbox := range l.c.inboxes {
		if i == l.from || l.c.away != nil && l.c.away[i] {
			continue
		}
		r := routed{at: time.Now(), seq: seq, m: m}
		if l.c.lag != nil {
			r.at = r.at.Add(l.c.lag())
		}
		inbox <- r
	}
	return nil
}

func (l *hub) Close(error) {}

func groupText(group uint32, body string) *pb.MsgData {
	m := text(group, body)
	m.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
	return m
}

// wantTexts checks that the device got group messages with these ids since the last call,
// and nothing else.
func (d *device) wantTexts(ids ...uint32) {
	d.w.t.Helper()
	var got []uint32
	for _, r := range d.got() {
		m, ok := r.m.(*pb.MsgData)
		if !ok || r.seq != 0 || m.AttachData != nil || m.ClientMsgID != nil || m.HasGroupVersion {
			d.w.t.Fatalf("received %d %+v", r.seq, r.m)
		}
		got = append(got, m.MsgID)
	}
	if !slices.Equal(got, ids) {
		d.w.t.Fatalf("received %v, want %v", got, ids)
	}
}

var _ session.MessageCarrier = (*hub)(nil)
