package group

import (
	"slices"
	"sync"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// group is one group.
type group struct {
	all     *Groups
	id      uint32
	counted int // of all.members; with all.mu

	mu      sync.Mutex
	era     uint64 // in which members were learned
	known   bool
	members []uint32  // never changed, only replaced
	version uint32    // of members; 0: not known
	checked time.Time // when members were last known to be right
	last    delivered

	online      []session.OnLoop // the members' sessions, see sessions
	onlineEpoch uint64           // when they were gathered
	gathered    bool

	wait []*waiting // in order of ids

	asked   uint64 // how often members were asked for
	heard   uint64 // the number of the latest request answered
	loading bool   // the latest request is not answered
	stale   uint64 // the answers up to this number may lack a change that arrived
	failing failing
	retry   time.Time   // not to be asked for before
	stop    func() bool // ends the timer of after
}

// failing is the requests for members since the last answer.
type failing struct {
	since time.Time // the first that failed; zero: none
	tries uint64
	pause time.Duration // before the next one
	asked time.Time     // when the last one was made
}

// begin makes what is known count as out of date. Messages that wait are delivered all the same.
func (g *group) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known, g.last = false, delivered{}
	g.stale = g.asked // an answer that is on its way may be older
	g.proceed(g.all.opt.Now())
}

// knows reports whether the members known are those that w is for.
func (g *group) knows(w *waiting, now time.Time) bool {
	if !g.current() {
		return false
	}
	if g.heard >= w.need {
		return true // there is no better answer
	}
	if w.anew {
		return false
	}
	young := now.Sub(g.checked) < memberAge
	if v := w.m.GroupVersion; w.m.HasGroupVersion && v != 0 {
		if g.version == v {
			g.checked = now
			return true
		}
		return g.version > v && young // the group has changed since the message was stored
	}
	return young
}

// current reports whether any members are known.
func (g *group) current() bool { return g.known && g.era == g.all.era.Load() }

// ask asks db_proxy for the members. A request that is not answered for loadWait is made
// again, perhaps to another db_proxy: the link to the first one may be dead. With mu held.
func (g *group) ask(now time.Time) {
	again := g.retry
	if g.loading {
		again = g.failing.asked.Add(loadWait)
	}
	if now.Before(again) {
		g.after(again.Sub(now))
		return
	}
	g.loading = true
	g.asked++
	g.failing.asked = now
	g.all.metrics.loads.Inc()
	era, number := g.all.era.Load(), g.asked
	v := &pb.GroupVersionInfo{}
	v.SetGroupId(g.id)
	v.SetVersion(0) // all of it, whatever the version
	req := &pb.IMGroupInfoListReq{}
	req.SetUserId(0) // no user: the answer is for this server
	req.SetGroupVersionList([]*pb.GroupVersionInfo{v})
	key := im.GroupKey(g.id) | g.failing.tries<<56
	g.failing.tries++
	g.after(loadWait)
	g.all.store.Call(nil, key, 0, req, func(rsp pb.Message, err error) {
		g.loaded(era, number, rsp, err)
	})
}

// loaded takes db_proxy's answer.
func (g *group) loaded(era, number uint64, rsp pb.Message, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.all.opt.Now()
	latest := number == g.asked
	if latest {
		g.loading = false
	}
	list, err := link.Answer[*pb.IMGroupInfoListRsp](rsp, err)
	if err != nil {
		g.all.metrics.loadsFailed.Inc()
		if latest {
			g.failed(now, err)
		}
		return
	}
	g.failing = failing{asked: g.failing.asked}
	if number > max(g.stale, g.heard) {
		g.heard = number
		g.learn(era, g.infoOf(list), now)
	}
	g.proceed(now)
}

// infoOf returns the group's own entry, nil for a group that does not exist.
func (g *group) infoOf(list *pb.IMGroupInfoListRsp) *pb.GroupInfo {
	for _, info := range list.GetGroupInfoList() {
		if info.GetGroupId() == g.id {
			return info
		}
	}
	return nil
}

// learn replaces the members by those of an answer, unless a change is known that was
// made after it.
func (g *group) learn(era uint64, info *pb.GroupInfo, now time.Time) {
	if g.known && g.era == era && g.version > info.GetVersion() && now.Sub(g.checked) < memberAge {
		return
	}
	g.set(era, info.GetGroupMemberList(), info.GetVersion(), nil, now)
}

// set replaces the members. added are the users that a change has added.
func (g *group) set(era uint64, members []uint32, version uint32, added []uint32, now time.Time) {
	g.changes(members, version, added)
	g.era = era
	g.known, g.members, g.version, g.checked = true, members, version, now
	g.online, g.gathered = nil, false
	g.all.count(g, len(members))
}

// failed asks again later, or gives up.
func (g *group) failed(now time.Time, err error) {
	gs, f := g.all, &g.failing
	if f.since.IsZero() {
		f.since = now
	}
	if f.pause = min(max(2*f.pause, loadPause), maxLoadPause); now.Sub(f.since) < loadFor {
		g.retry = now.Add(f.pause)
		g.after(f.pause)
		return
	}
	g.failing = failing{}
	gs.often.members.Warn(gs.opt.Log, gs.opt.Now(),
		"members of a group not known, messages not delivered",
		"group", g.id, "messages", len(g.wait), "err", err)
	gs.metrics.dropped.WithLabelValues("members").Add(float64(len(g.wait)))
	for _, w := range g.wait {
		gs.done(w)
	}
	g.wait = nil
}

// changed takes a change of members, made here or elsewhere, and calls tell, in the order
// of the changes, to send it to the clients here. n has all members after the change. cur
// is the members to show, chg those of them that changed. If the change is overtaken by a
// later one, these are of the later one. tell must not wait.
func (gs *Groups) changed(n *pb.IMGroupChangeMemberNotify, tell func(cur, chg []uint32)) {
	g := gs.of(n.GetGroupId())
	g.mu.Lock()
	defer g.mu.Unlock()
	now, version := gs.opt.Now(), n.GetVersion()
	if version != 0 && g.current() && g.version > version && now.Sub(g.checked) < memberAge {
		tell(g.members, stillTrue(n, g.members))
		return
	}
	if version == 0 { // C++: the next version that is heard of shows whether it is the latest
		g.stale = g.asked
	}
	var added []uint32
	if n.GetChangeType() == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD {
		added = n.GetChgUserIdList()
	}
	g.set(gs.era.Load(), n.GetCurUserIdList(), version, added, now)
	g.proceed(now) // messages stored before the change
	tell(n.GetCurUserIdList(), n.GetChgUserIdList())
}

// stillTrue returns the users of a change that members, of a later version, still show as
// added or removed.
func stillTrue(n *pb.IMGroupChangeMemberNotify, members []uint32) []uint32 {
	added := n.GetChangeType() == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	in := make(map[uint32]struct{}, len(members))
	for _, user := range members {
		in[user] = struct{}{}
	}
	return slices.DeleteFunc(slices.Clone(n.GetChgUserIdList()), func(user uint32) bool {
		_, is := in[user]
		return is != added
	})
}
