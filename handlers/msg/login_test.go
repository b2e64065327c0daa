package msg

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"teamtalk/proto/pb"
)

func TestLogin(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		d := w.connect(0)
		d.send(7, loginReq(3, win))
		got := d.want(pb.CmdLoginRes)
		res := got[0].m.(*pb.IMLoginRes)
		if got[0].seq != 7 || res.GetResultCode() != 0 || res.GetResultString() != "ok" ||
			res.GetUserInfo().GetUserId() != 3 ||
			res.GetOnlineStatus() != pb.UserStatType_USER_STATUS_ONLINE ||
			res.GetServerTime() == 0 {
			t.Fatalf("answer %d %v", got[0].seq, res)
		}
		var cmds []string
		for _, r := range w.route.take() {
			cmds = append(cmds, r.m.Command().String())
		}
		if s := strings.Join(cmds,
			" "); s != "IMRoleSet IMOnlineUserInfo IMServerKickUser IMUserStatusUpdate" {
			t.Fatalf("route server was told %s", s)
		}
		d.send(8, loginReq(3, win))
		d.want() // a second request is ignored
	})
}

// TestLoginStatus logs in with each status. One that clients do not know is answered, and told
// others, as online.
func TestLoginStatus(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		for user, x := range []struct{ sent, want pb.UserStatType }{
			{pb.UserStatType_USER_STATUS_ONLINE, pb.UserStatType_USER_STATUS_ONLINE},
			{pb.UserStatType_USER_STATUS_OFFLINE, pb.UserStatType_USER_STATUS_ONLINE},
			{pb.UserStatType_USER_STATUS_LEAVE, pb.UserStatType_USER_STATUS_LEAVE},
			{0, pb.UserStatType_USER_STATUS_ONLINE},
			{77, pb.UserStatType_USER_STATUS_ONLINE},
			{-1, pb.UserStatType_USER_STATUS_ONLINE},
		} {
			d := w.connect(0)
			m := loginReq(uint32(user+1), win)
			m.SetOnlineStatus(x.sent)
			d.send(1, m)
			res := d.want(pb.CmdLoginRes)[0].m.(*pb.IMLoginRes)
			if res.GetResultCode() != 0 || res.GetOnlineStatus() != x.want {
				t.Errorf("status %d: answer %v, want status %v", x.sent, res, x.want)
			}
			d.hangUp()
		}
	})
}

func TestLoginUnknownClient(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		for range 3 { // at once each time
			d := w.connect(0)
			d.send(4, loginReq(1, 99))
			got := d.want(pb.CmdLoginRes)[0]
			res := got.m.(*pb.IMLoginRes)
			wrong := pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED
			if got.seq != 4 || res.GetResultCode() != wrong ||
				!strings.Contains(res.GetResultString(), "client_type") || !d.isClosed() {
				t.Fatalf("answer %d %v, closed %v", got.seq, res, d.isClosed())
			}
		}
		if len(w.db.asked) != 0 {
			t.Fatalf("db_proxy asked %d times", len(w.db.asked))
		}
	})
}

func TestLoginRefused(t *testing.T) {
	refused := func(w *world, want pb.ResultType) {
		t.Helper()
		d := w.connect(0)
		m := loginReq(1, win)
		if want == pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED {
			m.SetPassword("wrong")
		}
		d.send(1, m)
		res := d.want(pb.CmdLoginRes)[0].m.(*pb.IMLoginRes)
		if res.GetResultCode() != want || !d.isClosed() {
			t.Fatalf("result %v, closed %v, want %v and closed", res.GetResultCode(),
				d.isClosed(), want)
		}
		text := "wrong"
		if want != pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED {
			text = "服务端异常"
		}
		if res.GetResultString() != text {
			t.Errorf("%v with %q, want %q", want, res.GetResultString(), text)
		}
		time.Sleep(refusedMemory) // each is the first: see TestRefusedLoginsWait
	}
	inWorld(t, Options{}, func(w *world) {
		refused(w, pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED)
		w.db.broken = true
		refused(w, pb.ResultType_REFUSE_REASON_NO_DB_SERVER)
		w.db.broken = false
		w.h.LoginLink().Close(w.loginS, nil)
		w.loginLink.Close(w.loginS, nil)
		refused(w, pb.ResultType_REFUSE_REASON_NO_LOGIN_SERVER)
		if err := w.loginLink.Open(w.loginS); err != nil {
			t.Fatal(err)
		}
		w.route.link.Close(w.route.s, nil)
		refused(w, pb.ResultType_REFUSE_REASON_NO_ROUTE_SERVER)
		w.db.down = true
		refused(w, pb.ResultType_REFUSE_REASON_NO_DB_SERVER)
	})
}

// TestLoginWithoutLoginServer: a message server that login servers find in the registry needs no
// link to one.
func TestLoginWithoutLoginServer(t *testing.T) {
	inWorld(t, Options{Listed: true}, func(w *world) {
		w.loginLink.Close(w.loginS, nil)
		w.user(0, 1, win)
	})
}

func TestBeforeLogin(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		d := w.connect(0)
		d.send(1, text(2, "hi"))
		d.send(2, &pb.IMClientTimeReq{})
		d.want()
		d.send(3, &pb.IMHeartBeat{})
		if got := d.want(pb.CmdHeartBeat); got[0].seq != 3 {
			t.Fatalf("heartbeat echoed with seq %d", got[0].seq)
		}
		if len(w.db.asked) != 0 {
			t.Fatal("db_proxy was asked for a client that is not logged in")
		}
		time.Sleep(15*time.Second + time.Second)
		if !d.isClosed() {
			t.Fatal("not closed at the login deadline")
		}
	})
}

func TestTimeouts(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		pc, phone := w.user(0, 1, win), w.user(1, 2, ios)
		beat := func(d *device) { d.send(9, &pb.IMHeartBeat{}) }
		time.Sleep(100 * time.Second)
		beat(pc)
		time.Sleep(100 * time.Second)
		if pc.isClosed() || phone.isClosed() {
			t.Fatal("closed although the limit was not reached")
		}
		time.Sleep(22 * time.Second)
		if !pc.isClosed() || phone.isClosed() {
			t.Fatalf("after 122 s of silence: pc closed %v, phone (222 s) closed %v",
				pc.isClosed(), phone.isClosed())
		}
		time.Sleep(80 * time.Second)
		if !phone.isClosed() {
			t.Fatal("phone still there after 302 s of silence")
		}
	})
}

func TestDevicePolicies(t *testing.T) {
	types := []pb.ClientType{win, mac, ios, android}
	tests := map[DevicePolicy]func(old, next pb.ClientType) (oldStays, nextEnters bool){
		DeviceClass: func(old, next pb.ClientType) (bool, bool) {
			return !old.SameClass(next),
				true
		},
		OneClient: func(old, next pb.ClientType) (bool, bool) { return false, true },
		KeepFirst: func(old, next pb.ClientType) (bool, bool) {
			return true,
				!old.SameClass(next)
		},
		Unlimited: func(old, next pb.ClientType) (bool, bool) { return true, true },
	}
	for policy, want := range tests {
		for _, old := range types {
			for _, next := range types {
				t.Run(fmt.Sprintf("%s/%v then %v", policy, old, next), func(t *testing.T) {
					inWorld(t, Options{Policy: policy}, func(w *world) {
						a, b := w.user(0, 1, old), w.connect(1)
						b.send(1, loginReq(1, next))
						stays, enters := want(old, next)
						res := b.got()[0].m.(*pb.IMLoginRes)
						if (res.GetResultCode() == 0) != enters || b.isClosed() == enters {
							t.Fatalf("new one: result %v, closed %v", res.GetResultCode(),
								b.isClosed())
						}
						if a.isOver() == stays {
							t.Fatalf("old one: over %v", a.isOver())
						}
						if !stays {
							kick := a.want(pb.CmdKickUser)[0].m.(*pb.IMKickUser)
							reason := pb.KickReasonType_KICK_REASON_DUPLICATE_USER
							if kick.GetKickReason() != reason {
								t.Fatalf("reason %v", kick.GetKickReason())
							}
						}
					})
				})
			}
		}
	}
}

func TestKickFromElsewhere(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		link := w.h.RouteLink()
		kick := func(client pb.ClientType, reason pb.KickReasonType) {
			m := &pb.IMServerKickUser{}
			m.SetUserId(1)
			m.SetClientType(client)
			m.SetReason(uint32(reason))
			link.Message(w.route.s, 0, m)
		}
		pc, phone := w.user(0, 1, win), w.user(1, 1, ios)
		kick(mac, pb.KickReasonType_KICK_REASON_DUPLICATE_USER)
		if !pc.isOver() || phone.isOver() {
			t.Fatal("a pc that logs in elsewhere replaces the pc, not the phone")
		}
		time.Sleep(fightGap)
		pc = w.user(0, 1, win)
		kick(mac, pb.KickReasonType_KICK_REASON_MOBILE_KICK)
		if !pc.isOver() || phone.isOver() {
			t.Fatal("a phone elsewhere ends the pc, not the phone")
		}
	})
}

func TestKickPC(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		pc, phone := w.user(0, 1, win), w.user(1, 1, ios)
		req := &pb.IMKickPCClientReq{}
		req.SetUserId(1)
		pc.send(2, req)
		pc.want() // only a phone may
		phone.send(5, req)
		if got := phone.want(pb.CmdKickPCClientRsp); got[0].seq != 5 {
			t.Fatalf("seq %d", got[0].seq)
		}
		kick := pc.want(pb.CmdKickUser)[0].m.(*pb.IMKickUser)
		if kick.GetKickReason() != pb.KickReasonType_KICK_REASON_MOBILE_KICK || !pc.isOver() {
			t.Fatalf("reason %v, over %v", kick.GetKickReason(), pc.isOver())
		}
	})
}

func TestLogout(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		d := w.user(0, 1, win)
		w.route.take()
		d.send(6, &pb.IMLogoutReq{})
		if got := d.want(pb.CmdLogoutRsp); got[0].seq != 6 || !d.isClosed() {
			t.Fatalf("seq %d closed %v", got[0].seq, d.isClosed())
		}
		if m, ok := w.db.sent[0].(*pb.IMDeviceTokenReq); !ok || m.GetDeviceToken() != "" ||
			m.GetUserId() != 1 {
			t.Fatalf("db_proxy got %v", w.db.sent)
		}
		st := w.route.take()
		if len(st) != 1 || w.h.Online() != 0 ||
			st[0].m.(*pb.IMUserStatusUpdate).GetUserStatus() != uint32(statOffline) {
			t.Fatalf("route server got %v", st)
		}
	})
}
