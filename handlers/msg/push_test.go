package msg

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// core/pusher tests which pushes are sent. The tests here show that the message server
// asks it: for which messages and receivers, and with which clients connected.

// pushStand is a push server: it keeps what it is sent.
type pushStand struct {
	mu  sync.Mutex
	got []*pb.IMPushToUserReq
}

// Up reports that the push server is connected.
func (*pushStand) Up() bool { return true }

// Send keeps m.
func (p *pushStand) Send(_ uint64, _ uint16, m pb.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, m.(*pb.IMPushToUserReq))
	return nil
}

// Call is not used.
func (*pushStand) Call(*session.Loop, uint64, uint16, pb.Attachment, func(pb.Message, error)) {
	panic("pushes are not answered")
}

// want checks the only push since the last call: "text user/type …".
func (p *pushStand) want(t *testing.T, want string) {
	t.Helper()
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	got := ""
	for _, req := range p.got {
		got += req.GetFlash()
		for _, tok := range req.GetUserTokenList() {
			got += fmt.Sprintf(" %d/%d", tok.GetUserId(), tok.GetPushType())
		}
	}
	if p.got = nil; got != want {
		t.Errorf("pushed %q, want %q", got, want)
	}
}

// withPush gives a world a push server, and every user a phone.
func (w *world) withPush() *pushStand {
	push := &pushStand{}
	w.h.ConnectPush(push)
	w.db.mu.Lock()
	defer w.db.mu.Unlock()
	w.db.also = func(req pb.Message) (pb.Message, error) {
		switch m := req.(type) {
		case *pb.IMGetDeviceTokenReq:
			var list []*pb.UserTokenInfo
			for _, user := range m.GetUserId() {
				list = append(list, pb.UserTokenInfo_builder{UserId: proto.Uint32(user),
					UserType: ios.Enum(), Token: proto.String("token"),
					PushCount: proto.Uint32(1), PushType: proto.Uint32(1)}.Build())
			}
			return pb.IMGetDeviceTokenRsp_builder{UserTokenInfo: list}.Build(), nil
		case *pb.IMUsersInfoReq:
			return pb.IMUsersInfoRsp_builder{UserId: proto.Uint32(m.GetUserId()),
					UserInfoList: []*pb.UserInfo{pb.UserInfo_builder{
						UserId: proto.Uint32(m.GetUserId()),
						UserNickName: proto.String(fmt.Sprint("u",
							m.GetUserId()))}.Build()}}.Build(),
				nil
		case *pb.IMGroupGetShieldReq:
			return pb.IMGroupGetShieldRsp_builder{GroupId: proto.Uint32(m.GetGroupId())}.Build(),
				nil
		}
		return nil, nil
	}
	return push
}

func encrypted(t testing.TB, to uint32, text string) *pb.MsgData {
	t.Helper()
	c, err := im.NewTextCipher("")
	if err != nil {
		t.Fatal(err)
	}
	return &pb.MsgData{ToSessionID: to, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT,
		Data: c.Encrypt(text)}
}

// TestPushForSingle: a push for a message between two, loud unless a pc is here; of a pc
// that is here the route server is not asked.
func TestPushForSingle(t *testing.T) {
	inWorld(t, Options{Ack: AckStored, PushText: 5}, func(w *world) {
		push := w.withPush()
		alice := w.user(0, 1, win)
		alice.send(2, encrypted(t, 2, "nobody here"))
		push.want(t, "u1:nobod… 2/1")
		bobPhone := w.user(1, 2, ios)
		alice.send(3, encrypted(t, 2, "phone"))
		push.want(t, "u1:phone 2/1")
		w.user(1, 2, mac)
		asked := len(w.route.questions)
		alice.send(4, encrypted(t, 2, "pc"))
		push.want(t, "u1:pc 2/2")
		if len(w.route.questions) != asked {
			t.Error("the route server was asked of a pc that is here")
		}
		bobPhone.send(2, encrypted(t, 1, "back"))
		push.want(t, "u2:back 1/2")
		bobPhone.send(2, encrypted(t, 1, "back")) // the same once more
		push.want(t, "")
	})
}

// TestPushForGroup: a push for a message in a group, sent once, by the server that gave
// the message to db_proxy.
func TestPushForGroup(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		push := w.withPush()
		w.db.addGroup(77, 1, 2, 3)
		alice := w.user(0, 1, win)
		w.user(1, 3, mac)
		m := encrypted(t, 77, "all")
		m.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
		alice.send(2, m)
		push.want(t, "u1:all 2/1 3/2")
		elsewhere := *m
		elsewhere.FromUserID, elsewhere.MsgID, elsewhere.ToSessionID = 2, 9, 77
		w.h.RouteLink().Message(w.route.s, 0, &elsewhere)
		push.want(t, "")
	})
}

// TestTextKey: a message server with a key that is none does not start.
func TestTextKey(t *testing.T) {
	if _, err := New(filled(Options{TextKey: "short"})); err == nil {
		t.Error("a key of five bytes is taken")
	}
}

// TestRequireCipher: texts that are not encrypted are dropped and counted if so
// configured; sounds are no texts.
func TestRequireCipher(t *testing.T) {
	for _, require := range []bool{false, true} {
		inWorld(t, Options{Ack: AckStored, RequireCipher: require}, func(w *world) {
			alice := w.user(0, 1, win)
			w.db.addGroup(77, 1, 2)
			plain := func(to uint32, typ pb.MsgType, body string) *pb.MsgData {
				return &pb.MsgData{ToSessionID: to, Type: typ, Data: []byte(body)}
			}
			for i, m := range []*pb.MsgData{
				plain(2, pb.MsgType_MSG_TYPE_SINGLE_TEXT, "plain"),
				plain(77, pb.MsgType_MSG_TYPE_GROUP_TEXT, "AAAA"),
			} {
				alice.send(uint16(10+i), m)
				if require {
					alice.want()
				} else {
					alice.want(pb.CmdMsgDataAck)
				}
			}
			alice.send(20, encrypted(t, 2, "encrypted"))
			alice.want(pb.CmdMsgDataAck)
			alice.send(21, plain(2, pb.MsgType_MSG_TYPE_SINGLE_AUDIO, "\x00\x00\x00\x02sound"))
			alice.want(pb.CmdMsgDataAck)
			want := map[bool]float64{true: 2}[require]
			if n := w.counted("dropped_total", "no_cipher"); n != want {
				t.Errorf("require %v: %v counted", require, n)
			}
		})
	}
}
