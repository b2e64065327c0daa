package pusher

import (
	"errors"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// stand is another server. It answers each request at once, on the asking goroutine,
// unless hold is set.
type stand struct {
	down, full bool
	answer     func(req pb.Message) (pb.Message, error)
	asked      []pb.Message
	sent       []pb.Message
	hold       bool
	held       []func()
}

func (s *stand) Up() bool { return !s.down }

func (s *stand) Send(_ uint64, _ uint16, m pb.Message) error {
	if s.full {
		return im.Errorf(im.Busy, "queue full")
	}
	s.sent = append(s.sent, m)
	return nil
}

func (s *stand) Call(_ *session.Loop, _ uint64, _ uint16, req pb.Attachment,
	done func(pb.Message, error)) {
	s.asked = append(s.asked, req)
	rsp, err := s.answer(req)
	if s.hold {
		s.held = append(s.held, func() { done(rsp, err) })
		return
	}
	done(rsp, err)
}

// letGo sends the held answers.
func (s *stand) letGo() {
	held := s.held
	s.held, s.hold = nil, false
	for _, f := range held {
		f()
	}
}

// scene is a Pusher and the servers around it.
type scene struct {
	*testing.T
	p               *Pusher
	push, db, route *stand

	unread    map[uint32]uint32 // of the users with a token
	shield    map[uint32]bool   // the users that want no pushes from groups
	members   []uint32          // of group 77
	nick      string            // of user 1, the sender; "": the user does not exist
	dbErr     error
	here      map[uint32]bool // the users with a pc client on this server
	elsewhere map[uint32]bool // the users with a pc client on another server
}

// newScene returns a Pusher with all servers up.
func newScene(t *testing.T) *scene {
	s := &scene{T: t, push: &stand{}, unread: map[uint32]uint32{}, nick: "Ann"}
	s.db, s.route = &stand{answer: s.dbAnswer}, &stand{answer: s.routeAnswer}
	s.p = New(Options{Text: usualText, Role: "test", Cipher: cipher(t),
		Registerer: prometheus.NewRegistry(),
		HasPC:      func(user uint32) bool { return s.here[user] }})
	s.p.Connect(Peers{Push: s.push, DB: s.db, Tokens: s.db, Route: s.route})
	return s
}

// dbAnswer is the answer of db_proxy.
func (s *scene) dbAnswer(req pb.Message) (pb.Message, error) {
	switch m := req.(type) {
	case *pb.IMGetDeviceTokenReq:
		var list []*pb.UserTokenInfo
		for _, user := range m.GetUserId() {
			if n, ok := s.unread[user]; ok {
				list = append(list, token(user, n, pushLoud))
			}
		}
		return pb.IMGetDeviceTokenRsp_builder{UserTokenInfo: list}.Build(), s.dbErr
	case *pb.IMGroupGetShieldReq:
		var list []*pb.ShieldStatus
		for _, user := range m.GetUserId() {
			st := uint32(0)
			if s.shield[user] {
				st = 1
			}
			list = append(list, pb.ShieldStatus_builder{UserId: proto.Uint32(user),
				GroupId: proto.Uint32(m.GetGroupId()), ShieldStatus: &st}.Build())
		}
		return pb.IMGroupGetShieldRsp_builder{GroupId: proto.Uint32(m.GetGroupId()),
			ShieldStatusList: list}.Build(), s.dbErr
	case *pb.IMUsersInfoReq:
		if !slices.Equal(m.GetUserIdList(), []uint32{1}) {
			s.Errorf("nicks of %v were asked for", m.GetUserIdList())
		}
		var list []*pb.UserInfo
		if s.nick != "" {
			list = []*pb.UserInfo{person(1, s.nick, "ann")}
		}
		return pb.IMUsersInfoRsp_builder{UserId: proto.Uint32(1),
			UserInfoList: list}.Build(), s.dbErr
	case *pb.IMGroupInfoListReq:
		var list []*pb.GroupInfo
		for _, v := range m.GetGroupVersionList() {
			if v.GetGroupId() == 77 && v.GetVersion() == 0 {
				list = append(list, pb.GroupInfo_builder{GroupId: proto.Uint32(77),
					GroupMemberList: s.members}.Build())
			}
		}
		return pb.IMGroupInfoListRsp_builder{UserId: proto.Uint32(m.GetUserId()),
			GroupInfoList: list}.Build(), s.dbErr
	}
	s.Errorf("db_proxy was asked %T", req)
	return nil, nil
}

// routeAnswer is the answer of route_server.
func (s *scene) routeAnswer(req pb.Message) (pb.Message, error) {
	q := req.(*pb.IMUsersStatReq)
	if !q.HasSameClass() || q.GetSameClass().IsMobile() {
		s.Errorf("route server was asked %v", q)
	}
	var list []*pb.UserStat
	for _, user := range q.GetUserIdList() {
		st := pb.UserStatType_USER_STATUS_OFFLINE
		if s.elsewhere[user] {
			st = pb.UserStatType_USER_STATUS_ONLINE
		}
		stat := pb.UserStat_builder{UserId: proto.Uint32(user), Status: st.Enum()}
		list = append(list, stat.Build())
	}
	return pb.IMUsersStatRsp_builder{UserId: proto.Uint32(q.GetUserId()),
		UserStatList: list}.Build(), nil
}

// take returns the pushes since the last call. It fails when pushes are still under way.
func (s *scene) take() []*pb.IMPushToUserReq {
	s.Helper()
	if n := s.p.under.Load(); n != 0 {
		s.Errorf("%d under way", n)
	}
	var got []*pb.IMPushToUserReq
	for _, m := range s.push.sent {
		got = append(got, m.(*pb.IMPushToUserReq))
	}
	s.push.sent = nil
	return got
}

// one returns the only push.
func (s *scene) one() *pb.IMPushToUserReq {
	s.Helper()
	got := s.take()
	if len(got) != 1 {
		s.Fatalf("%d pushes", len(got))
	}
	return got[0]
}

func token(user, unread, typ uint32) *pb.UserTokenInfo {
	return pb.UserTokenInfo_builder{UserId: proto.Uint32(user),
		UserType: pb.ClientType_CLIENT_TYPE_IOS.Enum(), Token: proto.String("token"),
		PushCount: proto.Uint32(unread), PushType: proto.Uint32(typ)}.Build()
}

// person returns a user with a nick and a login name.
func person(id uint32, nick, name string) *pb.UserInfo {
	return pb.UserInfo_builder{UserId: proto.Uint32(id), UserNickName: proto.String(nick),
		UserRealName: proto.String(name)}.Build()
}

func cipher(t testing.TB) *im.TextCipher {
	t.Helper()
	c, err := im.NewTextCipher("")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// message returns a text message from user 1.
func message(t testing.TB, typ pb.MsgType, to uint32, text string) *pb.MsgData {
	return &pb.MsgData{FromUserID: 1, ToSessionID: to, MsgID: 3, Type: typ,
		Data: cipher(t).Encrypt(text)}
}

func single(t testing.TB, text string) *pb.MsgData {
	return message(t, pb.MsgType_MSG_TYPE_SINGLE_TEXT, 2, text)
}

func same(t *testing.T, m, want pb.Message) {
	t.Helper()
	a, errA := m.AppendBody(nil)
	b, errB := want.AppendBody(nil)
	if errA != nil || errB != nil || string(a) != string(b) {
		t.Errorf("got %v, want %v", m, want)
	}
}

func TestRequestForMessageToUser(t *testing.T) {
	s := newScene(t)
	s.unread = map[uint32]uint32{1: 9, 2: 5}
	s.p.Stored(single(t, "你好"), nil)
	same(t, s.one(), pb.IMPushToUserReq_builder{Flash: proto.String("Ann:你好"),
		Data:          proto.String(`{"msg_type":1,"from_id":1}`),
		UserTokenList: []*pb.UserTokenInfo{token(2, 5, pushLoud)}}.Build())
	asked := s.db.asked
	if len(asked) != 2 ||
		!slices.Equal(asked[0].(*pb.IMGetDeviceTokenReq).GetUserId(), []uint32{2}) {
		t.Errorf("db_proxy was asked %v", asked)
	}
}

// TestPushIsSilentForUserAtPC checks that the route server is asked only for users
// without a pc client on this server, and only while it is up.
func TestPushIsSilentForUserAtPC(t *testing.T) {
	two := map[uint32]bool{2: true}
	for _, c := range []struct {
		name            string
		here, elsewhere map[uint32]bool
		routeDown       bool
		want            uint32
		asked           int
	}{
		{"no pc client", nil, nil, false, pushLoud, 1},
		{"pc client on another server", nil, two, false, pushSilent, 1},
		{"pc client here", two, nil, false, pushSilent, 0},
		{"route server down", nil, two, true, pushLoud, 0},
	} {
		s := newScene(t)
		s.unread[2] = 5
		s.here, s.elsewhere, s.route.down = c.here, c.elsewhere, c.routeDown
		s.p.Stored(single(t, "text"), nil)
		if got := s.one().GetUserTokenList()[0].GetPushType(); got != c.want {
			t.Errorf("%s: push type %d, want %d", c.name, got, c.want)
		}
		if len(s.route.asked) != c.asked {
			t.Errorf("%s: route server was asked %v", c.name, s.route.asked)
		}
		if n := testutil.ToFloat64(s.p.metrics.pushes); n != 1 {
			t.Errorf("%s: %v pushes counted", c.name, n)
		}
	}
}

// groupScene returns a scene with group 77, whose members 2 and 4 get pushes: 1 is the
// sender, 3 wants none, 5 has no token, and 4 has a pc client on another server.
func groupScene(t *testing.T) (*scene, *pb.MsgData) {
	s := newScene(t)
	s.members = []uint32{1, 2, 3, 4, 5}
	s.unread = map[uint32]uint32{1: 1, 2: 2, 3: 3, 4: 4}
	s.shield, s.elsewhere = map[uint32]bool{3: true}, map[uint32]bool{4: true}
	return s, message(t, pb.MsgType_MSG_TYPE_GROUP_TEXT, 77, "group")
}

// TestRequestForMessageToGroup checks the whole request, with members that are known and
// with members that db_proxy is asked for.
func TestRequestForMessageToGroup(t *testing.T) {
	for name, members := range map[string][]uint32{"known": {1, 2, 3, 4, 5}, "asked for": nil} {
		t.Run(name, func(t *testing.T) {
			s, m := groupScene(t)
			before := slices.Clone(members)
			s.p.Stored(m, members)
			same(t, s.one(), pb.IMPushToUserReq_builder{Flash: proto.String("Ann:group"),
				Data: proto.String(`{"msg_type":17,"from_id":1,"group_id":77}`),
				UserTokenList: []*pb.UserTokenInfo{token(2, 2, pushLoud),
					token(4, 4, pushSilent)}}.Build())
			if !slices.Equal(members, before) {
				t.Errorf("the members are now %v", members)
			}
			asked := s.db.asked
			if members == nil {
				asked = asked[1:]
			}
			if len(asked) != 3 {
				t.Fatalf("db_proxy was asked %v", s.db.asked)
			}
			ofTokens := asked[0].(*pb.IMGetDeviceTokenReq).GetUserId()
			ofShields := asked[1].(*pb.IMGroupGetShieldReq).GetUserId()
			if !slices.Equal(ofTokens, []uint32{2, 3, 4, 5}) ||
				!slices.Equal(ofShields, []uint32{2, 3, 4}) {
				t.Errorf("asked for tokens of %v and shields of %v", ofTokens, ofShields)
			}
		})
	}
}

func TestSoundToGroupShowsSentence(t *testing.T) {
	s, m := groupScene(t)
	m.Type, m.Data = pb.MsgType_MSG_TYPE_GROUP_AUDIO, []byte("\x00\x00\x00\x02sound")
	s.p.Stored(m, nil)
	const data = `{"msg_type":18,"from_id":1,"group_id":77}`
	got := s.one()
	if got.GetFlash() != "Ann在群聊中发送了一条语音消息" || got.GetData() != data {
		t.Errorf("audio: %v", got)
	}
}

func TestGroupWithoutReceiversGetsNoPush(t *testing.T) {
	for name, c := range map[string]struct {
		group   uint32
		members []uint32
		shield  map[uint32]bool
	}{
		"no member wants pushes": {77, nil, map[uint32]bool{2: true, 3: true, 4: true}},
		"sender is alone":        {77, []uint32{1}, nil},
		"group was deleted":      {78, nil, nil},
	} {
		s, m := groupScene(t)
		s.shield, m.ToSessionID = c.shield, c.group
		s.p.Stored(m, c.members)
		if got := s.take(); len(got) != 0 {
			t.Errorf("%s: pushed %v", name, got)
		}
	}
}

func TestGroupPushIsDroppedWithoutMembers(t *testing.T) {
	s, m := groupScene(t)
	s.dbErr = im.Errorf(im.Unavailable, "away")
	s.p.Stored(m, nil)
	n := testutil.ToFloat64(s.p.metrics.dropped.WithLabelValues("unavailable"))
	if got := s.take(); n != 1 || len(got) != 0 {
		t.Errorf("%v dropped, pushed %v", n, got)
	}
}

// TestLargeGroupNeedsSeveralRequests limits the phones per request.
func TestLargeGroupNeedsSeveralRequests(t *testing.T) {
	s := newScene(t)
	for user := range uint32(2*maxTokens + 1) {
		s.members = append(s.members, user+2)
		s.unread[user+2] = 1
	}
	s.p.Stored(message(t, pb.MsgType_MSG_TYPE_GROUP_TEXT, 77, "group"), s.members)
	var sizes []int
	for _, req := range s.take() {
		sizes = append(sizes, len(req.GetUserTokenList()))
	}
	if !slices.Equal(sizes, []int{maxTokens, maxTokens, 1}) {
		t.Errorf("requests for %v phones", sizes)
	}
}

// wantDropped fails unless the last message was dropped for a reason, and n so far were.
func (s *scene) wantDropped(reason string, n float64) {
	s.Helper()
	if got := s.take(); len(got) > 0 {
		s.Errorf("%s: pushed %v", reason, got)
	}
	if got := testutil.ToFloat64(s.p.metrics.dropped.WithLabelValues(reason)); got != n {
		s.Errorf("%s: %v dropped, want %v", reason, got, n)
	}
}

func TestPusherWithoutPeersDoesNothing(t *testing.T) {
	New(Options{Text: usualText, Cipher: cipher(t)}).Stored(single(t, "text"), nil)
}

func TestPushServerDownAsksNothing(t *testing.T) {
	s := newScene(t)
	s.unread[2], s.push.down = 1, true
	s.p.Stored(single(t, "text"), nil)
	s.wantDropped("down", 1)
	if len(s.db.asked) != 0 {
		t.Errorf("db_proxy was asked %v", s.db.asked)
	}
}

// emptyStand is a group of push servers that may have none.
type emptyStand struct {
	*stand
	empty bool
}

func (s *emptyStand) Empty() bool { return s.empty }

// TestNoPushServer: without any push server no push counts as dropped. Once there is one, pushes
// are sent.
func TestNoPushServer(t *testing.T) {
	s := newScene(t)
	s.unread[2], s.push.down = 1, true
	group := &emptyStand{s.push, true}
	s.p.Connect(Peers{Push: group, DB: s.db, Tokens: s.db, Route: s.route})
	s.p.Stored(single(t, "text"), nil)
	s.wantDropped("down", 0)
	group.empty, s.push.down = false, false
	s.p.Stored(single(t, "text"), nil)
	if len(s.push.sent) != 1 {
		t.Errorf("%d pushes, want 1", len(s.push.sent))
	}
}

func TestFailuresAreCounted(t *testing.T) {
	s := newScene(t)
	s.unread[2], s.push.full = 1, true
	s.p.Stored(single(t, "text"), nil)
	s.wantDropped("busy", 1)
	s.push.full, s.dbErr = false, errors.New("db_proxy cannot")
	s.p.Stored(single(t, "text"), nil)
	s.wantDropped("internal", 1)
}

func TestUserWithoutPhoneCostsOneQuestion(t *testing.T) {
	s := newScene(t)
	s.p.Stored(single(t, "text"), nil)
	s.wantDropped("internal", 0)
	if len(s.db.asked) != 1 || len(s.route.asked) != 0 {
		t.Errorf("asked %v and %v", s.db.asked, s.route.asked)
	}
}

func TestPushesUnderWayAreBounded(t *testing.T) {
	s := newScene(t)
	s.unread[2], s.db.hold = 1, true
	for range maxUnderWay + 7 {
		s.p.Stored(single(t, "text"), nil)
	}
	s.db.letGo()
	if got := s.take(); len(got) != maxUnderWay {
		t.Errorf("%d pushes", len(got))
	}
	s.wantDropped("too_many", 7)
}

// TestResultsAreCounted also checks that db_proxy is asked to clear a dead token.
func TestResultsAreCounted(t *testing.T) {
	s := newScene(t)
	result := func(code uint32, user *uint32) *pb.PushResult {
		return pb.PushResult_builder{UserToken: proto.String("tok"), ResultCode: &code,
			UserId: user}.Build()
	}
	l := s.p.Link()
	rsp := pb.IMPushToUserRsp_builder{PushResultList: []*pb.PushResult{
		result(0, nil), result(0, nil), result(1, nil), result(2, nil),
		result(2, proto.Uint32(5))}}
	l.Message(session.NewLink(session.NextID(), "push", nil), 0, rsp.Build())
	for what, want := range map[string]float64{"sent": 2, "failed": 2, "dead": 1} {
		if n := testutil.ToFloat64(s.p.metrics.results.WithLabelValues(what)); n != want {
			t.Errorf("%s: %v, want %v", what, n, want)
		}
	}
	if len(s.db.sent) != 1 {
		t.Fatalf("db_proxy was told %v", s.db.sent)
	}
	same(t, s.db.sent[0], pb.IMDeviceTokenReq_builder{UserId: proto.Uint32(5),
		DeviceToken: proto.String(""), DeadToken: proto.String("tok")}.Build())
}
