package msg

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// pushStand is a push server: it keeps what it is sent.
type pushStand struct {
	mu   sync.Mutex
	down bool
	full bool
	got  []*pb.IMPushToUserReq
}

// Up reports whether it is there.
func (p *pushStand) Up() bool { return !p.down }

// Send keeps m.
func (p *pushStand) Send(_ uint64, _ uint16, m pb.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full {
		return im.Errorf(im.Busy, "queue full")
	}
	p.got = append(p.got, m.(*pb.IMPushToUserReq))
	return nil
}

// Call is not used.
func (p *pushStand) Call(*session.Loop, uint64, uint16, pb.Attachment, func(pb.Message, error)) {
	panic("pushes are not answered")
}

// take returns what came since the last call.
func (p *pushStand) take() []*pb.IMPushToUserReq {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}

// phones answers for db_proxy: tokens of these users, with their unread messages; shields of a group.
type phones struct {
	unread map[uint32]uint32 // of those who have a token
	shield map[uint32]bool
	err    error
	asked  []pb.Message
}

func (p *phones) answer(req pb.Message) (pb.Message, error) {
	switch m := req.(type) {
	case *pb.IMGetDeviceTokenReq:
		p.asked = append(p.asked, req)
		var list []*pb.UserTokenInfo
		for _, user := range m.GetUserId() {
			if n, ok := p.unread[user]; ok {
				list = append(list, token(user, n, pushLoud))
			}
		}
		return pb.IMGetDeviceTokenRsp_builder{UserTokenInfo: list}.Build(), p.err
	case *pb.IMGroupGetShieldReq:
		p.asked = append(p.asked, req)
		var list []*pb.ShieldStatus
		for _, user := range m.GetUserId() {
			st := uint32(0)
			if p.shield[user] {
				st = 1
			}
			list = append(list, pb.ShieldStatus_builder{UserId: proto.Uint32(user), GroupId: proto.Uint32(m.GetGroupId()), ShieldStatus: &st}.Build())
		}
		return pb.IMGroupGetShieldRsp_builder{GroupId: proto.Uint32(m.GetGroupId()), ShieldStatusList: list}.Build(), p.err
	}
	return nil, nil
}

func token(user, unread, typ uint32) *pb.UserTokenInfo {
	return pb.UserTokenInfo_builder{UserId: proto.Uint32(user), UserType: ios.Enum(), Token: proto.String("token of " + userName(user)),
		PushCount: proto.Uint32(unread), PushType: proto.Uint32(typ)}.Build()
}

// withPush gives a world a push server and phones.
func (w *world) withPush(p *phones) *pushStand {
	push := &pushStand{}
	w.h.ConnectPush(push)
	w.db.mu.Lock()
	w.db.also = p.answer
	w.db.mu.Unlock()
	return push
}

func encrypted(t testing.TB, to uint32, text string) *pb.MsgData {
	t.Helper()
	c, err := im.NewTextCipher("")
	if err != nil {
		t.Fatal(err)
	}
	return &pb.MsgData{ToSessionID: to, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: c.Encrypt(text)}
}

// TestPushForSingle: the whole request for a message between two, and what was asked for it.
func TestPushForSingle(t *testing.T) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		p := &phones{unread: map[uint32]uint32{1: 9, 2: 5}}
		push := w.withPush(p)
		alice := w.user(0, 1, win)
		alice.send(2, encrypted(t, 2, "你好"))
		got := push.take()
		if len(got) != 1 {
			t.Fatalf("%d pushes", len(got))
		}
		same(t, got[0], pb.IMPushToUserReq_builder{Flash: proto.String("你好"), Data: proto.String(`{"msg_type":1,"from_id":1}`),
			UserTokenList: []*pb.UserTokenInfo{token(2, 5, pushLoud)}}.Build())
		if len(p.asked) != 1 || !slices.Equal(p.asked[0].(*pb.IMGetDeviceTokenReq).GetUserId(), []uint32{2}) {
			t.Errorf("db_proxy was asked %v", p.asked)
		}
		if q := w.route.questions; len(q) != 1 || !q[0].HasSameClass() || q[0].GetSameClass().IsMobile() {
			t.Errorf("route server was asked %v", q)
		}

		// Who sits at a pc, elsewhere or here, gets a silent one; a phone that is on line does not count.
		w.route.elsewhere = map[uint32]bool{2: true}
		alice.send(3, encrypted(t, 2, "elsewhere"))
		if got := push.take(); len(got) != 1 || got[0].GetUserTokenList()[0].GetPushType() != pushSilent {
			t.Errorf("pc elsewhere: %v", got)
		}
		w.route.elsewhere = nil
		bobPhone := w.user(1, 2, ios)
		alice.send(4, encrypted(t, 2, "phone"))
		if got := push.take(); len(got) != 1 || got[0].GetUserTokenList()[0].GetPushType() != pushLoud {
			t.Errorf("phone on line: %v", got)
		}
		w.user(1, 2, mac)
		asked := len(w.route.questions)
		alice.send(5, encrypted(t, 2, "here"))
		if got := push.take(); len(got) != 1 || got[0].GetUserTokenList()[0].GetPushType() != pushSilent {
			t.Errorf("pc here: %v", got)
		}
		if len(w.route.questions) != asked {
			t.Error("the route server was asked of a pc that is here")
		}
		bobPhone.send(2, text(1, "not encrypted"))
		if got := push.take(); len(got) != 1 || got[0].GetFlash() != showAnything || got[0].GetUserTokenList()[0].GetUserId() != 1 {
			t.Errorf("answer: %v", got)
		}
		if n := w.h.pushing.Load(); n != 0 {
			t.Errorf("%d under way", n)
		}
		if n := testutil.ToFloat64(w.h.metrics.pushes); n != 5 {
			t.Errorf("%v pushes counted", n)
		}
	})
}

// TestPushForGroup: members with a token, but the sender and those who want none from the group.
func TestPushForGroup(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		p := &phones{unread: map[uint32]uint32{1: 1, 2: 2, 3: 3, 4: 4}, shield: map[uint32]bool{3: true}}
		push := w.withPush(p)
		w.route.elsewhere = map[uint32]bool{4: true}
		members := []uint32{1, 2, 3, 4, 5}
		m := encrypted(t, 77, "group")
		m.FromUserID, m.MsgID, m.Type = 1, 3, pb.MsgType_MSG_TYPE_GROUP_TEXT
		w.h.notifyPush(m, members)
		got := push.take()
		if len(got) != 1 {
			t.Fatalf("%d pushes", len(got))
		}
		same(t, got[0], pb.IMPushToUserReq_builder{Flash: proto.String("group"), Data: proto.String(`{"msg_type":17,"from_id":1,"group_id":77}`),
			UserTokenList: []*pb.UserTokenInfo{token(2, 2, pushLoud), token(4, 4, pushSilent)}}.Build())
		if len(p.asked) != 2 || !slices.Equal(p.asked[0].(*pb.IMGetDeviceTokenReq).GetUserId(), []uint32{2, 3, 4, 5}) ||
			!slices.Equal(p.asked[1].(*pb.IMGroupGetShieldReq).GetUserId(), []uint32{2, 3, 4}) {
			t.Errorf("asked %v", p.asked)
		}
		if !slices.Equal(members, []uint32{1, 2, 3, 4, 5}) {
			t.Errorf("the members are now %v", members)
		}
		p.shield = map[uint32]bool{2: true, 3: true, 4: true}
		w.h.notifyPush(m, members)
		m.Type, m.Data = pb.MsgType_MSG_TYPE_GROUP_AUDIO, []byte("\x00\x00\x00\x02sound")
		w.h.notifyPush(m, members)
		if got := push.take(); len(got) != 0 {
			t.Errorf("pushed to those who want none: %v", got)
		}
		p.shield = nil
		w.h.notifyPush(m, members)
		if got := push.take(); len(got) != 1 || got[0].GetFlash() != showAudio || got[0].GetData() != `{"msg_type":18,"from_id":1,"group_id":77}` {
			t.Errorf("audio: %v", got)
		}
		w.h.notifyPush(m, []uint32{1}) // alone
		if len(push.take()) != 0 || w.h.pushing.Load() != 0 {
			t.Error("pushes for nobody")
		}
	})
}

// TestPushToMany: the list of a large group goes in several requests.
func TestPushToMany(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		p := &phones{unread: map[uint32]uint32{}}
		push := w.withPush(p)
		var members []uint32
		for user := range uint32(2*maxPushTokens + 1) {
			members = append(members, user)
			p.unread[user] = 1
		}
		m := encrypted(t, 77, "group")
		m.FromUserID, m.Type = 99_999, pb.MsgType_MSG_TYPE_GROUP_TEXT
		w.h.notifyPush(m, members)
		var sizes []int
		for _, req := range push.take() {
			sizes = append(sizes, len(req.GetUserTokenList()))
		}
		if !slices.Equal(sizes, []int{maxPushTokens, maxPushTokens, 1}) {
			t.Errorf("requests for %v phones", sizes)
		}
	})
}

// TestPushNotPossible: without a push server nothing is asked; what fails is counted, and does not stay under way.
func TestPushNotPossible(t *testing.T) {
	m := encrypted(t, 2, "text")
	m.FromUserID = 1
	inWorld(t, Options{}, func(w *world) {
		p := &phones{unread: map[uint32]uint32{2: 1}}
		w.db.also = p.answer
		w.h.notifyPush(m, nil)
		synctest.Wait()
		if len(p.asked) != 0 {
			t.Error("asked without a push server")
		}
	})
	inWorld(t, Options{}, func(w *world) {
		p := &phones{unread: map[uint32]uint32{2: 1}}
		push := w.withPush(p)
		dropped := func(reason string) float64 {
			synctest.Wait()
			if n := w.h.pushing.Load(); n != 0 {
				t.Errorf("%s: %d under way", reason, n)
			}
			return testutil.ToFloat64(w.h.metrics.pushesDropped.WithLabelValues(reason))
		}
		push.down = true
		w.h.notifyPush(m, nil)
		if dropped("down") != 1 || len(p.asked) != 0 {
			t.Errorf("push server down: %d questions", len(p.asked))
		}
		push.down, push.full = false, true
		w.h.notifyPush(m, nil)
		if dropped("busy") != 1 {
			t.Error("a full push server")
		}
		push.full, p.err = false, errors.New("db_proxy cannot")
		w.h.notifyPush(m, nil)
		if dropped("internal") != 1 {
			t.Error("db_proxy without an answer")
		}
		p.err, p.unread = nil, nil
		w.h.notifyPush(m, nil) // no token: one question, no more
		if dropped("internal") != 1 || len(w.route.questions) != 1 {
			t.Errorf("no phone: the route server was asked %d times", len(w.route.questions)-1)
		}
		p.unread = map[uint32]uint32{2: 1}
		w.db.mu.Lock()
		w.db.hold = true
		w.db.mu.Unlock()
		for range maxPushing + 7 {
			w.h.notifyPush(m, nil)
		}
		w.db.letGo()
		if n := dropped("too_many"); n != 7 {
			t.Errorf("%v dropped, want 7", n)
		}
		if got := push.take(); len(got) != maxPushing {
			t.Errorf("%d pushes", len(got))
		}
	})
}

// TestPushResults: what the push server says is counted, and a dead token forgotten.
func TestPushResults(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		result := func(code uint32, user *uint32) *pb.PushResult {
			return pb.PushResult_builder{UserToken: proto.String("tok"), ResultCode: &code, UserId: user}.Build()
		}
		l := w.h.PushLink()
		l.Message(w.route.s, 0, pb.IMPushToUserRsp_builder{PushResultList: []*pb.PushResult{
			result(0, nil), result(0, nil), result(1, nil), result(2, nil), result(2, proto.Uint32(5))}}.Build())
		for what, want := range map[string]float64{"sent": 2, "failed": 2, "dead": 1} {
			if n := testutil.ToFloat64(w.h.metrics.pushResults.WithLabelValues(what)); n != want {
				t.Errorf("%s: %v, want %v", what, n, want)
			}
		}
		if len(w.db.sent) != 1 {
			t.Fatalf("db_proxy was told %v", w.db.sent)
		}
		same(t, w.db.sent[0], pb.IMDeviceTokenReq_builder{UserId: proto.Uint32(5), DeviceToken: proto.String(""), DeadToken: proto.String("tok")}.Build())
	})
}

func TestFlash(t *testing.T) {
	for _, test := range []struct {
		text string
		max  int
		want string
	}{
		{"hello", 0, "hello"},
		{"hello", 5, "hello"},
		{"hello!", 5, "hello…"},
		{"你好世界", 3, "你好世…"},
		{"a😀b", 2, "a😀…"},
		{strings.Repeat("长", 41), 0, strings.Repeat("长", 40) + "…"},
		{"hello", -1, showAnything},
		{"", 0, showAnything},
		{"  \n ", 0, showAnything},
		{"bad \xff", 0, showAnything},
		{pictureBegin + "http://x/y.jpg" + pictureEnd, 0, showPicture},
		{"look: " + pictureBegin + "http://x" + pictureEnd + pictureBegin + "http://y" + pictureEnd + " nice", 0, "look: [图片][图片] nice"},
		{pictureBegin + "http://" + strings.Repeat("x", 100) + pictureEnd + "12345678", 10, "[图片]123456…"},
		{"begun " + pictureBegin + "x", 0, "begun " + pictureBegin + "x"},
		{pictureEnd + pictureBegin, 0, pictureEnd + pictureBegin},
	} {
		h, err := New(Options{PushText: test.max})
		if err != nil {
			t.Fatal(err)
		}
		if got := h.flash(encrypted(t, 2, test.text)); got != test.want {
			t.Errorf("%q, %d characters: %q, want %q", test.text, test.max, got, test.want)
		}
	}
	h, err := New(Options{TextKey: strings.Repeat("k", 32)})
	if err != nil {
		t.Fatal(err)
	}
	if got := h.flash(encrypted(t, 2, "under another key")); got != showAnything {
		t.Errorf("another key: %q", got)
	}
	if got := h.flash(&pb.MsgData{Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO, Data: []byte("\x00\x00\x00\x01x")}); got != showAudio {
		t.Errorf("audio: %q", got)
	}
	if _, err := New(Options{TextKey: "short"}); err == nil {
		t.Error("a key of five bytes is taken")
	}
}

// FuzzFlash: whatever a body holds, a push shows something valid, not too long, and no address of a picture.
func FuzzFlash(f *testing.F) {
	f.Add("hello", 3)
	f.Add(pictureBegin+"x"+pictureEnd+pictureBegin, 40)
	f.Add("a\xff😀", 1)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit %= 100; limit < 0 {
			limit = -limit
		}
		h, err := New(Options{PushText: limit})
		if err != nil {
			t.Fatal(err)
		}
		m := encrypted(t, 2, text)
		got := h.flash(m)
		if got == "" || !utf8.ValidString(got) {
			t.Errorf("shows %q", got)
		}
		if n := utf8.RuneCountInString(strings.TrimSuffix(got, "…")); got != showAnything && n > max(limit, 1) && n > h.opt.PushText {
			t.Errorf("%d characters with a limit of %d", n, h.opt.PushText)
		}
		m.Data = []byte(text)
		if got := h.flash(m); got == "" || !utf8.ValidString(got) {
			t.Errorf("shows %q of what is no body", got)
		}
	})
}
