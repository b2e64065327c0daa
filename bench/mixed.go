package bench

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"teamtalk/bench/scenario"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// mixed plays a company's day. Most users are at work: they write, read, look things up
// and send files. Some log in, sync and log out.
type mixed struct{}

// contacts are the distances, in user numbers, to the users that each user writes to.
var contacts = [...]int{1, 7, 31}

// distance returns the distance to the k-th contact in a small population. It is never 0,
// because no user writes to itself.
func distance(s *scenario.Scenario, k int) int { return 1 + (contacts[k]-1)%(s.Population-1) }

// writers is the number of members of a group that write to it.
const writers = 10

// activity is a kind of action of a user.
type activity uint8

const (
	doText activity = iota
	doGroupText
	doRead
	doHistory
	doPresence
	doTyping
	doLogin
	doFile
)

// share is an activity with the sum of the shares up to its own.
type share struct {
	what activity
	upTo float64
}

// shares returns the activities of a scenario.
func shares(s *scenario.Scenario) []share {
	var list []share
	sum := 0.0
	for i, n := range s.Shares() {
		sum += n
		list = append(list, share{activity(i), sum})
	}
	return list
}

// cast divides the users among the generators by number. A group may have members in all
// of them.
func (*mixed) cast(p *local) {
	s := p.scenario
	for i := p.Part; i < s.Population+s.Roaming; i += p.Parts {
		c := p.addClient(i, i/p.Parts)
		c.kind = pb.ClientType_CLIENT_TYPE_ANDROID
		if c.index/p.Parts/len(p.workers)%2 == 0 { // half of each worker's clients
			c.kind = pb.ClientType_CLIENT_TYPE_WINDOWS
		}
		if i >= s.Population {
			continue
		}
		for k := range contacts {
			// Conversation i*3+k holds the messages of user i to the k-th contact. from
			// is the user whose k-th contact is user i.
			from := (i - distance(s, k) + s.Population) % s.Population
			c.outboxes = append(c.outboxes, outbox{conv: uint32(i*len(contacts) + k), fanout: 1})
			c.inboxes = append(c.inboxes, inbox{conv: uint32(from*len(contacts) + k),
				streams: make([]stream, 1), own: -1})
		}
	}
	for g := range s.Groups {
		for j := range s.Members {
			i := s.MemberOf(g, j)
			if i%p.Parts != p.Part {
				continue
			}
			c := p.clients[i/p.Parts]
			conv, own := uint32(s.Population*len(contacts)+g), -1
			if j < writers {
				own = j
				c.outboxes = append(c.outboxes, outbox{conv: conv, sender: uint16(j), group: true,
					fanout: int64(s.Members - 1)})
			}
			c.inboxes = append(c.inboxes, inbox{conv: conv,
				streams: make([]stream, min(writers, s.Members)), own: own})
		}
	}
}

func (*mixed) needs(c *client) bool { return c.index < c.w.part.scenario.Population }

func (*mixed) begin(w *worker, groups []uint32) {
	s := w.part.scenario
	d := &day{w: w, roaming: rota{w: w}, shares: shares(s), seen: map[*client]*memory{},
		groups: groups}
	d.courier = newCourier(w, func(*transfer) {})
	w.play = d
	all := s.Population + s.Roaming
	for _, c := range w.clients {
		if c.index >= s.Population {
			d.roaming.free = append(d.roaming.free, c)
			continue
		}
		d.staff = append(d.staff, c)
		d.seen[c] = &memory{}
		if c.kind == pb.ClientType_CLIENT_TYPE_WINDOWS {
			d.pcs = append(d.pcs, c)
		}
		for i := range c.outboxes {
			o := &c.outboxes[i]
			if o.group {
				d.groupWriters = append(d.groupWriters, c)
				o.to = groups[int(o.conv)-s.Population*len(contacts)]
			} else {
				o.to = w.part.userIDs[(c.index+distance(s, i))%s.Population]
			}
		}
	}
	if len(w.clients) == 0 {
		return
	}
	d.roams = len(d.roaming.free) > 0
	d.pace = newPace(s.Rate*float64(len(w.clients))/float64(all), w.phase(),
		s.Arrivals == "poisson")
	d.step()
	w.schedule(d.due, d.fire)
}

func (*mixed) done(*worker) bool { return false }

// memory holds what a user received last.
type memory struct {
	session uint32
	group   bool
	id      uint32
	users   uint32 // newest update time of the list of users
	sync    int    // missing answers of the first sync
	began   int64  // start of the first sync
}

// day is a worker's share of a mixed scenario.
type day struct {
	bystander
	w            *worker
	shares       []share
	staff        []*client // users at work
	pcs          []*client // the part of staff at a pc
	groupWriters []*client // the part of staff that writes to groups, once for each group
	roaming      rota
	roams        bool // some clients of this worker roam
	seen         map[*client]*memory
	groups       []uint32
	courier      *courier
	pace         pace
	due          int64
}

func (d *day) step() { d.due = d.w.plan.Start + d.pace.step(d.w.rng.ExpFloat64) }

func (d *day) fire(now int64) int64 {
	for n := 0; d.due <= now && n < perFire; n++ {
		if d.due >= d.w.plan.End {
			return 0
		}
		what := d.draw()
		// write counts late texts itself
		if now-d.due > lateness && what != doText && what != doGroupText {
			d.w.checks.Behind++
		}
		d.do(what, d.due)
		d.step()
	}
	return d.due
}

// draw chooses the next activity at random.
func (d *day) draw() activity {
	x := d.w.rng.Float64() * d.shares[len(d.shares)-1].upTo
	for _, s := range d.shares {
		if x < s.upTo {
			return s.what
		}
	}
	return doText
}

// one chooses a client of a list at random; nil when the list is empty.
func (d *day) one(list []*client) *client {
	if len(list) == 0 {
		return nil
	}
	return list[d.w.rng.IntN(len(list))]
}

func (d *day) do(what activity, due int64) {
	c := d.one(d.staff)
	switch what {
	case doGroupText:
		c = d.one(d.groupWriters)
	case doFile:
		c = d.one(d.pcs)
	case doLogin:
		if d.roams {
			d.roaming.begin(due)
		}
		return
	}
	if c == nil || !c.isOnline() {
		return
	}
	switch what {
	case doText:
		c.write(&c.outboxes[d.w.rng.IntN(len(contacts))], due)
	case doGroupText:
		c.write(&c.outboxes[len(contacts)+d.w.rng.IntN(len(c.outboxes)-len(contacts))], due)
	case doRead:
		d.read(c)
	case doHistory:
		d.history(c, due)
	case doPresence:
		d.presence(c, due)
	case doTyping:
		d.typing(c)
	case doFile:
		if to := d.one(d.pcs); to != c {
			d.courier.send(c, to, int64(d.w.part.scenario.FileSize), false, due)
		}
	}
}

func (m *memory) kind() pb.SessionType {
	if m.group {
		return pb.SessionType_SESSION_TYPE_GROUP
	}
	return pb.SessionType_SESSION_TYPE_SINGLE
}

// read marks the last received message as read. It has no answer.
func (d *day) read(c *client) {
	m := d.seen[c]
	if m.id == 0 {
		return
	}
	d.w.frame = appendAck(d.w.frame[:0], pb.CmdMsgDataReadAck, c.id, m.session, m.id, m.kind())
	c.conn.Write(d.w.frame)
	d.w.rec.counts[countReads]++
}

// history requests 20 messages of the conversation that received one last, or of the
// first contact's.
func (d *day) history(c *client, due int64) {
	m := d.seen[c]
	session := m.session
	if session == 0 {
		session = c.outboxes[0].to
	}
	c.request(opHistory, due, pb.IMGetMsgListReq_builder{UserId: proto.Uint32(c.id),
		SessionType: m.kind().Enum(), SessionId: proto.Uint32(session),
		MsgIdBegin: proto.Uint32(0), MsgCnt: proto.Uint32(20)}.Build())
}

func (d *day) presence(c *client, due int64) {
	ids := make([]uint32, 20)
	for i := range ids {
		ids[i] = d.w.part.userIDs[d.w.rng.IntN(len(d.w.part.userIDs))]
	}
	c.request(opPresence, due, pb.IMUsersStatReq_builder{UserId: proto.Uint32(c.id),
		UserIdList: ids}.Build())
}

// typing notifies the first contact. The notice is not stored and has no answer.
func (d *day) typing(c *client) {
	m := pb.IMP2PCmdMsg_builder{FromUserId: proto.Uint32(c.id),
		ToUserId:   proto.Uint32(c.outboxes[0].to),
		CmdMsgData: proto.String(`{"cmd_id":65537,"content":"writing","service_id":1}`)}.Build()
	if err := c.conn.Send(0, m); err != nil {
		c.end(fmt.Errorf("typing: %w", err))
		return
	}
	d.w.rec.counts[countTyping]++
}

// loggedIn starts the first sync: the requests that a client sends before it shows
// anything.
func (d *day) loggedIn(c *client) {
	m := d.seen[c]
	if m == nil {
		m = &memory{}
		d.seen[c] = m
	}
	m.began = d.w.loop.Now()
	user := proto.Uint32(c.id)
	for _, r := range [...]struct {
		op op
		m  pb.Message
	}{
		{opDepartments, pb.IMDepartmentReq_builder{UserId: user,
			LatestUpdateTime: proto.Uint32(0)}.Build()},
		{opUsers, pb.IMAllUserReq_builder{UserId: user,
			LatestUpdateTime: proto.Uint32(m.users)}.Build()},
		{opSessions, pb.IMRecentContactSessionReq_builder{UserId: user,
			LatestUpdateTime: proto.Uint32(0)}.Build()},
		{opUnread, pb.IMUnreadMsgCntReq_builder{UserId: user}.Build()},
		{opGroups, pb.IMNormalGroupListReq_builder{UserId: user}.Build()},
		{opGroupInfos, d.groupInfos(c)},
	} {
		m.sync++
		c.request(r.op, m.began, r.m)
	}
}

// groupInfos requests the first groups of the run, as a member without a cache does.
func (d *day) groupInfos(c *client) pb.Message {
	var list []*pb.GroupVersionInfo
	for _, id := range d.groups[:min(len(d.groups), 20)] {
		list = append(list, pb.GroupVersionInfo_builder{GroupId: proto.Uint32(id),
			Version: proto.Uint32(0)}.Build())
	}
	return pb.IMGroupInfoListReq_builder{UserId: proto.Uint32(c.id), GroupVersionList: list}.Build()
}

func (d *day) answered(c *client, r request, h pdu.Header, body []byte) {
	if h.Command == pb.CmdFileRsp {
		d.courier.answered(r, body)
		return
	}
	m := d.seen[c]
	if m == nil || m.sync == 0 {
		return
	}
	if r.op == opUsers {
		eachField(body, func(num protowire.Number, v uint64, _ []byte) {
			if num == 2 {
				m.users = uint32(v)
			}
		})
	}
	if m.sync--; m.sync == 0 {
		d.w.took(opFirstSync, m.began)
		c.logout()
	}
}

func (d *day) gone(c *client, err error) {
	if c.index < d.w.part.scenario.Population {
		return
	}
	d.w.waiting--
	if m := d.seen[c]; m != nil {
		m.sync = 0
	}
	if err == nil {
		d.roaming.release(c)
		return
	}
	d.w.loop.At(d.w.loop.Now()+retryAfter, func(int64) int64 { d.roaming.release(c); return 0 })
}

func (d *day) delivered(c *client, m *delivery) {
	s := d.seen[c]
	s.id, s.group, s.session = m.id, m.kind.IsGroup(), m.from
	if s.group {
		s.session = m.to
	}
}

func (d *day) over() {
	d.courier.over()
	d.w.unfinished()
	d.roaming.over()
}

func (d *day) told(_ *client, h pdu.Header, body []byte) {
	if h.Command == pb.CmdFileNotify {
		d.courier.notify(body)
	}
}
