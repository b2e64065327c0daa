package bench

import (
	"errors"
	"fmt"
	"io"
	"net/netip"

	"teamtalk/bench/swarm"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// client is the connection of one user. Loop only.
type client struct {
	w     *worker
	conn  *swarm.Conn
	index int // among all users of the run, from 0
	kind  pb.ClientType
	id    uint32 // of the user, known after the first login
	state clientState

	due      int64 // time at which the login or logout was due
	beatSent int64 // when the heartbeat without an echo so far was sent; 0: none
	deadline int64 // of login or logout

	requests requests
	outboxes []outbox
	inboxes  []inbox
	damaged  int64 // deliveries with an unreadable stamp, which belong to no known message
}

type clientState uint8

const (
	offline    clientState = iota
	connecting             // until its login is answered
	online
	leaving // until its logout is answered
	left    // until the server closes
)

// outbox is a conversation that a client writes to.
type outbox struct {
	conv   uint32
	sender uint16 // position among the senders of the conversation
	group  bool
	to     uint32 // user or group
	sent   uint32 // number of the last message
	fanout int64  // receivers of each message
}

// inbox is a conversation whose messages a client receives.
type inbox struct {
	conv    uint32
	streams []stream // by sender
	// position of the client itself among the senders, whose messages the server does not
	// send back; -1: none
	own int
}

// play handles the events of clients for a kind of scenario. Loop only.
type play interface {
	// loggedIn is called after a login that succeeded.
	loggedIn(c *client)
	// gone is called when the connection ended, or could not be established. err is nil
	// after a logout.
	gone(c *client, err error)
	// answered is called for the answer to a request, except acks of messages. The
	// latency is already recorded.
	answered(c *client, r request, h pdu.Header, body []byte)
	// acked is called for the ack of a message.
	acked(c *client, r request)
	// told is called for frames that the server sends on its own, except messages.
	told(c *client, h pdu.Header, body []byte)
	// over is called when the run has ended. Whatever is still in flight has failed.
	over()
	// delivered is called for each message that arrived, valid or not.
	delivered(c *client, d *delivery)
}

// login starts to connect and log in. due is the time at which that was scheduled.
func (c *client) login(due int64) {
	c.state, c.due = connecting, due
	c.deadline = c.w.loop.Now() + int64(c.w.part.scenario.Timeout)
	c.w.deadlines.push(c)
	c.conn = c.w.loop.Dial(c.addr(), c)
}

// addr returns the address of the client's message server.
func (c *client) addr() netip.AddrPort { return c.w.part.addrs[c.index%len(c.w.part.addrs)] }

// logout sends a logout request.
func (c *client) logout() {
	now := c.w.loop.Now()
	c.state, c.due = leaving, now
	c.deadline = now + int64(c.w.part.scenario.Timeout)
	c.w.deadlines.push(c)
	c.conn.Write(c.w.part.logoutFrame)
}

// hangUp closes the connection without a logout.
func (c *client) hangUp() {
	c.state = offline
	c.forget()
	c.conn.Close()
}

// Open sends the login.
func (c *client) Open(*swarm.Conn) {
	s := c.w.part.scenario
	m := &pb.IMLoginReq{}
	m.SetUserName(s.UserName(s.First + c.index))
	m.SetPassword(c.w.part.password)
	m.SetOnlineStatus(pb.UserStatType_USER_STATUS_ONLINE)
	m.SetClientType(c.kind)
	m.SetClientVersion("bench")
	if err := c.conn.Send(1, m); err != nil {
		c.end(err)
	}
}

// Close records the end of the connection.
func (c *client) Close(_ *swarm.Conn, err error) {
	if errors.Is(err, io.EOF) {
		err = errors.New("the server closed the connection")
		if c.state == left {
			err = nil
		}
	}
	c.over(err)
}

// end closes the connection and records err.
func (c *client) end(err error) {
	c.conn.Close()
	c.over(err)
}

func (c *client) over(err error) {
	if c.state == offline {
		return
	}
	was := c.state
	c.state = offline
	c.forget()
	if err != nil {
		c.w.checks.Broken++
		c.w.checks.example("user %s, %s: %v", c.name(),
			[...]string{"", "logging in", "online", "logging out", "logged out"}[was], err)
	}
	c.w.play.gone(c, err)
}

// forget abandons the requests of a connection that has ended.
func (c *client) forget() {
	c.requests.waiting(func(r request) { c.w.giveUp(c, r) })
	c.w.waiting -= int64(c.requests.open)
	c.requests = requests{}
	if c.beatSent != 0 {
		c.w.beats--
		c.beatSent = 0
	}
}

// refuse counts a request that the server answered with an error, or not at all.
func (c *client) refuse(format string, args ...any) {
	c.w.checks.Refused++
	c.w.checks.example("user %s: %s", c.name(), fmt.Sprintf(format, args...))
}

func (c *client) name() string {
	s := c.w.part.scenario
	return s.UserName(s.First + c.index)
}

// Frame handles a frame of the server.
func (c *client) Frame(_ *swarm.Conn, h pdu.Header, body []byte) {
	switch h.Command {
	case pb.CmdMsgData:
		c.deliver(body)
	case pb.CmdMsgDataAck:
		c.acked(h.Seq, body)
	case pb.CmdHeartBeat:
		c.beaten()
	case pb.CmdLoginRes:
		c.loginAnswered(body)
	case pb.CmdLogoutRsp:
		if c.state == leaving {
			c.w.took(opLogout, c.due)
			c.w.rec.counts[countLogouts]++
			c.state = left // the server closes the connection
		}
	case pb.CmdKickUser:
		c.w.checks.example("user %s was kicked: the same user logged in elsewhere", c.name())
	default:
		if h.Seq == 0 {
			c.w.play.told(c, h, body)
			return
		}
		if r := c.requests.answered(h.Seq); r.op == opAck {
			c.w.waiting--
			c.refuse("message %d in conversation %d answered with command %#x, which is no ack",
				r.number, r.conv, uint32(h.Command))
		} else if r.op != opNone {
			c.w.waiting--
			c.w.took(r.op, r.due)
			c.w.rec.counts[countAnswered]++
			c.w.play.answered(c, r, h, body)
		}
	}
}

func (c *client) loginAnswered(body []byte) {
	if c.state != connecting {
		return
	}
	code, text, user, ok := loginOf(body)
	switch {
	case !ok || code == pb.ResultType_REFUSE_REASON_NONE && user == 0:
		c.end(errors.New("the answer to the login is invalid"))
	case code != pb.ResultType_REFUSE_REASON_NONE:
		c.refused(&loginError{code, text})
	default:
		c.state, c.id = online, user
		c.w.took(opLogin, c.due)
		c.w.rec.counts[countLogins]++
		c.w.play.loggedIn(c)
	}
}

// loginError is a login that the server refused.
type loginError struct {
	code pb.ResultType
	text string
}

func (e *loginError) Error() string {
	if e.code == pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED {
		return "login refused: no such user, or another password"
	}
	return fmt.Sprintf("login refused: %v %s", e.code, e.text)
}

// refused ends a login that failed.
func (c *client) refused(err error) {
	c.refuse("%v", err)
	c.state = offline
	c.conn.Close()
	c.w.play.gone(c, err)
}

// expired is called when a login or logout took too long. when names the limit.
func (c *client) expired(when string) {
	if c.state == connecting {
		c.refused(errors.New("login not answered " + when))
		return
	}
	c.end(errors.New("logout not answered or not closed " + when))
}

// beat sends a heartbeat.
func (c *client) beat(now int64) {
	if c.state != online {
		return
	}
	if c.beatSent != 0 {
		if now-c.beatSent < int64(c.w.part.scenario.Timeout) {
			return
		}
		c.beatLost()
	}
	c.beatSent = now
	c.w.beats++
	c.conn.Write(c.w.part.beatFrame)
}

// beatLost counts a heartbeat without an echo.
func (c *client) beatLost() {
	c.refuse("heartbeat of %s not echoed", clock(c.beatSent))
	c.w.beats--
	c.beatSent = 0
}

func (c *client) beaten() {
	if c.beatSent == 0 {
		return
	}
	c.w.beats--
	c.w.took(opHeartbeat, c.beatSent)
	c.w.rec.counts[countHeartbeats]++
	c.beatSent = 0
}

func (c *client) isOnline() bool { return c.state == online }

// request sends m and records that an answer is due.
func (c *client) request(o op, due int64, m pb.Message) { c.requestNumber(o, 0, due, m) }

// requestNumber is request with a number that identifies the answer.
func (c *client) requestNumber(o op, number uint32, due int64, m pb.Message) {
	seq := c.expect(request{due: due, op: o, number: number})
	if err := c.conn.Send(seq, m); err != nil {
		c.end(err)
	}
}

func (c *client) expect(r request) uint16 {
	seq, lost := c.requests.add(r)
	if lost.op == opNone {
		c.w.waiting++
	} else {
		c.w.giveUp(c, lost)
	}
	return seq
}

// write sends the next message of an outbox.
func (c *client) write(o *outbox, due int64) {
	w := c.w
	if c.state != online {
		return
	}
	if w.loop.Now()-due > lateness {
		w.checks.Behind++
	}
	o.sent++
	st := stamp{run: w.part.run, conv: o.conv, sender: o.sender, user: c.id, number: o.sent,
		due: due - w.plan.Skew}
	st.put(w.text)
	w.msg.FromUserID, w.msg.ToSessionID, w.msg.Data, w.msg.Type = c.id, o.to, w.text,
		pb.MsgType_MSG_TYPE_SINGLE_TEXT
	w.rec.counts[countSent]++
	if o.group {
		w.msg.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
		w.rec.counts[countGroupSent]++
	}
	w.expected += o.fanout
	seq := c.expect(request{due: due, conv: o.conv, number: o.sent, sender: o.sender, op: opAck})
	_ = c.conn.Send(seq, &w.msg) // it always encodes
}

// lateness is the delay from which the generator counts as behind its schedule, in
// nanoseconds.
const lateness = 10e6

func (c *client) acked(seq uint16, body []byte) {
	r := c.requests.answered(seq)
	if r.op != opAck {
		if r.op != opNone {
			c.w.waiting--
			c.refuse("%s of %s answered with an ack", opNames[r.op], clock(r.due))
		} else if seq != 0 {
			c.w.checks.Duplicates++
			c.w.checks.example("user %s: an ack (seq %d) for no pending message", c.name(), seq)
		}
		return
	}
	c.w.waiting--
	if _, id, ok := ackOf(body); !ok || id == 0 {
		c.refuse("message %d in conversation %d acked without an id, so it is not stored", r.number,
			r.conv)
	}
	c.w.took(opAck, r.due)
	c.w.rec.counts[countAcked]++
	c.w.play.acked(c, r)
}

// deliver checks a message that arrived, and acks it.
func (c *client) deliver(body []byte) {
	w := c.w
	d := &w.delivery
	if !d.parse(body) {
		c.corrupt("a message that cannot be parsed")
		return
	}
	if w.part.scenario.Acks {
		kind, session := pb.SessionType_SESSION_TYPE_SINGLE, d.from
		if d.kind.IsGroup() {
			kind, session = pb.SessionType_SESSION_TYPE_GROUP, d.to
		}
		w.frame = appendAck(w.frame[:0], pb.CmdMsgDataAck, c.id, session, d.id, kind)
		c.conn.Write(w.frame)
	}
	c.check(d)
	w.play.delivered(c, d)
}

// check finds out which message d is, and whether it arrived correctly.
func (c *client) check(d *delivery) {
	w := c.w
	var st stamp
	if !st.parse(d.data) {
		if w.expects(c) {
			c.corrupt("message %d of user %d: the beginning of its text was changed", d.id, d.from)
			c.damaged++
		}
		return
	}
	if st.run != w.part.run {
		return // from another run
	}
	st.due += w.plan.Skew
	s := c.stream(&st)
	if s == nil || st.user != d.from {
		c.corrupt("message %d of user %d in conversation %d arrived at the wrong user, or from "+
			"user %d", st.number, st.user, st.conv, d.from)
		return
	}
	switch s.came(st.number, d.id) {
	case duplicate:
		w.checks.Duplicates++
		w.checks.example("user %s: message %d of user %d in conversation %d arrived again "+
			"(msg_id %d)", c.name(), st.number, st.user, st.conv, d.id)
		return
	case reordered:
		w.checks.Reordered++
		w.checks.example("user %s: message %d of user %d in conversation %d (msg_id %d) arrived "+
			"after a later one", c.name(), st.number, st.user, st.conv, d.id)
	}
	if string(d.data[stampLen:]) != string(w.text[stampLen:]) {
		c.corrupt("message %d of user %d in conversation %d: its text was changed", st.number,
			st.user, st.conv)
	}
	w.delivered++
	w.took(opDelivery, st.due)
	w.rec.counts[countDelivered]++
}

func (c *client) corrupt(format string, args ...any) {
	c.w.checks.Corrupt++
	c.w.checks.example("user %s: %s", c.name(), fmt.Sprintf(format, args...))
}

// stream returns the record of the deliveries of a stamp's sender; nil when the
// conversation is not one of this client's.
func (c *client) stream(st *stamp) *stream {
	for i := range c.inboxes {
		if in := &c.inboxes[i]; in.conv == st.conv && int(st.sender) < len(in.streams) {
			return &in.streams[st.sender]
		}
	}
	return nil
}
