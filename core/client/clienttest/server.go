// Package clienttest is a small message server for tests of clients. It uses real TCP
// connections and frames, keeps everything in memory, and produces every fault that a
// test needs. It is not a model for a server, and tests are free to use all of it.
package clienttest

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"sync"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// TB is the part of testing.TB that the server uses.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Server is the fake server. AddUser adds its users.
type Server struct {
	t    TB
	addr string

	mu       sync.Mutex
	ln       net.Listener
	users    map[string]*user
	byID     map[uint32]*user
	history  map[uint64][]im.Message // by im.Message.Key, in order of id
	groups   map[uint32]*group
	departs  []im.Depart
	shields  map[[2]uint32]bool // user, group; group 0: the nightly rest
	removed  map[session]bool
	named    map[string]uint32  // client_msg_id → msg_id
	unread   map[session]uint32 // count
	conns    map[*conn]struct{}
	received []Frame
	files    map[uint32][]*pb.OfflineFileInfo // that wait, by receiver
	filter   func(f Frame) bool
	refuse   func(m *pb.MsgData) pb.MsgRefusal
	ticket   string
	muted    bool
	lag      int
	now      uint32
	changed  *sync.Cond
}

// session is one user's side of a conversation.
type session struct {
	user, peer uint32
	kind       pb.SessionType
}

// group is a group with, for each member, the number of messages from before it joined.
type group struct {
	im.Group
	from map[uint32]uint32
}

type user struct {
	im.User
	password string
}

// Frame is a frame that a client sent.
type Frame struct {
	Conn    int    // connections are numbered from 1
	User    uint32 // 0 before login
	Command pb.Command
	Seq     uint16
	Body    []byte
}

type conn struct {
	s    *Server
	id   int
	nc   net.Conn
	user *user
}

// New starts a server on a free port.
func New(t TB) *Server {
	t.Helper()
	s := &Server{
		t: t, users: make(map[string]*user), byID: make(map[uint32]*user),
		history: make(map[uint64][]im.Message),
		named:   make(map[string]uint32), unread: make(map[session]uint32),
		groups:  make(map[uint32]*group),
		shields: make(map[[2]uint32]bool), removed: make(map[session]bool),
		conns: make(map[*conn]struct{}), now: 1_700_000_000,
	}
	s.changed = sync.NewCond(&s.mu)
	s.Listen()
	t.Cleanup(s.Crash)
	return s
}

// Addr returns the server's host:port, which stays the same after Crash and Listen.
func (s *Server) Addr() string { return s.addr }

// Listen accepts connections, on the same port as before Crash.
func (s *Server) Listen() {
	s.t.Helper()
	addr := s.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		s.t.Fatalf("listen: %v", err)
	}
	s.mu.Lock()
	s.ln, s.addr = ln, ln.Addr().String()
	s.mu.Unlock()
	go func() {
		for n := 1; ; n++ {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			c := &conn{s: s, nc: nc, id: n}
			s.mu.Lock()
			s.conns[c] = struct{}{}
			s.mu.Unlock()
			go c.serve()
		}
	}()
}

// Crash closes the port and all connections at once. Stored data remain.
func (s *Server) Crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.ln.Close()
	s.dropLocked(0)
}

// Drop closes the connections of a user, 0: of all users.
func (s *Server) Drop(user uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(user)
}

func (s *Server) dropLocked(user uint32) {
	for c := range s.conns {
		if user == 0 || c.user != nil && c.user.ID == user {
			_ = c.nc.Close()
			delete(s.conns, c)
		}
	}
}

// Filter sets a function that is called for every frame. When it returns false the frame
// is recorded and not handled.
func (s *Server) Filter(f func(Frame) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filter = f
}

// Refuse sets a function that returns the reason why a message is not stored, 0 when it
// is stored.
func (s *Server) Refuse(f func(m *pb.MsgData) pb.MsgRefusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = f
}

// MuteAcks makes the server store and deliver messages without acks to their senders.
func (s *Server) MuteAcks(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.muted = on
}

// Lag hides the newest n messages of every conversation in answers with its history, like
// a slave that lags.
func (s *Server) Lag(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag = n
}

// AddUser adds a user whose password is its name.
func (s *Server) AddUser(id uint32, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := &user{User: im.User{ID: id, Name: name, Nick: name}, password: im.ClientPassword(name)}
	s.users[name], s.byID[id] = u, u
}

// AddGroup creates a group, whose creator is the first member, without notifies.
func (s *Server) AddGroup(id uint32, name string, t pb.GroupType, members ...uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addGroup(im.Group{ID: id, Name: name, Type: t, Creator: members[0], Members: members})
}

// ChangeGroup changes a group's members in the name of a user, and notifies the members
// that are online.
func (s *Server) ChangeGroup(by, id uint32, t pb.GroupModifyType, users ...uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changeGroup(nil, by, id, t, users)
}

// AddDepart adds a department.
func (s *Server) AddDepart(d im.Depart) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.departs = append(s.departs, d)
}

// SetDepart moves a user to a department.
func (s *Server) SetDepart(user, depart uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byID[user].DepartID = depart
}

// SetPassword changes a user's password.
func (s *Server) SetPassword(name, clear string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[name].password = im.ClientPassword(clear)
}

// Frames returns the frames with a command received so far, in order.
func (s *Server) Frames(cmd pb.Command) []Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.framesLocked(cmd)
}

func (s *Server) framesLocked(cmd pb.Command) []Frame {
	var list []Frame
	for _, f := range s.received {
		if f.Command == cmd {
			list = append(list, f)
		}
	}
	return list
}

// WaitFrames waits until at least n frames with a command were received, and returns all
// of them.
func (s *Server) WaitFrames(cmd pb.Command, n int) []Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if list := s.framesLocked(cmd); len(list) >= n {
			return list
		}
		s.changed.Wait()
	}
}

// Online returns the number of logged-in connections of a user.
func (s *Server) Online(user uint32) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.onlineLocked(user)
}

func (s *Server) onlineLocked(user uint32) int {
	n := 0
	for c := range s.conns {
		if c.user != nil && c.user.ID == user {
			n++
		}
	}
	return n
}

// Stored returns the conversation between two users, in order of id.
func (s *Server) Stored(a, b uint32) []im.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]im.Message(nil), s.history[im.ConversationKey(a, b)]...)
}

// Store stores a message from another server and returns it. It is not pushed.
func (s *Server) Store(from, to uint32, body []byte) im.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.storeLocked(from, to, body)
}

// StoreGroup stores a message to a group from another server and returns it. It is not
// pushed.
func (s *Server) StoreGroup(from, group uint32, body []byte) im.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(im.Message{From: from, To: group, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT,
		Data: body})
}

// StoredGroup returns a group's messages, in order of id.
func (s *Server) StoredGroup(group uint32) []im.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]im.Message(nil), s.history[im.GroupKey(group)]...)
}

func (s *Server) storeLocked(from, to uint32, body []byte) im.Message {
	return s.put(im.Message{From: from, To: to, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: body})
}

// put stores a message and counts it as unread. The caller holds s.mu.
func (s *Server) put(m im.Message) im.Message {
	key := m.Key()
	s.now++
	m.ID, m.Created = uint32(len(s.history[key])+1), s.now
	s.history[key] = append(s.history[key], m)
	for _, id := range s.recipients(m) {
		sess := sessionOf(id, m)
		if id != m.From {
			s.unread[sess]++
		}
		delete(s.removed, sess)
	}
	return m
}

// recipients returns the users that see a message, also its sender. The caller holds
// s.mu.
func (s *Server) recipients(m im.Message) []uint32 {
	if m.Type.IsGroup() {
		return s.groups[m.To].Members
	}
	return []uint32{m.From, m.To}
}

// sessionOf returns a user's side of the conversation of a message.
func sessionOf(user uint32, m im.Message) session {
	switch {
	case m.Type.IsGroup():
		return session{user, m.To, pb.SessionType_SESSION_TYPE_GROUP}
	case user == m.From:
		return session{user, m.To, pb.SessionType_SESSION_TYPE_SINGLE}
	}
	return session{user, m.From, pb.SessionType_SESSION_TYPE_SINGLE}
}

// key returns the key of a session's messages in history.
func (s session) key() uint64 {
	if s.kind == pb.SessionType_SESSION_TYPE_GROUP {
		return im.GroupKey(s.peer)
	}
	return im.ConversationKey(s.user, s.peer)
}

// visible returns the messages of a session that its user may see. The caller holds s.mu.
func (s *Server) visible(sess session) []im.Message {
	list := s.history[sess.key()]
	if sess.kind == pb.SessionType_SESSION_TYPE_GROUP {
		g := s.groups[sess.peer]
		if g == nil || !slices.Contains(g.Members, sess.user) {
			return nil
		}
		list = list[min(int(g.from[sess.user]), len(list)):]
	}
	return list
}

// Push pushes a message, stored or not, to all connections of a user.
func (s *Server) Push(user uint32, m im.Message) {
	s.PushFrame(user, msgData(m))
}

// PushFrame pushes a frame to all connections of a user, 0: of all users.
func (s *Server) PushFrame(user uint32, m pb.Message) {
	frame, err := pdu.Append(nil, 0, m)
	if err != nil {
		s.t.Fatalf("push: %v", err)
	}
	s.PushRaw(user, frame)
}

// PushRaw writes bytes to all connections of a user, 0: of all users.
func (s *Server) PushRaw(user uint32, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.user != nil && (user == 0 || c.user.ID == user) {
			c.write(raw)
		}
	}
}

// Kick sends a kick to all connections of a user, and does not close them, like the first
// servers.
func (s *Server) Kick(user uint32, reason pb.KickReasonType) {
	s.PushFrame(user, pb.IMKickUser_builder{UserId: new(user), KickReason: reason.Enum()}.Build())
}

// Ticket sets the ticket for uploads. Empty: clients are told that there are none.
func (s *Server) Ticket(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ticket = token
}

// HTTP starts the HTTP side of a login server that returns this server's address, and
// returns its URL.
func (s *Server) HTTP() string {
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, port, _ := net.SplitHostPort(s.addr)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"code": 0, "msg": "", "priorIP": host, "backupIP": host, "msfsPrior": "",
			"msfsBackup": "", "discovery": "", "port": port,
		})
	}))
	s.t.Cleanup(hs.Close)
	return hs.URL
}

func msgData(m im.Message) *pb.MsgData {
	return &pb.MsgData{FromUserID: m.From, ToSessionID: m.To, MsgID: m.ID, CreateTime: m.Created,
		Type: m.Type, Data: m.Data}
}

// sortedUsers returns all users by id. The caller holds s.mu.
func (s *Server) sortedUsers() []*user {
	var list []*user
	for _, u := range s.byID {
		list = append(list, u)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list
}
