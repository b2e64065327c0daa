package msg

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/conversation"
	"teamtalk/proto/pb"
)

// The tests here run a message server without sockets, under virtual time: loops are
// goroutines, clients are carriers that keep what is written. Stand-ins answer as
// db_proxy and route_server. The end-to-end suite runs the real ones.

// world is a message server and what is around it.
type world struct {
	t       *testing.T
	h       *Server
	metrics *registry
	db      *dbStand
	route   *routeStand
	login   *linkStand
	// loginLink is the server's handler of the link loginS to login.
	loginLink session.LinkHandler
	loginS    *session.Link
	loops     []*testLoop
}

// inWorld runs f with a server of the given options, in a bubble of virtual time.
func inWorld(t *testing.T, opt Options, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, opt, &dbStand{ids: map[uint64]uint32{}}, nil)
		defer w.stop()
		f(w)
	})
}

// newWorld makes a server. Its messages to route_server are sent to carrier, or kept in
// w.route if that is nil.
func newWorld(t *testing.T, opt Options, db *dbStand, carrier session.MessageCarrier) *world {
	metrics := newRegistry()
	opt.Registerer = metrics
	h, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, h: h, metrics: metrics, db: db, route: &routeStand{}, login: &linkStand{}}
	h.Connect(w.db, w.db, w.route)
	if carrier == nil {
		carrier = &w.route.linkStand
	}
	w.route.s = session.NewLink(session.NextID(), "route", carrier)
	w.route.link = h.RouteLink()
	if err := w.route.link.Open(w.route.s); err != nil {
		t.Fatal(err)
	}
	w.route.link.Message(w.route.s, 0, hello())
	w.loginLink, w.loginS = h.LoginLink(), session.NewLink(session.NextID(), "login", w.login)
	if err := w.loginLink.Open(w.loginS); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w.loops = append(w.loops, newTestLoop(h))
	}
	return w
}

// stop ends the loops.
func (w *world) stop() {
	for _, l := range w.loops {
		close(l.stop)
	}
}

// testLoop drives a session.Loop as the engine does.
type testLoop struct {
	*session.Loop
	do   chan func()
	stop chan struct{}
}

func newTestLoop(h *Server) *testLoop {
	l := &testLoop{do: make(chan func(), 1024), stop: make(chan struct{})}
	l.Loop = session.NewLoop(session.LoopOptions{Clients: h,
		Wake: func(*session.Loop, bool) { l.do <- l.Turn }})
	go func() {
		tick := time.NewTicker(session.TickInterval)
		defer tick.Stop()
		for {
			select {
			case f := <-l.do:
				f()
			case <-tick.C:
				l.Tick()
			case <-l.stop:
				return
			}
		}
	}()
	return l
}

// device is one client connection.
type device struct {
	w    *world
	loop *testLoop
	s    *session.Client

	mu     sync.Mutex
	half   []byte // of a frame that is not whole yet
	frames []received
	closed atomic.Bool
}

type received struct {
	seq uint16
	m   pb.Message
}

// connect makes a connection on one of the loops.
func (w *world) connect(loop int) *device {
	w.t.Helper()
	return w.connectFrom(loop, netip.AddrPort{})
}

// connectFrom makes a connection from an address.
func (w *world) connectFrom(loop int, from netip.AddrPort) *device {
	w.t.Helper()
	d := &device{w: w, loop: w.loops[loop]}
	d.on(func() {
		d.s = d.loop.AddClient(from, d)
		if err := w.h.Open(d.s); err != nil {
			w.t.Error(err)
		}
	})
	return d
}

// on runs f on the device's loop, within a turn, and waits until everything it started
// has settled.
func (d *device) on(f func()) {
	d.loop.do <- func() {
		d.loop.Begin()
		f()
		d.loop.End()
	}
	synctest.Wait()
}

// Write keeps the frames. A large one comes in pieces.
func (d *device) Write(p []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.half = append(d.half, p...)
	for {
		h, body, n, err := pdu.Next(d.half, pdu.MaxServerFrame)
		if err != nil {
			d.w.t.Errorf("server wrote what is no frame: %v", err)
			return nil
		}
		if n == 0 {
			return nil
		}
		m, err := pdu.Decode(h.Command, body)
		if err != nil {
			d.w.t.Errorf("server wrote what does not decode: %v", err)
			return nil
		}
		d.frames = append(d.frames, received{h.Seq, m})
		d.half = d.half[n:]
	}
}

// Buffered is nothing.
func (d *device) Buffered() int { return 0 }

// Close ends the connection, as the engine does.
func (d *device) Close() {
	if d.closed.Swap(true) {
		return
	}
	d.loop.Ended(&d.s.Conn, nil)
}

// send has the server handle a frame, and waits until it is done.
func (d *device) send(seq uint16, m pb.Message) {
	d.w.t.Helper()
	frame, err := pdu.Append(nil, seq, m)
	if err != nil {
		d.w.t.Fatal(err)
	}
	d.on(func() {
		if !d.closed.Load() {
			d.loop.Deliver(&d.s.Conn, pdu.ParseHeader(frame), frame[pdu.HeaderLen:])
		}
	})
}

// got takes everything received since the last call.
func (d *device) got() []received {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.frames
	d.frames = nil
	return f
}

// want checks what was received since the last call, by command, and returns it.
func (d *device) want(cmds ...pb.Command) []received {
	d.w.t.Helper()
	got := d.got()
	same := len(got) == len(cmds)
	for i := 0; same && i < len(got); i++ {
		same = got[i].m.Command() == cmds[i]
	}
	if !same {
		var names []string
		for _, g := range got {
			names = append(names, g.m.Command().String())
		}
		d.w.t.Fatalf("received %v, want %v", names, cmds)
	}
	return got
}

// isClosed reports whether the server closed the connection.
func (d *device) isClosed() bool {
	synctest.Wait()
	return d.closed.Load()
}

// isOver reports whether the session has ended for the server, closed or not.
func (d *device) isOver() (over bool) {
	d.on(func() { over = d.s.IsClosed() })
	return over
}

// hangUp closes the connection, as a client does.
func (d *device) hangUp() { d.on(d.Close) }

func loginReq(user uint32, client pb.ClientType) *pb.IMLoginReq {
	m := &pb.IMLoginReq{}
	m.SetUserName(userName(user))
	m.SetPassword("right")
	m.SetOnlineStatus(pb.UserStatType_USER_STATUS_ONLINE)
	m.SetClientType(client)
	return m
}

func userName(user uint32) string { return string(rune('a' + user)) }

// user connects and logs in.
func (w *world) user(loop int, user uint32, client pb.ClientType) *device {
	w.t.Helper()
	d := w.connect(loop)
	d.send(1, loginReq(user, client))
	got := d.got()
	if len(got) == 0 || got[0].m.Command() != pb.CmdLoginRes ||
		got[0].m.(*pb.IMLoginRes).GetResultCode() != 0 {
		w.t.Fatalf("login failed: %v", got)
	}
	return d
}

func text(to uint32, body string) *pb.MsgData {
	return &pb.MsgData{FromUserID: 99, ToSessionID: to, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT,
		Data: []byte(body)}
}

// dbStand answers as db_proxy does.
type dbStand struct {
	mu       sync.Mutex
	replies  []func() // those without a loop, in the order of the calls
	replying bool
	down     bool
	broken   bool // logins cannot be checked
	fail     bool // messages are not stored
	lose     bool // messages are stored, but the answer does not come
	hold     bool // answers wait for letGo
	held     []func()
	ids      map[uint64]uint32
	stored   []*pb.MsgData
	sent     []pb.Message
	sentKeys []uint64 // of sent
	asked    []pb.Message
	clients  map[string]uint32 // client_msg_id → id
	// also answers what it knows an answer to, before all others. With mu held.
	also   func(req pb.Message) (pb.Message, error)
	groups map[uint32]*dbGroup
}

func (db *dbStand) Up() bool { return !db.down }

func (db *dbStand) Send(key uint64, _ uint16, m pb.Message) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.sent, db.sentKeys = append(db.sent, m), append(db.sentKeys, key)
	return nil
}

func (db *dbStand) Call(l *session.Loop, key uint64, _ uint16, req pb.Attachment,
	done func(pb.Message, error)) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.asked = append(db.asked, req)
	rsp, err := db.answer(key, req)
	reply := func() { db.later(func() { done(rsp, err) }) }
	if l != nil {
		reply = func() { l.PostResult(done, rsp, err) }
	}
	if db.hold {
		db.held = append(db.held, reply)
		return
	}
	reply()
}

func (db *dbStand) TryCall(key uint64, seq uint16, req pb.Attachment,
	done func(pb.Message, error)) error {
	if db.down {
		return fmt.Errorf("down: %w", link.ErrNotSent)
	}
	db.Call(nil, key, seq, req, done)
	return nil
}

// later runs f on a goroutine, after those before it, as a link does with answers that
// are for no loop. With mu held.
func (db *dbStand) later(f func()) {
	db.replies = append(db.replies, f)
	if db.replying {
		return
	}
	db.replying = true
	go func() {
		for {
			db.mu.Lock()
			if len(db.replies) == 0 {
				db.replying = false
				db.mu.Unlock()
				return
			}
			f := db.replies[0]
			db.replies = db.replies[1:]
			db.mu.Unlock()
			f()
		}
	}()
}

// letGo gives the held answers.
func (db *dbStand) letGo() {
	db.mu.Lock()
	held := db.held
	db.held, db.hold = nil, false
	for _, f := range held {
		f()
	}
	db.mu.Unlock()
	synctest.Wait()
}

func (db *dbStand) answer(key uint64, req pb.Message) (pb.Message, error) {
	if db.also != nil {
		if rsp, err := db.also(req); rsp != nil || err != nil {
			return rsp, err
		}
	}
	switch m := req.(type) {
	case *pb.IMValidateReq:
		rsp := &pb.IMValidateRsp{}
		rsp.SetUserName(m.GetUserName())
		if db.broken && m.GetTellFailure() {
			rsp.SetResultCode(2)
			rsp.SetResultString("broken")
			return rsp, nil
		}
		if m.GetPassword() != "right" {
			rsp.SetResultCode(1)
			rsp.SetResultString("wrong")
			return rsp, nil
		}
		rsp.SetResultCode(0)
		rsp.SetResultString("ok")
		rsp.SetUserInfo(userInfo(uint32(m.GetUserName()[0] - 'a')))
		return rsp, nil
	case *pb.MsgData:
		out := *m
		if db.fail || !db.mayPost(&out) {
			return &out, nil
		}
		if id := db.clients[string(m.ClientMsgID)]; id != 0 {
			out.MsgID, out.Duplicate = id, true
			return &out, nil
		}
		db.ids[key]++
		out.MsgID = db.ids[key]
		if m.ClientMsgID != nil {
			if db.clients == nil {
				db.clients = map[string]uint32{}
			}
			db.clients[string(m.ClientMsgID)] = out.MsgID
		}
		out.AttachData = []byte("call")
		db.stored = append(db.stored, &out)
		if db.lose {
			return nil, im.Errorf(im.Unavailable, "no answer")
		}
		return &out, nil
	case *pb.IMGetMsgListReq:
		rsp := &pb.IMGetMsgListRsp{}
		var list []*pb.MsgInfo
		for _, st := range db.stored {
			if conversation.OrderKey(st) == key &&
				(m.GetMsgIdBegin() == 0 || st.MsgID <= m.GetMsgIdBegin()) {
				info := &pb.MsgInfo{}
				info.SetMsgId(st.MsgID)
				info.SetFromSessionId(st.FromUserID)
				info.SetCreateTime(st.CreateTime)
				info.SetMsgType(st.Type)
				info.SetMsgData(st.Data)
				list = append([]*pb.MsgInfo{info}, list...)
			}
		}
		rsp.SetMsgList(list[:min(len(list), int(m.GetMsgCnt()))])
		return rsp, nil
	case *pb.IMUnreadMsgCntReq:
		rsp := &pb.IMUnreadMsgCntRsp{}
		rsp.SetUserId(m.GetUserId())
		rsp.SetTotalCnt(3)
		rsp.SetAttachData([]byte("call"))
		return rsp, nil
	}
	return db.answerGroup(req)
}

func userInfo(id uint32) *pb.UserInfo {
	u := &pb.UserInfo{}
	u.SetUserId(id)
	u.SetUserGender(0)
	u.SetUserNickName("n")
	u.SetAvatarUrl("")
	u.SetDepartmentId(1)
	u.SetEmail("")
	u.SetUserRealName("r")
	u.SetUserTel("")
	u.SetUserDomain("")
	u.SetStatus(0)
	return u
}

// linkStand keeps what is pushed to a link.
type linkStand struct {
	mu   sync.Mutex
	got  []received
	full bool // takes nothing; see setFull
}

func (l *linkStand) setFull(full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = full
}

func (l *linkStand) SendMessage(seq uint16, m pb.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full {
		return im.Errorf(im.Busy, "queue full")
	}
	l.got = append(l.got, received{seq, m})
	return nil
}

func (l *linkStand) Close(error) {}

// take returns what was pushed since the last call.
func (l *linkStand) take() []received {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	got := l.got
	l.got = nil
	return got
}

// hello is what a route server of ours answers to an IMRoleSet.
func hello() *pb.IMRoleSet {
	return pb.IMRoleSet_builder{Master: proto.Uint32(1), Features: proto.Uint32(1)}.Build()
}

// routeStand is a route server: a link, and answers to queries.
type routeStand struct {
	linkStand
	s         *session.Link
	link      session.LinkHandler // the server's, for s
	cpp       bool                // does not know the scope of a question
	elsewhere map[uint32]bool     // users connected to other message servers
	acking    map[uint32]bool     // those with a device that acknowledges
	asked     int
	questions []*pb.IMUsersStatReq
	hold      bool // answers wait for letGo
	held      []func()
}

// letGo gives the held answers.
func (r *routeStand) letGo() {
	for _, f := range r.held {
		f()
	}
	r.held, r.hold = nil, false
	synctest.Wait()
}

func (r *routeStand) Up() bool { return true }

func (r *routeStand) Send(_ uint64, seq uint16, m pb.Message) error { return r.SendMessage(seq, m) }

func (r *routeStand) Call(l *session.Loop, _ uint64, _ uint16, req pb.Attachment,
	done func(pb.Message, error)) {
	r.asked++
	q := req.(*pb.IMUsersStatReq)
	r.questions = append(r.questions, q)
	rsp := &pb.IMUsersStatRsp{}
	rsp.SetUserId(q.GetUserId())
	var list []*pb.UserStat
	for _, u := range q.GetUserIdList() {
		st := &pb.UserStat{}
		st.SetUserId(u)
		st.SetStatus(pb.UserStatType_USER_STATUS_OFFLINE)
		there := r.elsewhere
		if q.HasScope() && q.GetScope() == pb.DeviceScope_DEVICE_SCOPE_ACKS && !r.cpp {
			there = r.acking
		}
		if there[u] {
			st.SetStatus(pb.UserStatType_USER_STATUS_ONLINE)
		}
		list = append(list, st)
	}
	rsp.SetUserStatList(list)
	if q.HasScope() && !r.cpp {
		rsp.SetScope(q.GetScope())
	}
	reply := func() { go done(rsp, nil) }
	if l != nil {
		reply = func() { l.PostResult(done, rsp, nil) }
	}
	if r.hold {
		r.held = append(r.held, reply)
		return
	}
	reply()
}
