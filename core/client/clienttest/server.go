// Package clienttest is a message server in miniature for tests of clients: real TCP, real frames, everything in memory, and every fault
// a test can ask for. It is no model of how a server should be built, and it makes no promise that a client may not test.
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

// TB is what of testing.TB the server uses.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Server is the fake. Its users are made by AddUser.
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
	shields  map[[2]uint32]bool // user, group; group 0: the night
	removed  map[session]bool
	named    map[string]uint32  // client_msg_id → msg_id
	unread   map[session]uint32 // count
	conns    map[*conn]struct{}
	received []Frame
	filter   func(f Frame) bool
	refuse   func(m *pb.MsgData) pb.MsgRefusal
	muted    bool
	lag      int
	now      uint32
	changed  *sync.Cond
}

// session is one side of a conversation.
type session struct {
	user, peer uint32
	kind       pb.SessionType
}

// group is a group with the time when each member joined: the number of the first message to be seen.
type group struct {
	im.Group
	from map[uint32]uint32
}

type user struct {
	im.User
	password string
}

// Frame is one that a client sent.
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
		t: t, users: make(map[string]*user), byID: make(map[uint32]*user), history: make(map[uint64][]im.Message),
		named: make(map[string]uint32), unread: make(map[session]uint32), groups: make(map[uint32]*group),
		shields: make(map[[2]uint32]bool), removed: make(map[session]bool), conns: make(map[*conn]struct{}), now: 1_700_000_000,
	}
	s.changed = sync.NewCond(&s.mu)
	s.Listen()
	t.Cleanup(s.Crash)
	return s
}

// Addr is the server's host:port, the same after Crash and Listen.
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

// Crash closes the port and all connections at once; what is stored stays.
func (s *Server) Crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.ln.Close()
	s.dropLocked(0)
}

// Drop closes the connections of a user, 0: of all.
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

// Filter sets a function that sees every frame first; when it returns false the frame is recorded, and then ignored.
func (s *Server) Filter(f func(Frame) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filter = f
}

// Refuse sets a function that says why a message is not stored, 0 when it is.
func (s *Server) Refuse(f func(m *pb.MsgData) pb.MsgRefusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = f
}

// MuteAcks makes the server store and deliver messages without telling their senders.
func (s *Server) MuteAcks(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.muted = on
}

// Lag makes the newest n messages of every conversation invisible to those who ask for its history, as on a slave that is behind.
func (s *Server) Lag(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag = n
}

// AddUser makes a user with the id and a password equal to its name.
func (s *Server) AddUser(id uint32, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := &user{User: im.User{ID: id, Name: name, Nick: name}, password: im.ClientPassword(name)}
	s.users[name], s.byID[id] = u, u
}

// AddGroup makes a group of members, the first of them its creator, and tells nobody.
func (s *Server) AddGroup(id uint32, name string, t pb.GroupType, members ...uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addGroup(im.Group{ID: id, Name: name, Type: t, Creator: members[0], Members: members})
}

// ChangeGroup changes a group's members as by a user, and notifies those of its members that are online.
func (s *Server) ChangeGroup(by, id uint32, t pb.GroupModifyType, users ...uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changeGroup(nil, by, id, t, users)
}

// AddDepart makes a department.
func (s *Server) AddDepart(d im.Depart) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.departs = append(s.departs, d)
}

// SetDepart puts a user into a department.
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

// Frames returns what was received so far of a kind, in order.
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

// WaitFrames waits until at least n frames of a kind were received, and returns all of them.
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

// Online is the number of connections of a user that are logged in.
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

// Store stores a message that came from elsewhere, and returns it; nothing is pushed.
func (s *Server) Store(from, to uint32, body []byte) im.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.storeLocked(from, to, body)
}

// StoreGroup stores a message to a group that came from elsewhere, and returns it; nothing is pushed.
func (s *Server) StoreGroup(from, group uint32, body []byte) im.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(im.Message{From: from, To: group, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: body})
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

// put stores a message and counts it as unread; s.mu is held.
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

// recipients are those who see a message, its sender among them; s.mu is held.
func (s *Server) recipients(m im.Message) []uint32 {
	if m.Type.IsGroup() {
		return s.groups[m.To].Members
	}
	return []uint32{m.From, m.To}
}

// sessionOf is where a user finds a message.
func sessionOf(user uint32, m im.Message) session {
	switch {
	case m.Type.IsGroup():
		return session{user, m.To, pb.SessionType_SESSION_TYPE_GROUP}
	case user == m.From:
		return session{user, m.To, pb.SessionType_SESSION_TYPE_SINGLE}
	}
	return session{user, m.From, pb.SessionType_SESSION_TYPE_SINGLE}
}

// key is where the messages of a session are.
func (s session) key() uint64 {
	if s.kind == pb.SessionType_SESSION_TYPE_GROUP {
		return im.GroupKey(s.peer)
	}
	return im.ConversationKey(s.user, s.peer)
}

// visible are the messages of a session that its user may see; s.mu is held.
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

// Push pushes a message to all connections of a user, stored or not.
func (s *Server) Push(user uint32, m im.Message) {
	s.PushFrame(user, msgData(m))
}

// PushFrame pushes any frame to all connections of a user, 0: to all.
func (s *Server) PushFrame(user uint32, m pb.Message) {
	frame, err := pdu.Append(nil, 0, m)
	if err != nil {
		s.t.Fatalf("push: %v", err)
	}
	s.PushRaw(user, frame)
}

// PushRaw writes bytes to all connections of a user, 0: to all.
func (s *Server) PushRaw(user uint32, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.user != nil && (user == 0 || c.user.ID == user) {
			c.write(raw)
		}
	}
}

// Kick tells all connections of a user that they are out, without closing them, like the first servers.
func (s *Server) Kick(user uint32, reason pb.KickReasonType) {
	s.PushFrame(user, pb.IMKickUser_builder{UserId: new(user), KickReason: reason.Enum()}.Build())
}

// HTTP starts a login server's HTTP side that names this server, and returns its URL.
func (s *Server) HTTP() string {
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, port, _ := net.SplitHostPort(s.addr)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"code": 0, "msg": "", "priorIP": host, "backupIP": host, "msfsPrior": "", "msfsBackup": "", "discovery": "", "port": port,
		})
	}))
	s.t.Cleanup(hs.Close)
	return hs.URL
}

func msgData(m im.Message) *pb.MsgData {
	return &pb.MsgData{FromUserID: m.From, ToSessionID: m.To, MsgID: m.ID, CreateTime: m.Created, Type: m.Type, Data: m.Data}
}

// sortedUsers returns all users by id; s.mu is held.
func (s *Server) sortedUsers() []*user {
	var list []*user
	for _, u := range s.byID {
		list = append(list, u)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list
}
