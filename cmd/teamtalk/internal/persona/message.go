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
	Again  time.Time     // when it was sent again
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

// chats holds the conversations and the messages sent.
type chats struct {
	*device
	sends  []*Sent
	byPeer map[Peer]*chat
}

func (cs *chats) chat(p Peer) *chat {
	if cs.byPeer[p] == nil {
		cs.byPeer[p] = &chat{}
	}
	return cs.byPeer[p]
}

// Send sends a message and returns at once.
func (cs *chats) Send(to Peer, t pb.MsgType, data []byte) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	s := &Sent{To: to, Type: t, Data: string(data), At: time.Now(), seq: cs.nextSeq()}
	cs.sends = append(cs.sends, s)
	cs.transmit(s)
}

// Text sends a text, enciphered or not by the caller.
func (cs *chats) Text(to Peer, body []byte) {
	t := pb.MsgType_MSG_TYPE_SINGLE_TEXT
	if to.Group {
		t = pb.MsgType_MSG_TYPE_GROUP_TEXT
	}
	cs.Send(to, t, body)
}

func (cs *chats) transmit(s *Sent) {
	cs.pending = append(cs.pending, &request{seq: s.seq, want: pb.CmdMsgDataAck,
		got: func(m pb.Message) { cs.acked(s, m.(*pb.IMMsgDataAck).GetMsgId()) }})
	s.via = cs.conn
	cs.write(s.seq, &pb.MsgData{FromUserID: cs.self.GetUserId(), ToSessionID: s.To.ID,
		CreateTime: uint32(time.Now().Add(cs.opt.ClockAhead).Unix()),
		Type:       s.Type, Data: []byte(s.Data)})
}

func (cs *chats) acked(s *Sent, id uint32) {
	if s.ID != 0 {
		if s.ID != id {
			cs.fault("one message acked with the ids %d and %d", s.ID, id)
		}
		return
	}
	s.ID, s.Took = id, time.Since(s.At)
	ch := cs.chat(s.To)
	if ch.index(id) < 0 {
		ch.insert(Shown{ID: id, From: cs.self.GetUserId(), Type: s.Type, Data: s.Data})
	}
}

// resend repeats, or gives up, what has no ack.
func (cs *chats) resend(now time.Time) {
	again := time.Duration(float64(cs.row.Resend) * cs.opt.Resend)
	for _, s := range cs.sends {
		age := now.Sub(s.At)
		switch {
		case s.ID != 0 || s.Failed:
		case again > 0 && age >= again && !s.Resent:
			s.Resent, s.Again = true, now
			cs.stats.Resent++
			cs.transmit(s)
		case cs.row.Fail > 0 && age >= cs.row.Fail:
			s.Failed = true
			cs.changes()
		}
	}
}

// Sends returns copies of all messages that were sent.
func (cs *chats) Sends() []Sent {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	all := make([]Sent, len(cs.sends))
	for i, s := range cs.sends {
		all[i] = *s
		all[i].Gone = s.via == nil || s.via != cs.conn
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
func (cs *chats) received(m *pb.MsgData) {
	self := cs.self.GetUserId()
	p := Peer{ID: m.FromUserID}
	switch {
	case m.Type.IsGroup():
		p = Peer{ID: m.ToSessionID, Group: true}
	case m.FromUserID == self:
		p.ID = m.ToSessionID
	}
	ch := cs.chat(p)
	cs.stats.Pushed++
	s := Shown{ID: m.MsgID, From: m.FromUserID, Type: m.Type, Data: string(m.Data), Pushed: true}
	cs.show(ch, s)
	if m.FromUserID != self && !ch.open {
		ch.unread++
	}
	cs.receipt(p, ch, m)
	if ch.open && m.FromUserID != self {
		cs.readAck(p, m.MsgID)
	}
}

// show adds a delivery to the screen, and counts what should not have come.
func (cs *chats) show(ch *chat, s Shown) {
	i := ch.index(s.ID)
	if i < 0 {
		if s.ID < ch.pushed {
			cs.stats.Disordered++
		}
		ch.pushed = max(ch.pushed, s.ID)
		ch.insert(s)
		return
	}
	if !ch.shown[i].Pushed && ch.shown[i].From != cs.self.GetUserId() {
		ch.shown[i].Pushed = true // from a list, which overlaps: merged by id
		return
	}
	cs.stats.Repeated++
	once := cs.row.Repeated == DroppedByID || cs.row.Repeated == DroppedWhileOpen && ch.open
	if !once {
		ch.insert(s)
	}
}

// receipt sends the ack of a delivery in the persona's form.
func (cs *chats) receipt(p Peer, ch *chat, m *pb.MsgData) {
	self := cs.self.GetUserId()
	form := cs.row.Single
	switch {
	case p.Group:
		form = cs.row.Group
	case m.FromUserID == self:
		form = cs.row.Own
	case cs.row.OpenReadOnly && ch.open:
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
	cs.write(cs.nextSeq(), pb.IMMsgDataAck_builder{UserId: &user, SessionId: &session,
		MsgId: &m.MsgID, SessionType: p.sessionType().Enum()}.Build())
}

func (cs *chats) readAck(p Peer, id uint32) {
	ch := cs.chat(p)
	ch.unread, ch.read = 0, max(ch.read, id)
	cs.stats.ReadAcks++
	cs.write(cs.nextSeq(), pb.IMMsgDataReadAck_builder{UserId: new(cs.self.GetUserId()),
		SessionId: &p.ID, MsgId: &id, SessionType: p.sessionType().Enum()}.Build())
}

// readElsewhere takes the notify that another device of the user read a conversation.
func (cs *chats) readElsewhere(m *pb.IMMsgDataReadNotify) {
	cs.stats.ReadNotify++
	p := peerOf(m.GetSessionType(), m.GetSessionId())
	ch := cs.chat(p)
	news := m.GetMsgId() > ch.read
	ch.read, ch.unread = max(ch.read, m.GetMsgId()), 0
	if cs.row.ReadNotify == NotifyAcked || cs.row.ReadNotify == NotifyAckedOnce && news {
		cs.readAck(p, m.GetMsgId())
	}
}

// listed shows what a list has and the screen has not.
func (cs *chats) listed(p Peer, m *pb.IMGetMsgListRsp) {
	ch := cs.chat(p)
	for _, i := range m.GetMsgList() {
		if ch.index(i.GetMsgId()) < 0 {
			ch.insert(Shown{ID: i.GetMsgId(), From: i.GetFromSessionId(), Type: i.GetMsgType(),
				Data: string(i.GetMsgData())})
		}
	}
}

// Open opens a conversation and marks it as read. Messages that come are read at once until
// CloseChat.
func (cs *chats) Open(p Peer) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	ch := cs.chat(p)
	ch.open = true
	if n := len(ch.shown); n > 0 {
		cs.readAck(p, ch.shown[n-1].ID)
	}
}

// CloseChat closes a conversation.
func (cs *chats) CloseChat(p Peer) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.chat(p).open = false
}

// historyPage is how many messages History asks for at a time.
const historyPage = 100

// History scrolls back through a conversation to its begin: afterwards the screen has all of it.
func (cs *chats) History(ctx context.Context, p Peer) error {
	latest := pb.IMGetLatestMsgIdReq_builder{UserId: new(cs.Self()),
		SessionType: p.sessionType().Enum(), SessionId: &p.ID}.Build()
	m, err := cs.Ask(ctx, latest, pb.CmdGetLatestMsgIdRsp)
	if err != nil {
		return err
	}
	begin := m.(*pb.IMGetLatestMsgIdRsp).GetLatestMsgId()
	for begin > 0 {
		page := make(chan *pb.IMGetMsgListRsp, 1)
		cs.mu.Lock()
		cs.fetch(p, begin, historyPage, 0, func(m *pb.IMGetMsgListRsp) { page <- m })
		cs.mu.Unlock()
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
func (cs *chats) Shown(p Peer) []Shown {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return slices.Clone(cs.chat(p).shown)
}

// Unread returns how many messages the client counts as unread.
func (cs *chats) Unread(p Peer) int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.chat(p).unread
}

// fetch asks for count messages up to begin, and shows those that are not shown yet.
func (cs *chats) fetch(p Peer, begin, count uint32, seq uint16, done func(*pb.IMGetMsgListRsp)) {
	req := pb.IMGetMsgListReq_builder{UserId: new(cs.self.GetUserId()),
		SessionType: p.sessionType().Enum(), SessionId: &p.ID,
		MsgIdBegin: &begin, MsgCnt: &count}.Build()
	if seq == 0 {
		seq = cs.nextSeq()
	}
	cs.pending = append(cs.pending, &request{seq: seq, want: pb.CmdGetMsgListRsp, peer: &p,
		got: func(m pb.Message) {
			list := m.(*pb.IMGetMsgListRsp)
			cs.listed(p, list)
			if done != nil {
				done(list)
			}
		}})
	cs.write(seq, req)
}
