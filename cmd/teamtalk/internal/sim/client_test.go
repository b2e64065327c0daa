package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// kind is what a client does.
type kind uint8

const (
	// ours names its messages, understands refusals, and repeats each until its ack, also
	// on a new connection. It acks deliveries.
	ours kind = iota
	// windows repeats a message once, after 6 s, on the same connection. It acks
	// deliveries.
	windows
	// phone repeats and acks nothing.
	phone
)

// The times of clients.
const (
	ackTimeout   = 5 * time.Second // of ours
	holdAfter    = 300 * time.Millisecond
	refusedPause = 500 * time.Millisecond
	windowsWait  = 6 * time.Second
	beatEvery    = 30 * time.Second
	silenceLimit = 75 * time.Second
	enterLimit   = 20 * time.Second
	resentWithin = 50 * time.Second // less than the minute for which a repeat is recognised
)

// client is a client program of a user.
type client struct {
	w    *world
	name string
	user uint32
	kind kind
	src  *source
	only string // the message server that it connects to; "": any
	quit bool   // it does not connect again
	// persists is set for a Windows client that sends again on its next connection what has
	// no ack. Its seqs go on there.
	persists bool

	conn    *connection
	gen     int // number of the connection
	trying  bool
	online  bool
	since   time.Duration // when it began to connect, or was logged in
	again   time.Duration // not to connect before
	lastIn  time.Duration
	lastOut time.Duration
	seq     uint16
	out     []*text // neither acked nor given up, in order
	got     []*delivery
	heard   []heard
	told    map[uint32]pb.UserStatType // of users, on this connection
	asks    *source
	asked   []*query // of this connection, without an answer
}

// heard is what a client was told of the members of a group.
type heard struct {
	gen     int
	group   uint32
	members []uint32
}

// text is a message of a client.
type text struct {
	from  *client
	to    uint32
	body  string
	n     int // in the order of being written
	gen   int // the connection that it was sent on last; 0: it was not sent
	seq   uint16
	tries int // on that connection

	first, last time.Duration // when it was sent
	state       textState
	repeat      bool
	ended       bool // acked or given up
	id          uint32
	acked       time.Duration
	firstGen    int
}

type textState uint8

const (
	waiting textState = iota
	flying
	resting
)

// delivery is a message that a client received.
type delivery struct {
	gen  int
	at   time.Duration
	from uint32
	to   uint32
	id   uint32
	body string
}

// clientEnd is the client's side of a connection.
type clientEnd struct {
	c   *client
	gen int
}

func (e *clientEnd) deliver(frame []byte) {
	if e.c.gen == e.gen && e.c.conn != nil {
		e.c.receive(frame)
	}
}

func (e *clientEnd) closed(error) {
	if e.c.gen == e.gen && e.c.conn != nil {
		e.c.lost(e.c.src.between(100*time.Millisecond, 2*time.Second))
	}
}

// clientType returns the type that the client logs in with.
func (c *client) clientType() pb.ClientType {
	if c.kind == phone {
		return pb.ClientType_CLIENT_TYPE_IOS
	}
	return pb.ClientType_CLIENT_TYPE_WINDOWS
}

// connect connects to a message server.
func (c *client) connect() {
	c.trying, c.since = true, c.w.now()
	p := c.w.procs[c.w.msgs[c.src.rand.IntN(len(c.w.msgs))]]
	if c.only != "" {
		p = c.w.procs[c.only]
	}
	c.w.after(c.src.between(minLatency, maxLatency), c.name+" connects", func() {
		c.trying = false
		if c.conn != nil {
			return
		}
		if !p.up || p.stopping {
			c.again = c.w.now() + c.src.between(200*time.Millisecond, 2*time.Second)
			return
		}
		c.gen++
		conn := c.w.net.open(c.name, nil, p)
		conn.back.to = &clientEnd{c: c, gen: c.gen}
		if !conn.accept(p.clients[c.src.rand.IntN(len(p.clients))]) {
			c.again = c.w.now() + time.Second
			return
		}
		c.conn = conn
		if !c.persists {
			c.seq = 0
		}
		c.since, c.lastIn = c.w.now(), c.w.now()
		c.send(&pb.IMHeartBeat{}, 0)
		c.send(pb.IMLoginReq_builder{UserName: proto.String(fmt.Sprintf("u%d", c.user)),
			Password:     proto.String(password),
			OnlineStatus: pb.UserStatType_USER_STATUS_ONLINE.Enum(),
			ClientType:   c.clientType().Enum()}.Build(), c.nextSeq())
	})
}

func (c *client) nextSeq() uint16 {
	c.seq++
	return c.seq
}

func (c *client) send(m pb.Message, seq uint16) {
	frame, err := pdu.Append(nil, seq, m)
	if err != nil {
		panic(err)
	}
	c.lastOut = c.w.now()
	c.conn.there.send(frame)
}

// hangUp closes the connection and stays away for d.
func (c *client) hangUp(d time.Duration) {
	if c.conn == nil {
		return
	}
	c.conn.there.finish()
	c.lost(d)
}

// lost ends the connection.
func (c *client) lost(d time.Duration) {
	c.w.checkDrained(c)
	if c.online {
		end := c.w.now()
		if c.conn.harmed != 0 {
			end = c.conn.harmed
		}
		c.w.sessions = append(c.w.sessions, online{c, c.gen, c.since, end})
	}
	c.conn, c.online, c.again, c.asked = nil, false, c.w.now()+d, nil
	for _, m := range slices.Clone(c.out) {
		switch {
		case c.kind == ours:
			m.state, m.repeat, m.seq, m.tries = waiting, m.gen != 0, 0, 0
		case c.persists && c.w.now()-m.first < resentWithin:
			m.state, m.tries = waiting, 0
		case m.gen != 0:
			c.end(m)
		}
	}
}

// end forgets a text that is acked or given up.
func (c *client) end(m *text) {
	m.ended = true
	c.out = slices.DeleteFunc(c.out, func(o *text) bool { return o == m })
}

// write queues a text.
func (c *client) write(to uint32) {
	n := len(c.w.texts)
	m := &text{from: c, to: to, n: n, body: fmt.Sprintf("%s-%d", c.name, n)}
	c.w.texts[m.body] = m
	c.out = append(c.out, m)
	c.pump()
}

// pump sends the texts that may leave.
func (c *client) pump() {
	if !c.online {
		return
	}
	now, held := c.w.now(), map[uint32]bool{}
	for i, m := range c.out {
		oldest := !slices.ContainsFunc(c.out[:i], func(o *text) bool { return o.to == m.to })
		switch {
		case c.kind != ours:
			if m.state == waiting {
				c.transmit(m)
			}
		case m.state == resting, m.state == flying && (m.repeat || now-m.last > holdAfter),
			m.repeat && !oldest:
			held[m.to] = true
		case m.state == flying || held[m.to]:
		default:
			c.transmit(m)
			held[m.to] = held[m.to] || m.repeat
		}
	}
}

func (c *client) transmit(m *text) {
	now := c.w.now()
	if m.seq == 0 {
		m.seq = c.nextSeq()
	}
	if m.firstGen == 0 {
		m.firstGen, m.first = c.gen, now
	}
	m.gen, m.last, m.state = c.gen, now, flying
	m.tries++
	data := &pb.MsgData{FromUserID: c.user, ToSessionID: m.to, Data: []byte(m.body),
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT}
	if isGroup(m.to) {
		data.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
	}
	if c.kind == ours {
		data.ClientMsgID, data.WantRefusal = []byte(m.body), true
	}
	c.send(data, m.seq)
}

// tick does what is due. It is called once a second.
func (c *client) tick() {
	now := c.w.now()
	switch {
	case c.conn == nil:
		if !c.trying && !c.quit && now >= c.again {
			c.connect()
		}
		return
	case !c.online && now-c.since > enterLimit, now-c.lastIn > silenceLimit:
		c.hangUp(c.src.between(100*time.Millisecond, time.Second))
		return
	case now-c.lastOut >= beatEvery:
		c.send(&pb.IMHeartBeat{}, 0)
	}
	for i, m := range slices.Clone(c.out) {
		if m.state == flying {
			c.overdue(i, m, now)
		}
	}
	c.maybeAsk()
	c.pump()
}

// overdue handles a missing ack.
func (c *client) overdue(i int, m *text, now time.Duration) {
	switch c.kind {
	case ours:
		if now-m.last < ackTimeout {
			return
		}
		for _, o := range c.out[i:] {
			if o.to == m.to && o.state == flying {
				o.state, o.repeat = waiting, true
			}
		}
	case windows:
		switch {
		case now-m.last < windowsWait:
		case m.tries == 1:
			c.transmit(m)
		default:
			c.end(m)
		}
	case phone:
		if now-m.last > 3*windowsWait {
			c.end(m)
		}
	}
}

// receive takes a frame.
func (c *client) receive(frame []byte) {
	c.lastIn = c.w.now()
	h := pdu.ParseHeader(frame)
	decoded, err := pdu.Decode(h.Command, frame[pdu.HeaderLen:])
	if err != nil {
		c.w.fail("frame", "%s received what does not decode: %v", c.name, err)
		return
	}
	switch m := decoded.(type) {
	case *pb.IMLoginRes:
		if m.GetResultCode() != pb.ResultType_REFUSE_REASON_NONE {
			c.hangUp(c.src.between(500*time.Millisecond, 3*time.Second))
			return
		}
		c.online, c.since, c.told = true, c.lastIn, map[uint32]pb.UserStatType{}
		c.pump()
	case *pb.MsgData:
		c.got = append(c.got, &delivery{gen: c.gen, at: c.lastIn, from: m.FromUserID,
			to: m.ToSessionID, id: m.MsgID, body: string(m.Data)})
		c.w.delivered(c, c.got[len(c.got)-1])
		if c.kind != phone {
			c.ack(m)
		}
	case *pb.IMGroupChangeMemberNotify:
		c.heard = append(c.heard, heard{c.gen, m.GetGroupId(), m.GetCurUserIdList()})
	case *pb.IMGroupChangeMemberRsp:
		if m.GetResultCode() == 0 {
			c.heard = append(c.heard, heard{c.gen, m.GetGroupId(), m.GetCurUserIdList()})
		}
	case *pb.IMUserStatNotify:
		if c.told != nil {
			c.told[m.GetUserStat().GetUserId()] = m.GetUserStat().GetStatus()
		}
	case *pb.IMMsgDataAck:
		c.answered(h.Seq, m)
	case *pb.IMGetMsgListRsp:
		c.answeredQuery(h.Seq)
	case *pb.IMKickUser:
		c.hangUp(c.src.between(time.Second, 3*time.Second))
	}
}

// ack acknowledges a delivery.
func (c *client) ack(m *pb.MsgData) {
	peer := m.FromUserID
	if peer == c.user || m.Type.IsGroup() {
		peer = m.ToSessionID
	}
	c.send(pb.IMMsgDataAck_builder{UserId: proto.Uint32(c.user), SessionId: proto.Uint32(peer),
		MsgId: proto.Uint32(m.MsgID), SessionType: sessionType(peer).Enum()}.Build(), 0)
}

func sessionType(peer uint32) pb.SessionType {
	if isGroup(peer) {
		return pb.SessionType_SESSION_TYPE_GROUP
	}
	return pb.SessionType_SESSION_TYPE_SINGLE
}

// readAll tells the server that all conversations were read up to the newest text
// received.
func (c *client) readAll() {
	newest := map[uint32]uint32{}
	for _, d := range c.got {
		peer := d.from
		if d.from == c.user || isGroup(d.to) {
			peer = d.to
		}
		newest[peer] = max(newest[peer], d.id)
	}
	for id, g := range c.w.db.groups { // some texts are in the history only
		if newest[id] == 0 && slices.Contains(g.Members, c.user) {
			newest[id] = c.w.db.conv(im.GroupKey(id)).last
		}
	}
	for _, peer := range slices.Sorted(maps.Keys(newest)) {
		c.read(peer, newest[peer])
	}
}

// read tells the server that a conversation was read.
func (c *client) read(peer, id uint32) {
	c.send(pb.IMMsgDataReadAck_builder{UserId: proto.Uint32(c.user), SessionId: proto.Uint32(peer),
		MsgId: proto.Uint32(id), SessionType: sessionType(peer).Enum()}.Build(), 0)
}

// change adds a user to a group or removes it.
func (c *client) change(group, user uint32, t pb.GroupModifyType) {
	if c.online {
		c.send(pb.IMGroupChangeMemberReq_builder{UserId: proto.Uint32(c.user), GroupId: &group,
			ChangeType: t.Enum(), MemberIdList: []uint32{user}}.Build(), c.nextSeq())
	}
}

// answered takes the answer to a text.
func (c *client) answered(seq uint16, ack *pb.IMMsgDataAck) {
	i := slices.IndexFunc(c.out, func(m *text) bool { return m.gen == c.gen && m.seq == seq })
	if i < 0 {
		return // a second ack
	}
	m := c.out[i]
	if ack.GetMsgId() != 0 {
		m.id, m.acked = ack.GetMsgId(), c.w.now()
		c.w.ackedText(m)
		c.end(m)
		c.pump()
		return
	}
	if ack.GetRefusal() == pb.MsgRefusal_MSG_REFUSAL_REJECTED {
		if !isGroup(m.to) || c.w.db.groups[m.to].always(c.user, m.first, c.w.now()) {
			c.w.fail("rejected", "text %s was rejected", m.body)
		}
		c.end(m)
		c.pump()
		return
	}
	if c.w.stock != "" && isGroup(m.to) &&
		!c.w.db.groups[m.to].always(c.user, m.first, c.w.now()) {
		c.end(m) // a server of the first implementation does not say that it is rejected
		c.pump()
		return
	}
	m.state, m.repeat = resting, true
	c.w.after(refusedPause, c.name+" rested", func() {
		if m.state == resting {
			m.state = waiting
			c.pump()
		}
	})
}
