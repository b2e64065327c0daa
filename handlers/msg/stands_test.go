package msg

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/conversation"
	"teamtalk/proto/pb"
)

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
	sent     []pb.Message // changes, among them those that are calls
	sentKeys []uint64     // of sent
	asked    []pb.Message
	clients  map[string]uint32 // client_msg_id → id
	// also answers what it knows an answer to, before all others. With mu held.
	also func(req pb.Message) (pb.Message, error)
	// late returns how long an answer for a loop takes. With mu held, after also.
	late   func(req pb.Message) time.Duration
	groups map[uint32]*dbGroup
	// repeats: the history says that db_proxy recognises repeats.
	repeats bool
	slow    func() // runs before each answer without a loop
	silent  bool   // messages are not found by their ids
	page    int    // how many of them an answer has at most; 0: all
}

func (db *dbStand) Up() bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	return !db.down
}

func (db *dbStand) Withdrawn() bool { return false }

func (db *dbStand) Send(key uint64, _ uint16, m pb.Message) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.down {
		return errNoneUp
	}
	db.sent, db.sentKeys = append(db.sent, m), append(db.sentKeys, key)
	return nil
}

// changesFiles reports whether a request changes the list of waiting files.
func changesFiles(m pb.Message) bool {
	switch m.(type) {
	case *pb.IMFileAddOfflineReq, *pb.IMFileDelOfflineReq, *pb.IMFileListRepairReq:
		return true
	}
	return false
}

func (db *dbStand) Call(l *session.Loop, key uint64, _ uint16, req pb.Attachment,
	done func(pb.Message, error)) {
	db.mu.Lock()
	defer db.mu.Unlock()
	var rsp pb.Message
	var err error
	switch {
	case !changesFiles(req):
		db.asked = append(db.asked, req)
		rsp, err = db.answer(key, req)
	case db.down:
		err = errNoneUp
	default:
		db.sent, db.sentKeys = append(db.sent, req), append(db.sentKeys, key)
		rsp, err = db.answer(key, req)
	}
	reply := func() { db.later(func() { done(rsp, err) }) }
	if l != nil {
		reply = func() { l.PostResult(done, rsp, err) }
	}
	if db.hold {
		db.held = append(db.held, reply)
		return
	}
	if db.late != nil && l != nil {
		time.AfterFunc(db.late(req), reply)
		return
	}
	reply()
}

func (db *dbStand) TryCall(key uint64, seq uint16, req pb.Attachment,
	done func(pb.Message, error)) error {
	if db.down {
		return im.WithKind(im.Unavailable, "down", link.ErrNotSent)
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
			if db.slow != nil {
				db.slow()
			}
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
		return db.validate(m), nil
	case *pb.MsgData:
		return db.store(key, m)
	case *pb.IMGetMsgListReq:
		return db.history(key, m), nil
	case *pb.IMGetMsgByIdReq:
		return db.byID(m)
	case *pb.IMFileAddOfflineReq, *pb.IMFileDelOfflineReq, *pb.IMFileListRepairReq:
		return pb.IMFileListRepairRsp_builder{Forgotten: proto.Uint32(0)}.Build(), nil
	case *pb.IMUnreadMsgCntReq:
		rsp := &pb.IMUnreadMsgCntRsp{}
		rsp.SetUserId(m.GetUserId())
		rsp.SetTotalCnt(3)
		rsp.SetAttachData([]byte("call"))
		return rsp, nil
	}
	return db.answerGroup(req)
}

// validate answers a login.
func (db *dbStand) validate(m *pb.IMValidateReq) *pb.IMValidateRsp {
	rsp := &pb.IMValidateRsp{}
	rsp.SetUserName(m.GetUserName())
	switch {
	case db.broken && m.GetTellFailure():
		rsp.SetResultCode(2)
		rsp.SetResultString("broken")
	case m.GetPassword() != "right":
		rsp.SetResultCode(1)
		rsp.SetResultString("wrong")
	default:
		rsp.SetResultCode(0)
		rsp.SetResultString("ok")
		rsp.SetUserInfo(userInfo(uint32(m.GetUserName()[0] - 'a')))
	}
	return rsp
}

// store stores a message under the next id of its conversation.
func (db *dbStand) store(key uint64, m *pb.MsgData) (pb.Message, error) {
	out := *m
	if db.fail || !db.mayPost(&out) {
		return &out, nil
	}
	if id := db.numbered(&out); id != 0 {
		out.MsgID, out.Duplicate = id, true
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
	kept := out // the server changes what it gets
	db.stored = append(db.stored, &kept)
	if db.lose {
		return nil, im.Errorf(im.Unavailable, "no answer")
	}
	return &out, nil
}

// numbered returns the id of the message that m repeats, by what its client numbered it; 0:
// none, or db_proxy recognises no repeats.
func (db *dbStand) numbered(m *pb.MsgData) (id uint32) {
	if !db.repeats || m.SentAs == 0 {
		return 0
	}
	for _, st := range db.stored {
		if st.SentAs == m.SentAs && m.ResentWithin != 0 && bytes.Equal(st.Data, m.Data) {
			id = st.MsgID
		}
	}
	return id
}

// history returns the stored messages of a conversation, newest first.
func (db *dbStand) history(key uint64, m *pb.IMGetMsgListReq) *pb.IMGetMsgListRsp {
	rsp := &pb.IMGetMsgListRsp{}
	var list []*pb.MsgInfo
	for _, st := range db.stored {
		if conversation.OrderKey(st) == key &&
			(m.GetMsgIdBegin() == 0 || st.MsgID <= m.GetMsgIdBegin()) {
			list = append([]*pb.MsgInfo{infoOf(st)}, list...)
		}
	}
	rsp.SetMsgList(list[:min(len(list), int(m.GetMsgCnt()))])
	rsp.SetRecognisesRepeats(m.GetAskRepeats() && db.repeats)
	return rsp
}

// byID returns stored messages by their ids, newest first, at most db.page of them. With
// mu held.
func (db *dbStand) byID(m *pb.IMGetMsgByIdReq) (pb.Message, error) {
	if db.silent {
		return nil, im.Errorf(im.Unavailable, "no answer")
	}
	key := im.ConversationKey(m.GetUserId(), m.GetSessionId())
	if m.GetSessionType() == pb.SessionType_SESSION_TYPE_GROUP {
		key = im.GroupKey(m.GetSessionId())
	}
	rsp := &pb.IMGetMsgByIdRsp{}
	var list []*pb.MsgInfo
	for _, st := range slices.Backward(db.stored) {
		if conversation.OrderKey(st) == key && slices.Contains(m.GetMsgIdList(), st.MsgID) {
			list = append(list, infoOf(st))
		}
	}
	if db.page > 0 {
		list = list[:min(len(list), db.page)]
	}
	rsp.SetMsgList(list)
	return rsp, nil
}

// keep stores a message that another message server has accepted.
func (db *dbStand) keep(ms ...*pb.MsgData) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.stored = append(db.stored, ms...)
}

func infoOf(m *pb.MsgData) *pb.MsgInfo {
	info := &pb.MsgInfo{}
	info.SetMsgId(m.MsgID)
	info.SetFromSessionId(m.FromUserID)
	info.SetCreateTime(m.CreateTime)
	info.SetMsgType(m.Type)
	info.SetMsgData(m.Data)
	return info
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
	return pb.IMRoleSet_builder{Master: proto.Uint32(1), Features: proto.Uint32(uint32(
		pb.ServerFeature_SERVER_FEATURE_RECEIPTS | pb.ServerFeature_SERVER_FEATURE_REPEATS |
			pb.ServerFeature_SERVER_FEATURE_RESENT)),
	}.Build()
}

// routeStand is a route server: a link, and answers to queries.
type routeStand struct {
	linkStand
	s         *session.Link
	link      session.LinkHandler // the server's, for s
	withdrawn atomic.Bool         // serves no logins
	cpp       bool                // does not know the scope of a question
	elsewhere map[uint32]bool     // users connected to other message servers
	acking    map[uint32]bool     // those with a device that acknowledges
	asked     int
	questions []*pb.IMUsersStatReq
	hold      bool // answers wait for letGo
	held      []func()
	lost      int // so many questions are lost with the link
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

func (r *routeStand) Withdrawn() bool { return r.withdrawn.Load() }

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
	var err error
	if r.lost > 0 {
		r.lost--
		rsp, err = nil, errLinkDied
	}
	reply := func() { go done(rsp, err) }
	if l != nil {
		reply = func() { l.PostResult(done, rsp, err) }
	}
	if r.hold {
		r.held = append(r.held, reply)
		return
	}
	reply()
}
