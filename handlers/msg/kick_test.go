package msg

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/proto/pb"
)

// toldOf returns what the servers that follow user's clients were told since the last
// call.
func (w *world) toldOf(user uint32) (told []string) {
	for _, r := range w.route.take() {
		if m, ok := r.m.(*pb.IMUserStatusUpdate); ok && m.GetUserId() == user {
			told = append(told, fmt.Sprintf("%d %v", m.GetUserStatus(), m.GetClientType()))
		}
	}
	count := 0
	for _, r := range w.login.take() {
		if m, ok := r.m.(*pb.IMUserCntUpdate); ok {
			count += map[uint32]int{1: 1, 2: -1}[m.GetUserAction()]
		}
	}
	return append(told, fmt.Sprint("count ", count))
}

func (w *world) wantTold(user uint32, want ...string) {
	w.t.Helper()
	if told := w.toldOf(user); !slices.Equal(told, want) {
		w.t.Fatalf("told of user %d: %q, want %q", user, told, want)
	}
}

// TestKickedConnection: from the notice on, the connection is not served, not delivered
// to and not online. Its end is told once, after the login that replaced it.
func TestKickedConnection(t *testing.T) {
	for _, ends := range []string{"client closes", "server closes"} {
		t.Run(ends, func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				old, bob := w.user(0, 1, win), w.user(1, 2, win)
				bob.send(5, text(1, "not answered")) // follows a delivery to the old client
				old.got()
				w.toldOf(1)
				next := w.user(1, 1, mac)
				old.want(pb.CmdKickUser)
				w.wantTold(1, "1 CLIENT_TYPE_MAC", "2 CLIENT_TYPE_WINDOWS", "count 0")
				if n := w.h.online.Of(1); len(n) != 1 || n[0] != next.s {
					t.Fatalf("online: %v", n)
				}
				old.on(func() {
					pcs := kept(t, presenceLoop(old.loop.Loop), "pcs")
					waiting := kept(t, conversationLoop(old.loop.Loop), "waiting")
					if pcs != 0 || waiting != 0 {
						t.Errorf("the loop keeps %d clients, %d with deliveries", pcs, waiting)
					}
				})

				asked := len(w.db.asked)
				for range 4 {
					old.send(7, text(2, "too late"))
					old.send(8, &pb.IMHeartBeat{})
					old.send(9, &pb.IMLogoutReq{})
					old.send(10, loginReq(1, win))
					bob.send(11, text(1, "news"))
				}
				old.want()
				if n := len(w.db.asked) - asked; n != 1 { // bob's repeats are known
					t.Errorf("db_proxy asked %d times", n)
				}
				time.Sleep(1900 * time.Millisecond)
				if old.isClosed() {
					t.Fatal("closed before two seconds")
				}
				if ends == "client closes" {
					old.hangUp()
				} else {
					time.Sleep(200 * time.Millisecond)
				}
				if !old.isClosed() {
					t.Fatal("not closed after two seconds")
				}
				time.Sleep(20 * time.Second) // nothing is sent again
				old.want()
				w.wantTold(1, "count 0")
			})
		})
	}
}

// TestKickedOnce: a client that is kicked twice, or leaves at the same moment, is told
// and leaves once.
func TestKickedOnce(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		phone, pc := w.user(0, 1, ios), w.user(1, 1, win)
		w.toldOf(1)
		m := &pb.IMServerKickUser{}
		m.SetUserId(1)
		m.SetClientType(mac)
		m.SetReason(uint32(pb.KickReasonType_KICK_REASON_DUPLICATE_USER))
		link := w.h.RouteLink()
		link.Message(w.route.s, 0, m)
		link.Message(w.route.s, 0, m)
		req := &pb.IMKickPCClientReq{}
		req.SetUserId(1)
		phone.send(3, req)
		pc.want(pb.CmdKickUser)
		w.wantTold(1, "2 CLIENT_TYPE_WINDOWS", "count -1")
		for reason, want := range map[pb.KickReasonType]float64{
			pb.KickReasonType_KICK_REASON_DUPLICATE_USER: 1,
			pb.KickReasonType_KICK_REASON_MOBILE_KICK:    0,
		} {
			if n := w.counted("kicks_total", reason.String()); n != want {
				t.Errorf("%v kicks counted for %v", n, reason)
			}
		}
		pc.hangUp()
		w.wantTold(1, "count 0")

		time.Sleep(fightGap)
		pc = w.user(1, 1, win)
		w.toldOf(1)
		pc.on(func() { // the notice finds the connection gone
			link.Message(w.route.s, 0, m)
			pc.Close()
		})
		pc.want()
		w.wantTold(1, "2 CLIENT_TYPE_WINDOWS", "count -1")
	})
}

// loginFrom connects from an address and asks to log in.
func (w *world) loginFrom(loop int, addr string, client pb.ClientType) *device {
	d := w.connectFrom(loop, netip.AddrPortFrom(netip.MustParseAddr(addr), 1))
	d.send(1, loginReq(1, client))
	return d
}

// TestMovesAreNotSlowed: a user that moves to another machine is served at once, and so
// are its devices of the other class.
func TestMovesAreNotSlowed(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		for i, x := range []struct {
			addr   string
			client pb.ClientType
		}{{"10.0.0.1", win}, {"10.0.0.2", mac}, {"10.0.0.3", win}, {"10.0.0.1", ios},
			{"10.0.0.4", win}} {
			if got := w.loginFrom(i%2, x.addr, x.client).got(); len(got) == 0 {
				t.Fatalf("login %d waits", i)
			}
		}
	})
}

// TestFightsAreSlowed: clients that come back as soon as they are kicked log in once in
// five seconds, all together, from one address or many.
func TestFightsAreSlowed(t *testing.T) {
	for _, addrs := range [][]string{
		{"10.0.0.1", "10.0.0.1"}, {"10.0.0.1", "10.0.0.2"},
		{"10.0.0.1", "10.0.0.2", "10.0.0.3"}, {"2001:db8::1", "2001:db8::2"},
	} {
		t.Run(fmt.Sprint(addrs), func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				tabs := make([]*device, len(addrs))
				for i, addr := range addrs {
					tabs[i] = w.loginFrom(i%2, addr, win)
				}
				start, logins := time.Now(), 0
				for time.Since(start) < 61*time.Second {
					time.Sleep(100 * time.Millisecond)
					for i, tab := range tabs {
						for _, f := range tab.got() {
							if f.m.Command() == pb.CmdLoginRes {
								logins++
							}
						}
						if tab.isClosed() {
							tabs[i] = w.loginFrom(i%2, addrs[i], win)
						}
					}
				}
				// The first logins of all, and one in five seconds.
				if first := len(addrs); logins < first+11 || logins > first+12 {
					t.Errorf("%d logins in 61 s", logins)
				}
			})
		})
	}
}

// TestFightAcrossServers: a server that was told to kick a client knows it when it comes
// back.
func TestFightAcrossServers(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		tab := w.loginFrom(0, "10.0.0.1", win)
		kick := &pb.IMServerKickUser{}
		kick.SetUserId(1)
		kick.SetClientType(win)
		kick.SetReason(uint32(pb.KickReasonType_KICK_REASON_DUPLICATE_USER))
		w.h.RouteLink().Message(w.route.s, 0, kick)
		tab.want(pb.CmdLoginRes, pb.CmdKickUser)
		tab.hangUp()
		tab = w.loginFrom(1, "10.0.0.1", win)
		time.Sleep(4900 * time.Millisecond)
		tab.want()
		time.Sleep(200 * time.Millisecond)
		tab.want(pb.CmdLoginRes)
	})
}

// entries is how much the loop of d keeps of logins that wait.
func (d *device) entries() (n int) {
	d.on(func() {
		held := admissionLoop(d.loop.Loop)
		for _, field := range []string{"byDue", "of", "from"} {
			n += kept(d.w.t, held, "held", field)
		}
	})
	return n
}

// TestWaitingLogin: a client that waits for its turn is served as before its login, is
// not closed by the login deadline, and is forgotten when it goes. Its text is stored after
// its login.
func TestWaitingLogin(t *testing.T) {
	inWorld(t, Options{LoginDeadline: 2 * time.Second}, func(w *world) {
		for _, gone := range []bool{true, false} {
			w.loginFrom(0, "10.0.0.1", win)
			first := w.loginFrom(1, "10.0.0.1", mac)
			d := w.loginFrom(0, "10.0.0.1", win)
			d.send(2, &pb.IMHeartBeat{})
			d.send(3, text(2, "not yet"))
			d.send(4, loginReq(2, win))
			d.want(pb.CmdHeartBeat)
			if gone {
				d.hangUp()
			}
			if n := d.entries(); (n == 0) != gone {
				t.Errorf("gone %v, %d entries", gone, n)
			}
			time.Sleep(5100 * time.Millisecond)
			if gone {
				d.want()
				if first.isOver() {
					t.Error("a client that is gone took the place of another")
				}
				first.hangUp()
				time.Sleep(fightMemory)
				continue
			}
			d.want(pb.CmdLoginRes, pb.CmdMsgDataAck)
			synctest.Wait()
			if n := d.entries(); !first.isOver() || n != 0 {
				t.Errorf("first one over %v, %d entries", first.isOver(), n)
			}
		}
	})
}
