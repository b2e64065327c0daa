package msg

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// groups is what this server knows of groups: who is in them, and what waits to be delivered to them.
//
// Who is in a group is asked of db_proxy once, and followed from then on. A notify of a change has all members and, from our servers, the group's
// version; every stored message brings the version it was checked against. A message whose version is not the known one waits until the members
// were asked anew, so a change counts at once for every message stored after it, whoever made it and whether or not its notify came. Where no
// versions are given – by a C++ db_proxy, or for a message from a C++ message server – what is known is asked again after
// memberAge. When a link to a route server is lost, notifies may have been missed: what was known before does not count any more.
//
// Messages of a group come from db_proxy, in order, and from other message servers, each in order. They are delivered in the order of their ids:
// one that comes before its predecessor waits for it, gapWait at most, since ids may be missing.
type groups struct {
	h       *Server
	metrics groupMetrics

	// era goes up when what is known must not be trusted any more.
	era atomic.Uint64
	// waiting and waitingBytes are the messages not delivered yet, of all groups.
	waiting, waitingBytes atomic.Int64

	mu      sync.Mutex // taken with a group's held, never the other way round
	table   *simplelru.LRU[uint32, *group]
	members int // of all groups in the table
}

const (
	// maxGroups and maxCachedMembers bound the groups known, and their members in sum: 4 bytes each, and as much again for each that is online here. The
	// group that was quiet the longest goes first.
	maxGroups        = 10_000
	maxCachedMembers = 2_000_000

	// memberAge is how long members are trusted that no version confirms.
	memberAge = 30 * time.Second

	// gapWait is how long a message waits for those before it; they come within milliseconds, if they come.
	gapWait = time.Second
	// settleWait is how long the first message of a group waits for others, as long as it is not known which come before it.
	settleWait = 100 * time.Millisecond

	// maxWaiting bounds the messages of one group that wait, maxWaitingBytes those of all groups. Beyond, messages are not delivered; those who were
	// to get them find them in the history.
	maxWaiting      = 1024
	maxWaitingBytes = 64 << 20
	waitingCost     = 256 // bytes counted for a message besides its content

	// Members that cannot be had are asked for loadTries times, with a pause of loadPause in between, and twice that; then what waits for them is dropped.
	loadTries = 3
	loadPause = 200 * time.Millisecond
)

// group is one of them.
type group struct {
	all     *groups
	id      uint32
	counted int // of all.members; with all.mu

	mu      sync.Mutex
	era     uint64 // in which members and last were learned
	known   bool
	members []uint32  // never changed, only replaced
	version uint32    // of members; 0: not known
	checked time.Time // when members were last known to be right
	last    uint32    // the highest id delivered; 0: none in this era

	online      []onLoop // the members' sessions, see sessions
	onlineEpoch uint64   // when they were gathered
	gathered    bool

	wait []*waiting // in order of ids

	asked   uint64 // how often members were asked for
	heard   uint64 // the number of the latest request answered
	loading bool
	stale   bool // a change came while loading that the answer may not know of
	tries   int
	retry   time.Time // not to be asked for before
	timer   *time.Timer
}

// waiting is a message on its way to a group's members.
type waiting struct {
	m    *pb.MsgData
	from *session.Session // where it came from, when it was stored here
	came time.Time
	// since is a session id: those that are younger connected after the message was stored. They find it in the history.
	since uint64
	// need is the first request for members that was made after the message came.
	need uint64
	anew bool // only such a request will do
}

func newGroups(h *Server) *groups {
	gs := &groups{h: h}
	gs.table, _ = simplelru.NewLRU(maxGroups, func(_ uint32, g *group) { gs.members -= g.counted }) // the size is positive
	gs.metrics = newGroupMetrics(h.opt.Registerer, gs)
	return gs
}

// forget says that what is known of groups may be out of date.
func (gs *groups) forget() { gs.era.Add(1) }

// of returns the group, which may be one of which nothing is known. One that leaves the table while messages wait goes on without it.
func (gs *groups) of(id uint32) *group {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if g, ok := gs.table.Get(id); ok {
		return g
	}
	g := &group{all: gs, id: id}
	gs.table.Add(id, g)
	return g
}

// count sets how many members g has, as far as the bound is concerned.
func (gs *groups) count(g *group, n int) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if in, ok := gs.table.Peek(g.id); !ok || in != g {
		return
	}
	gs.members += n - g.counted
	g.counted = n
	for gs.members > maxCachedMembers && gs.table.Len() > 1 {
		gs.table.RemoveOldest()
	}
}

// deliver gives a stored group message to the members' sessions here, except the one it came from, as soon as the members are known and it is its
// turn. from is nil for one that another message server had stored; anew says that nobody knows when it was stored, so that members known
// may be later ones, or earlier. From anywhere; m must not change any more.
func (gs *groups) deliver(m *pb.MsgData, from *session.Session, anew bool) {
	g, now := gs.of(m.ToSessionID), gs.h.opt.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	w := waiting{m: m, from: from, came: now, need: g.asked + 1, anew: anew}
	if len(g.wait) == 0 && g.knows(&w, now) && !now.Before(g.turn(&w)) {
		g.send(&w)
		return
	}
	size := int64(len(m.Data) + waitingCost)
	if len(g.wait) >= maxWaiting || gs.waitingBytes.Add(size) > maxWaitingBytes {
		if len(g.wait) < maxWaiting {
			gs.waitingBytes.Add(-size)
		}
		gs.metrics.dropped.WithLabelValues("queue").Inc()
		return
	}
	gs.waiting.Add(1)
	w.since = session.NextID()
	at, _ := slices.BinarySearchFunc(g.wait, m.MsgID, func(o *waiting, id uint32) int { return int(int64(o.m.MsgID) - int64(id)) })
	g.wait = slices.Insert(g.wait, at, &w)
	g.proceed(now)
}

// proceed delivers what waits, as far as it may. With mu held.
func (g *group) proceed(now time.Time) {
	for len(g.wait) > 0 {
		w := g.wait[0]
		if !g.knows(w, now) {
			g.ask(now)
			return
		}
		if turn := g.turn(w); now.Before(turn) {
			g.after(turn.Sub(now))
			return
		}
		g.wait = slices.Delete(g.wait, 0, 1)
		g.all.done(w)
		g.send(w)
	}
	g.wait = nil
}

// done takes w out of what waits.
func (gs *groups) done(w *waiting) {
	gs.waiting.Add(-1)
	gs.waitingBytes.Add(-int64(len(w.m.Data) + waitingCost))
}

// after makes proceed be called in d.
func (g *group) after(d time.Duration) {
	if g.timer != nil {
		g.timer.Stop()
	}
	g.timer = time.AfterFunc(d, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.proceed(g.all.h.opt.Now())
	})
}

// knows reports whether the members known are those that w is for.
func (g *group) knows(w *waiting, now time.Time) bool {
	if !g.current() {
		return false
	}
	if g.heard >= w.need {
		return true // no better answer can be had
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

// current reports whether anything is known.
func (g *group) current() bool { return g.known && g.era == g.all.era.Load() }

// turn is when w, the first that waits, may be delivered.
func (g *group) turn(w *waiting) time.Time {
	id := w.m.MsgID
	switch {
	case g.last == 0 && id > 1:
		return w.came.Add(settleWait)
	case id > g.last+1:
		return w.came.Add(gapWait)
	}
	return w.came
}

// ask asks db_proxy for the members. With mu held.
func (g *group) ask(now time.Time) {
	if g.loading {
		return
	}
	if now.Before(g.retry) {
		g.after(g.retry.Sub(now))
		return
	}
	g.loading, g.stale = true, false
	g.asked++
	g.all.metrics.loads.Inc()
	era, number := g.all.era.Load(), g.asked
	v := &pb.GroupVersionInfo{}
	v.SetGroupId(g.id)
	v.SetVersion(0) // whatever the version, all of it
	req := &pb.IMGroupInfoListReq{}
	req.SetUserId(0) // nobody: it is for this server
	req.SetGroupVersionList([]*pb.GroupVersionInfo{v})
	g.all.h.db.Call(nil, im.GroupKey(g.id), 0, req, func(rsp pb.Message, err error) { g.loaded(era, number, rsp, err) })
}

// loaded takes db_proxy's answer.
func (g *group) loaded(era, number uint64, rsp pb.Message, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.all.h.opt.Now()
	g.loading = false
	list, ok := rsp.(*pb.IMGroupInfoListRsp)
	if err != nil || !ok {
		g.failed(now, err)
		return
	}
	g.tries = 0
	if !g.stale {
		g.heard = number
		g.learn(era, g.infoOf(list), now)
	}
	g.proceed(now)
}

// infoOf is the group's own entry; of a group that does not exist there is none.
func (g *group) infoOf(list *pb.IMGroupInfoListRsp) *pb.GroupInfo {
	for _, info := range list.GetGroupInfoList() {
		if info.GetGroupId() == g.id {
			return info
		}
	}
	return nil
}

// learn takes an answer as the truth, unless a change is known that came after it.
func (g *group) learn(era uint64, info *pb.GroupInfo, now time.Time) {
	if g.known && g.era == era && g.version > info.GetVersion() && now.Sub(g.checked) < memberAge {
		return
	}
	g.set(era, info.GetGroupMemberList(), info.GetVersion(), now)
}

func (g *group) set(era uint64, members []uint32, version uint32, now time.Time) {
	if g.era != era {
		g.era, g.last = era, 0
	}
	g.known, g.members, g.version, g.checked = true, members, version, now
	g.online, g.gathered = nil, false
	g.all.count(g, len(members))
}

// failed asks again later, or gives up.
func (g *group) failed(now time.Time, err error) {
	g.all.metrics.loadsFailed.Inc()
	if g.tries++; g.tries < loadTries {
		pause := loadPause * time.Duration(g.tries)
		g.retry = now.Add(pause)
		g.after(pause)
		return
	}
	g.tries = 0
	h := g.all.h
	h.warn(&h.often.members, "members of a group not known, messages not delivered", "group", g.id, "messages", len(g.wait), "err", err)
	g.all.metrics.dropped.WithLabelValues("members").Add(float64(len(g.wait)))
	for _, w := range g.wait {
		g.all.done(w)
	}
	g.wait = nil
}

// changed takes a change of members, made here or elsewhere, and has tell say so to the clients here, in the order of the changes. The notify has all members
// as they are after it. tell gets those to show, and who of them has changed: where the change is overtaken by a later one, the later one's members; it
// must not wait.
func (gs *groups) changed(n *pb.IMGroupChangeMemberNotify, tell func(cur, chg []uint32)) {
	g := gs.of(n.GetGroupId())
	g.mu.Lock()
	defer g.mu.Unlock()
	now, version := gs.h.opt.Now(), n.GetVersion()
	if version != 0 && g.current() && g.version > version && now.Sub(g.checked) < memberAge {
		tell(g.members, stillTrue(n, g.members))
		return
	}
	if version == 0 { // C++: nobody knows whether it is the latest, the next version that is heard of will say
		g.stale = true
	}
	g.set(gs.era.Load(), n.GetCurUserIdList(), version, now)
	g.proceed(now) // what was stored before
	tell(n.GetCurUserIdList(), n.GetChgUserIdList())
}

// stillTrue is those users of a change that members, of a later version, still show as added or taken out.
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
