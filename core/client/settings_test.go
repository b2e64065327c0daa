package client

import (
	"encoding/json"
	"testing"

	"teamtalk/core/client/clienttest"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

func TestDepartments(t *testing.T) {
	s := newGroupServer(t)
	s.AddDepart(im.Depart{ID: 1, Name: "company", Updated: 10})
	s.AddDepart(im.Depart{ID: 2, Name: "kitchen", Parent: 1, Priority: 3, Updated: 20})
	a := open(t, s, "alice", nil)
	kitchen := im.Depart{ID: 2, Name: "kitchen", Parent: 1, Priority: 3}
	departs, since, err := Departs(t.Context(), a, 0)
	if err != nil || since != 20 || len(departs) != 2 || departs[1] != kitchen {
		t.Errorf("departments %+v, %d, %v", departs, since, err)
	}
	departs, since, err = Departs(t.Context(), a, 20)
	if err != nil || since != 20 || len(departs) != 1 {
		t.Errorf("departments since %+v, %d, %v", departs, since, err)
	}
}

func TestSignInfoAndAvatarAreBroadcast(t *testing.T) {
	s := newGroupServer(t)
	a, b := open(t, s, "alice", nil), open(t, s, "bob", nil)
	if err := SetSignInfo(t.Context(), a, "out to lunch"); err != nil {
		t.Error(err)
	}
	equal(t, "sign info", waitFor[SignChanged](b, 1)[0], SignChanged{alice, "out to lunch"})
	waitFor[SignChanged](a, 1)
	equal(t, "own sign info", a.User().SignInfo, "out to lunch")
	if err := SetAvatar(t.Context(), a, "http://x/y.png"); err != nil {
		t.Error(err)
	}
	equal(t, "avatar", waitFor[AvatarChanged](b, 1)[0], AvatarChanged{alice, "http://x/y.png"})
	users, err := UserInfos(t.Context(), b, []uint32{alice, 77})
	if err != nil || len(users) != 1 || users[0].SignInfo != "out to lunch" ||
		users[0].Avatar != "http://x/y.png" {
		t.Errorf("users %+v, %v", users, err)
	}
}

// openPhone opens a Client of alice's phone.
func openPhone(t *testing.T, s *clienttest.Server) *person {
	return open(t, s, "alice", func(o *Options) {
		o.ClientType = pb.ClientType_CLIENT_TYPE_ANDROID
	})
}

func TestRemoveSessionNotifiesOtherDevice(t *testing.T) {
	s := newGroupServer(t)
	s.Store(bob, alice, body(t, "x"))
	a, phone := open(t, s, "alice", nil), openPhone(t, s)
	if err := RemoveSession(t.Context(), a, Peer{ID: bob}); err != nil {
		t.Error(err)
	}
	equal(t, "removed", waitFor[SessionRemoved](phone, 1)[0], SessionRemoved{Peer{ID: bob}})
	if err := RemoveSession(t.Context(), a, Peer{ID: bob}); im.KindOf(err) != im.Denied {
		t.Errorf("removed twice: %v", err)
	}
}

func TestPushShieldIsKept(t *testing.T) {
	a := open(t, newGroupServer(t), "alice", nil)
	for _, on := range []bool{true, false} {
		if err := SetPushShield(t.Context(), a, on); err != nil {
			t.Error(err)
		}
		if got, err := PushShield(t.Context(), a); err != nil || got != on {
			t.Errorf("push shield %t, %v", got, err)
		}
	}
}

func TestPhoneSettings(t *testing.T) {
	s := newGroupServer(t)
	a, phone := open(t, s, "alice", nil), openPhone(t, s)
	err := SetDeviceToken(t.Context(), phone, pb.ClientType_CLIENT_TYPE_ANDROID, "token")
	if err != nil {
		t.Error(err)
	}
	s.PushFrame(alice, pb.IMPCLoginStatusNotify_builder{UserId: new(alice),
		LoginStat: pb.UserStatType_USER_STATUS_OFFLINE.Enum()}.Build())
	equal(t, "pc login", waitFor[PCLogin](phone, 1)[0], PCLogin{Online: false})
	if err := KickPC(t.Context(), phone); err != nil {
		t.Error(err)
	}
	equal(t, "kicked", waitFor[Kicked](a, 1)[0].Reason,
		pb.KickReasonType_KICK_REASON_MOBILE_KICK)
}

func TestSoundArrives(t *testing.T) {
	s := newGroupServer(t)
	s.AddGroup(6, "lunch", pb.GroupType_GROUP_TYPE_TMP, bob, alice)
	a, b := open(t, s, "alice", nil), open(t, s, "bob", nil)
	for _, p := range []Peer{{ID: bob}, group(6)} {
		if _, err := a.SendAudio(p, 3, []byte("sound")); err != nil {
			t.Fatal(err)
		}
	}
	got := waitFor[Received](b, 2)
	for i, want := range []pb.MsgType{pb.MsgType_MSG_TYPE_SINGLE_AUDIO,
		pb.MsgType_MSG_TYPE_GROUP_AUDIO} {
		m := got[i].Message
		if seconds, sound, ok := Sound(m); !ok || seconds != 3 || string(sound) != "sound" ||
			m.Type != want {
			t.Errorf("message %+v: %d, %q, %t", m, seconds, sound, ok)
		}
	}
}

func TestSoundIsChecked(t *testing.T) {
	a := open(t, newGroupServer(t), "alice", nil)
	for _, bad := range [][]byte{nil, make([]byte, im.MaxAudio+1)} {
		if _, err := a.SendAudio(Peer{ID: bob}, 1, bad); im.KindOf(err) != im.Invalid {
			t.Errorf("sound of %d bytes: %v", len(bad), err)
		}
	}
	for _, m := range []im.Message{
		{Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO, Data: []byte{0, 0, 0}},
		{Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("12345")},
	} {
		if _, _, ok := Sound(m); ok {
			t.Errorf("%+v is a sound", m)
		}
	}
}

func TestTypingAndCommandsArrive(t *testing.T) {
	s := newGroupServer(t)
	a, b, phone := open(t, s, "alice", nil), open(t, s, "bob", nil), openPhone(t, s)
	for _, on := range []bool{true, false} {
		if err := a.SendTyping(bob, on); err != nil {
			t.Error(err)
		}
	}
	equal(t, "typing", waitFor[Typing](b, 2), []Typing{{alice, true}, {alice, false}})
	if err := a.SendCommand(bob, "nudge"); err != nil {
		t.Error(err)
	}
	equal(t, "command", waitFor[Command](b, 1)[0], Command{alice, bob, "nudge"})
	waitFor[Command](phone, 1)
	equal(t, "typing on the user's own phone", len(all[Typing](phone)), 0)
}

func TestSendCommandRejects(t *testing.T) {
	s := newGroupServer(t)
	a := open(t, s, "alice", nil)
	long := string(make([]byte, maxCommand+1))
	if err := a.SendCommand(bob, long); im.KindOf(err) != im.Invalid {
		t.Errorf("long command: %v", err)
	}
	s.Crash()
	waitFor[Disconnected](a, 1)
	if err := a.SendTyping(bob, true); im.KindOf(err) != im.Unavailable {
		t.Errorf("without a connection: %v", err)
	}
}

func TestTypingIsRecognized(t *testing.T) {
	for data, want := range map[string][2]bool{
		`typing`: {true, true},
		`{"service_id":1,"cmd_id":131073,"content":"writing"}`: {true, true},
		`{"content":"x","cmd_id":131074,"service_id":1}`:       {false, true},
		`{"service_id":1,"cmd_id":65537,"content":"judge 1"}`:  {false, false},
		`{"service_id":2,"cmd_id":131073,"content":"writing"}`: {false, false},
		`{"service_id":"1","cmd_id":131073}`:                   {false, false},
		``:                                                     {false, false},
		`[]`:                                                   {false, false},
	} {
		if on, ok := typing(data); on != want[0] || ok != want[1] {
			t.Errorf("typing(%s) = %t, %t", data, on, ok)
		}
	}
}

func FuzzTyping(f *testing.F) {
	f.Add("typing")
	f.Add(`{"service_id":1,"cmd_id":131073,"content":"writing"}`)
	f.Fuzz(func(t *testing.T, data string) {
		if on, ok := typing(data); on && !ok || ok && data != "typing" &&
			!json.Valid([]byte(data)) {
			t.Errorf("typing(%q) = %t, %t", data, on, ok)
		}
	})
}
