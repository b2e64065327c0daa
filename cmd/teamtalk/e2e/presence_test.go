//go:build linux

package e2e

import (
	"testing"

	"teamtalk/proto/pb"
)

// status reads the next frame, which has to say that user's pc came or went.
func (w *wire) status(user uint32, status pb.UserStatType) {
	w.t.Helper()
	n := &pb.IMUserStatNotify{}
	w.expectSeq(0, n)
	if st := n.GetUserStat(); st.GetUserId() != user || st.GetStatus() != status {
		w.t.Fatalf("told that user %d is %v, want %d %v", st.GetUserId(), st.GetStatus(), user, status)
	}
}

// signs changes the user's sign info, which everybody hears of, also those who are told of nobody's coming and going. It is told with and after the statuses
// that were collected before it: who has heard it has heard them.
func (w *wire) signs(text string, hearers ...*wire) {
	w.t.Helper()
	w.send(77, pb.IMChangeSignInfoReq_builder{UserId: new(uint32(0)), SignInfo: new(text)}.Build())
	rsp := &pb.IMChangeSignInfoRsp{}
	w.expectSeq(77, rsp)
	if rsp.GetResultCode() != 0 {
		w.t.Fatalf("sign info refused: %d", rsp.GetResultCode())
	}
	for _, o := range append([]*wire{w}, hearers...) {
		n := &pb.IMSignInfoChangedNotify{}
		o.expectSeq(0, n)
		if n.GetSignInfo() != text {
			w.t.Fatalf("told of the sign info %q, want %q", n.GetSignInfo(), text)
		}
	}
}

// TestPresenceModes: who hears of whom, on two message servers where there are two. Alice and Bob have a conversation, Dave has
// one with Bob only after his first message.
func TestPresenceModes(t *testing.T) {
	t.Parallel()
	const online, offline = pb.UserStatType_USER_STATUS_ONLINE, pb.UserStatType_USER_STATUS_OFFLINE
	forEachShape(t, settings{users: 4}, func(t *testing.T, sys *deployment) {
		here, there := sys.msgAddr[0], sys.msgAddr[1]
		writer, alice := loggedIn(t, here, "u00001", android)
		bob, dave := alice+1, alice+3
		writer.say(2, bob, "hello")
		writer.Close()
		for _, mode := range []string{"contacts", "all", "none"} {
			t.Log(mode)
			sys.restartMsg("--msg.presence", mode)
			enter := func(addr, name string, client pb.ClientType) *wire {
				w := dial(t, addr)
				w.login(name, client)
				w.news = true
				return w
			}
			a := enter(here, "u00001", windows)
			if mode != "none" {
				a.status(alice, online) // its own
			}
			phone := enter(there, "u00001", ios) // later than the pc
			pc := &pb.IMPCLoginStatusNotify{}
			if phone.expect(pc); pc.GetUserId() != alice || pc.GetLoginStat() != online {
				t.Fatalf("the phone was told %v", pc)
			}
			// Until the server has a client's list it tells it of everybody: this is answered behind the server's own question.
			listed := func(w *wire) {
				w.send(3, pb.IMRecentContactSessionReq_builder{UserId: new(uint32(0)), LatestUpdateTime: new(uint32(0))}.Build())
				w.expectSeq(3, &pb.IMRecentContactSessionRsp{})
			}
			listed(a)
			b := enter(there, "u00002", mac)
			if mode != "none" {
				a.status(bob, online)
				b.status(bob, online)
			}
			listed(b)
			d := enter(here, "u00004", windows)
			switch mode {
			case "all":
				for _, w := range []*wire{a, b, d} {
					w.status(dave, online)
				}
			case "contacts":
				d.status(dave, online)
			}
			d.signs(mode, a, b, phone)

			// The first message makes them hear of each other.
			d.send(5, text(bob, "hello from dave"))
			m := &pb.MsgData{}
			b.expectSeq(0, m)
			b.heard(m)
			d.acked(5, bob)
			b.Close()
			if mode != "none" {
				a.status(bob, offline)
				d.status(bob, offline)
			}
			a.Close()
			if phone.expect(pc); pc.GetUserId() != alice || pc.GetLoginStat() != offline {
				t.Fatalf("the phone was told %v", pc)
			}
			if mode == "all" {
				d.status(alice, offline)
			}
			d.signs(mode+" again", phone)
			d.Close()
			phone.Close()
		}
	})
}
