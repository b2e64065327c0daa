package faults

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"teamtalk/bench/faults/deploy"
	"teamtalk/core/client"
	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// stock behaves as the clients in the field: its texts have no client_msg_id, and it sends
// a text without an ack again, with the same seq and content, also on the next connection.
// It has one text in flight in each conversation. After a login it reads the last messages
// of its conversations.
type stock struct {
	name, user string
	find       finder
	cipher     *im.TextCipher
	stop       context.CancelFunc
	all        sync.WaitGroup

	mu       sync.Mutex // guards the following fields
	self     uint32
	ledger   *Ledger
	conn     *tcp.Conn     // logged in; nil without one
	attached chan struct{} // closed and replaced when conn is set
	number   int           // of the connection
	seq      uint16
	convs    map[Conv]map[uint32]struct{} // ids of the messages received
}

// The seqs of texts. tcp.Conn gives the other requests the lower ones.
const firstSeq, lastSeq = 30_000, 60_000

// openStock logs in, and stays connected until close.
func openStock(ctx context.Context, name, user string, find finder, cipher *im.TextCipher) (*stock,
	error) {
	s := &stock{name: name, user: user, find: find, cipher: cipher, ledger: NewLedger(""),
		attached: make(chan struct{}), seq: firstSeq, convs: map[Conv]map[uint32]struct{}{}}
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s.self = conn.UserID()
	live, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.all.Go(func() { s.run(live, conn) })
	return s, nil
}

func (s *stock) id() uint32 { return s.self }

func (s *stock) use(l *Ledger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger = l
}

func (s *stock) close() {
	s.stop()
	s.all.Wait()
}

// join adds a conversation to those that the client reads after a login.
func (s *stock) join(c Conv) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.convs[c] = map[uint32]struct{}{}
}

// run keeps the client connected.
func (s *stock) run(ctx context.Context, conn *tcp.Conn) {
	for ctx.Err() == nil {
		if conn != nil {
			s.attach(conn)
			s.read(ctx, conn, false)
			select {
			case <-conn.Done():
			case <-ctx.Done():
				_ = conn.Close()
				<-conn.Done()
			}
			s.attach(nil)
		}
		select {
		case <-time.After(backoffMax / 2):
		case <-ctx.Done():
			return
		}
		conn, _ = s.connect(ctx) // tries again after an error
	}
}

// attach sets the connection.
func (s *stock) attach(conn *tcp.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = conn
	s.ledger.Connected(s.name, conn != nil, time.Now())
	if conn != nil {
		close(s.attached)
		s.attached = make(chan struct{})
	}
}

// connect connects and logs in.
func (s *stock) connect(ctx context.Context) (*tcp.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	s.mu.Lock()
	s.number++
	number := s.number
	s.mu.Unlock()
	addr, err := s.find(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := tcp.Dial(ctx, addr, tcp.Options{Heartbeat: time.Second,
		OnFrame: func(c *tcp.Conn, h pdu.Header, body []byte) { s.frame(c, number, h, body) }})
	if err != nil {
		return nil, err
	}
	if _, err := conn.Login(ctx, tcp.Credentials{User: s.user,
		Password: deploy.Password}); err != nil {
		_ = conn.Close()
		<-conn.Done()
		return nil, err
	}
	return conn, nil
}

// frame takes a pushed message, and acks it.
func (s *stock) frame(conn *tcp.Conn, number int, h pdu.Header, body []byte) {
	var d pb.MsgData
	switch h.Command {
	case pb.CmdKickUser:
		s.report("was kicked")
		return
	case pb.CmdMsgData:
	default:
		return
	}
	if err := d.ParseBody(body); err != nil {
		s.report(fmt.Sprintf("a push: %v", err))
		return
	}
	m := im.Message{ID: d.MsgID, From: d.FromUserID, To: d.ToSessionID, Type: d.Type, Data: d.Data}
	s.arrive(m, number, false)
	session, kind := m.From, pb.SessionType_SESSION_TYPE_SINGLE
	if m.Type.IsGroup() {
		session, kind = m.To, pb.SessionType_SESSION_TYPE_GROUP
	}
	// A failed write ends the connection.
	_ = conn.Send(pb.IMMsgDataAck_builder{UserId: new(conn.UserID()), SessionId: new(session),
		MsgId: new(m.ID), SessionType: kind.Enum()}.Build(), 0)
}

// report records an event that must not happen.
func (s *stock) report(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.Report(s.name + ": " + what)
}

// arrive records a message of another user, once.
func (s *stock) arrive(m im.Message, order int, late bool) {
	text, err := s.cipher.Decrypt(m.Data)
	if err != nil {
		s.report(fmt.Sprintf("message %d: %v", m.ID, err))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := convOf(m)
	ids := s.convs[c]
	if _, again := ids[m.ID]; again || ids == nil || m.From == s.self {
		return
	}
	ids[m.ID] = struct{}{}
	s.ledger.Arrive(Arrival{Client: s.name, Conv: c, Order: order, Late: late,
		Message: Message{ID: m.ID, From: m.From, Text: text}})
}

// read reads the last messages of all conversations. A late read ends a row, and reads all
// messages of the row.
func (s *stock) read(ctx context.Context, conn *tcp.Conn, late bool) {
	s.mu.Lock()
	var convs []Conv
	for c := range s.convs {
		convs = append(convs, c)
	}
	s.mu.Unlock()
	for _, c := range convs {
		s.readConv(ctx, conn, c, late)
	}
}

// readConv reads pages, newest first, until one has no message that is new. A late read
// continues until a message belongs to another row.
func (s *stock) readConv(ctx context.Context, conn *tcp.Conn, c Conv, late bool) {
	peer, begin := peerFor(c, s.self), uint32(0)
	for {
		ctx, cancel := context.WithTimeout(ctx, ackTimeout)
		page, err := client.History(ctx, conn, peer, begin, 100)
		cancel()
		if err != nil || len(page) == 0 {
			return // the next login or the end of the row reads again
		}
		more := late
		for _, m := range page {
			s.mu.Lock()
			_, known := s.convs[c][m.ID]
			label := s.ledger.label
			s.mu.Unlock()
			text, _ := s.cipher.Decrypt(m.Data) // arrive reports the error
			if late {
				more = more && strings.HasPrefix(text, label)
			} else {
				more = more || !known && m.From != s.self
			}
			s.arrive(m, 0, late)
		}
		if begin = page[len(page)-1].ID - 1; !more || begin == 0 {
			return
		}
	}
}

// peerFor returns the other side of a conversation.
func peerFor(c Conv, self uint32) client.Peer {
	if c.Group != 0 {
		return client.Peer{ID: c.Group, Group: true}
	}
	return client.Peer{ID: c.other(self)}
}

func (s *stock) sync(ctx context.Context) {
	if conn := s.present(ctx); conn != nil {
		s.read(ctx, conn, true)
	}
}

// present waits for a connection that is logged in; nil when ctx ends.
func (s *stock) present(ctx context.Context) *tcp.Conn {
	for {
		s.mu.Lock()
		conn, attached := s.conn, s.attached
		s.mu.Unlock()
		if conn != nil {
			return conn
		}
		select {
		case <-attached:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *stock) send(ctx context.Context, c Conv, text string) {
	if s.present(ctx) == nil {
		return
	}
	s.mu.Lock()
	if s.seq++; s.seq > lastSeq {
		s.seq = firstSeq
	}
	seq, l := s.seq, s.ledger
	sent := &Sent{Client: s.name, From: s.self, Conv: c, Text: text}
	s.mu.Unlock()
	l.Send(sent, time.Now())
	peer := peerFor(c, s.self)
	m := &pb.MsgData{FromUserID: s.self, ToSessionID: peer.ID, Data: s.cipher.Encrypt(text),
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT}
	if peer.Group {
		m.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
	}
	for again := false; ctx.Err() == nil; again = true {
		conn := s.present(ctx)
		if conn == nil {
			return
		}
		if again {
			l.Repeat(sent, time.Now())
		}
		if id := s.attempt(ctx, conn, seq, m); id != 0 {
			l.Ack(sent, id, time.Now())
			return
		}
	}
}

// attempt sends a text on a connection and waits for its ack. It returns 0 without one.
func (s *stock) attempt(ctx context.Context, conn *tcp.Conn, seq uint16, m *pb.MsgData) uint32 {
	acked := make(chan uint32, 1)
	err := conn.Resend(seq, m, pb.CmdMsgDataAck, func(body []byte, err error) {
		var ack pb.IMMsgDataAck
		if err == nil && ack.ParseBody(body) == nil {
			acked <- ack.GetMsgId()
			return
		}
		acked <- 0
	})
	if err != nil {
		select { // the connection ends
		case <-conn.Done():
		case <-ctx.Done():
		}
		return 0
	}
	timeout := time.NewTimer(ackTimeout)
	defer timeout.Stop()
	select {
	case id := <-acked:
		if id == 0 { // the connection has ended, or the server refuses: not at once again
			select {
			case <-conn.Done():
			case <-time.After(backoffMax):
			case <-ctx.Done():
			}
		}
		return id
	case <-timeout.C:
	case <-ctx.Done():
	}
	if !conn.Forget(seq) {
		return <-acked
	}
	return 0
}
