package persona

import (
	"cmp"
	"context"
	"slices"
	"time"

	"teamtalk/proto/pb"
)

// Peer is the other side of a conversation: a user or a group.
type Peer struct {
	ID    uint32
	Group bool
}

func peerOf(t pb.SessionType, id uint32) Peer {
	return Peer{ID: id, Group: t == pb.SessionType_SESSION_TYPE_GROUP}
}

func (p Peer) sessionType() pb.SessionType {
	if p.Group {
		return pb.SessionType_SESSION_TYPE_GROUP
	}
	return pb.SessionType_SESSION_TYPE_SINGLE
}

// Sent is a message that the user sent from this device.
type Sent struct {
	To   Peer
	Type pb.MsgType
	Data string
	At   time.Time

	ID     uint32        // of the ack; 0 without one
	Took   time.Duration // from sending to the ack
	Failed bool          // the persona gave up; an ack may still come
	Resent bool          // it was sent again
	Gone   bool          // the connection it was last sent on has ended, or there was none

	seq uint16
	via *conn // nil: there was none
}

// Shown is a message on the screen.
type Shown struct {
	ID     uint32
	From   uint32
	Type   pb.MsgType
	Data   string
	Pushed bool // it came as a delivery, and not from a list or with its ack
}

// chat is a conversation.
type chat struct {
	shown  []Shown
	open   bool
	unread int
	read   uint32 // id up to which it is read
	pushed uint32 // id of the newest delivery
}

func (c *Client) chat(p Peer) *chat {
	if c.chats[p] == nil {
		c.chats[p] = &chat{}
	}
	return c.chats[p]
}

// Send sends a message and returns at once.
func (c *Client) Send(to Peer, t pb.MsgType, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &Sent{To: to, Type: t, Data: string(data), At: time.Now(), seq: c.nextSeq()}
	c.sends = append(c.sends, s)
	c.transmit(s)
}

// Text sends a text, enciphered or not by the caller.
func (c *Client) Text(to Peer, body []byte) {
	t := pb.MsgType_MSG_TYPE_SINGLE_TEXT
	if to.Group {
		t = pb.MsgType_MSG_TYPE_GROUP_TEXT
	}
	c.Send(to, t, body)
}

func (c *Client) transmit(s *Sent) {
	c.pending = append(c.pending, &request{seq: s.seq, want: pb.CmdMsgDataAck,
		got: func(m pb.Message) { c.acked(s, m.(*pb.IMMsgDataAck).GetMsgId()) }})
	s.via = c.conn
	c.write(s.seq, &pb.MsgData{FromUserID: c.self.GetUserId(), ToSessionID: s.To.ID,
		CreateTime: uint32(time.Now().Add(c.opt.ClockAhead).Unix()),
		Type:       s.Type, Data: []byte(s.Data)})
}

func (c *Client) acked(s *Sent, id uint32) {
	if s.ID != 0 {
		if s.ID != id {
			c.fault("one message acked with the ids %d and %d", s.ID, id)
		}
		return
	}
	s.ID, s.Took = id, time.Since(s.At)
	ch := c.chat(s.To)
	if ch.index(id) < 0 {
		ch.insert(Shown{ID: id, From: c.self.GetUserId(), Type: s.Type, Data: s.Data})
	}
}

// resend repeats, or gives up, what has no ack.
func (c *Client) resend(now time.Time) {
	again := time.Duration(float64(c.row.Resend) * c.opt.Resend)
	for _, s := range c.sends {
		age := now.Sub(s.At)
		switch {
		case s.ID != 0 || s.Failed:
		case again > 0 && age >= again && !s.Resent:
			s.Resent = true
			c.stats.Resent++
			c.transmit(s)
		case c.row.Fail > 0 && age >= c.row.Fail:
			s.Failed = true
			c.changes()
		}
	}
}

// Sends returns copies of all messages that were sent.
func (c *Client) Sends() []Sent {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]Sent, len(c.sends))
	for i, s := range c.sends {
		all[i] = *s
		all[i].Gone = s.via == nil || s.via != c.conn
	}
	return all
}

func (ch *chat) index(id uint32) int {
	return slices.IndexFunc(ch.shown, func(s Shown) bool { return s.ID == id })
}

func (ch *chat) insert(s Shown) {
	i, _ := slices.BinarySearchFunc(ch.shown, s.ID, func(o Shown, id uint32) int {
		return cmp.Compare(o.ID, id+1) // behind those with the same id
	})
	ch.shown = slices.Insert(ch.shown, i, s)
}

// received shows a delivery and answers it.
func (c *Client) received(m *pb.MsgData) {
	self := c.self.GetUserId()
	p := Peer{ID: m.FromUserID}
	switch {
	case m.Type.IsGroup():
		p = Peer{ID: m.ToSessionID, Group: true}
	case m.FromUserID == self:
		p.ID = m.ToSessionID
	}
	ch := c.chat(p)
	c.stats.Pushed++
	s := Shown{ID: m.MsgID, From: m.FromUserID, Type: m.Type, Data: string(m.Data), Pushed: true}
	c.show(ch, s)
	if m.FromUserID != self && !ch.open {
		ch.unread++
	}
	c.receipt(p, ch, m)
	if ch.open && m.FromUserID != self {
		c.readAck(p, m.MsgID)
	}
}

// show adds a delivery to the screen, and counts what should not have come.
func (c *Client) show(ch *chat, s Shown) {
	i := ch.index(s.ID)
	if i < 0 {
		if s.ID < ch.pushed {
			c.stats.Disordered++
		}
		ch.pushed = max(ch.pushed, s.ID)
		ch.insert(s)
		return
	}
	if !ch.shown[i].Pushed && ch.shown[i].From != c.self.GetUserId() {
		ch.shown[i].Pushed = true // from a list, which overlaps: merged by id
		return
	}
	c.stats.Repeated++
	once := c.row.Repeated == DroppedByID || c.row.Repeated == DroppedWhileOpen && ch.open
	if !once {
		ch.insert(s)
	}
}

// receipt sends the ack of a delivery in the persona's form.
func (c *Client) receipt(p Peer, ch *chat, m *pb.MsgData) {
	self := c.self.GetUserId()
	form := c.row.Single
	switch {
	case p.Group:
		form = c.row.Group
	case m.FromUserID == self:
		form = c.row.Own
	case c.row.OpenReadOnly && ch.open:
		form = NoReceipt
	}
	user, session := uint32(0), p.ID
	switch form {
	case NoReceipt:
		return
	case SelfReceipt:
		user, session = p.ID, self
	case RightReceipt:
		user = self
	}
	c.write(c.nextSeq(), pb.IMMsgDataAck_builder{UserId: &user, SessionId: &session,
		MsgId: &m.MsgID, SessionType: p.sessionType().Enum()}.Build())
}

func (c *Client) readAck(p Peer, id uint32) {
	ch := c.chat(p)
	ch.unread, ch.read = 0, max(ch.read, id)
	c.stats.ReadAcks++
	c.write(c.nextSeq(), pb.IMMsgDataReadAck_builder{UserId: new(c.self.GetUserId()),
		SessionId: &p.ID, MsgId: &id, SessionType: p.sessionType().Enum()}.Build())
}

// readElsewhere takes the notify that another device of the user read a conversation.
func (c *Client) readElsewhere(m *pb.IMMsgDataReadNotify) {
	c.stats.ReadNotify++
	p := peerOf(m.GetSessionType(), m.GetSessionId())
	ch := c.chat(p)
	news := m.GetMsgId() > ch.read
	ch.read, ch.unread = max(ch.read, m.GetMsgId()), 0
	if c.row.ReadNotify == NotifyAcked || c.row.ReadNotify == NotifyAckedOnce && news {
		c.readAck(p, m.GetMsgId())
	}
}

// listed shows what a list has and the screen has not.
func (c *Client) listed(p Peer, m *pb.IMGetMsgListRsp) {
	ch := c.chat(p)
	for _, i := range m.GetMsgList() {
		if ch.index(i.GetMsgId()) < 0 {
			ch.insert(Shown{ID: i.GetMsgId(), From: i.GetFromSessionId(), Type: i.GetMsgType(),
				Data: string(i.GetMsgData())})
		}
	}
}

// Open opens a conversation and marks it as read. Messages that come are read at once until
// CloseChat.
func (c *Client) Open(p Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := c.chat(p)
	ch.open = true
	if n := len(ch.shown); n > 0 {
		c.readAck(p, ch.shown[n-1].ID)
	}
}

// CloseChat closes a conversation.
func (c *Client) CloseChat(p Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chat(p).open = false
}

// historyPage is how many messages History asks for at a time.
const historyPage = 100

// History scrolls back through a conversation to its begin: afterwards the screen has all of it.
func (c *Client) History(ctx context.Context, p Peer) error {
	latest := pb.IMGetLatestMsgIdReq_builder{UserId: new(c.Self()),
		SessionType: p.sessionType().Enum(), SessionId: &p.ID}.Build()
	m, err := c.Ask(ctx, latest, pb.CmdGetLatestMsgIdRsp)
	if err != nil {
		return err
	}
	begin := m.(*pb.IMGetLatestMsgIdRsp).GetLatestMsgId()
	for begin > 0 {
		page := make(chan *pb.IMGetMsgListRsp, 1)
		c.mu.Lock()
		c.fetch(p, begin, historyPage, 0, func(m *pb.IMGetMsgListRsp) { page <- m })
		c.mu.Unlock()
		select {
		case m := <-page:
			list := m.GetMsgList()
			if len(list) == 0 {
				return nil
			}
			begin = list[len(list)-1].GetMsgId() - 1
		case <-ctx.Done():
			return ErrNoAnswer
		}
	}
	return nil
}

// Shown returns the screen of a conversation, oldest message first.
func (c *Client) Shown(p Peer) []Shown {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.chat(p).shown)
}

// Unread returns how many messages the client counts as unread.
func (c *Client) Unread(p Peer) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chat(p).unread
}
