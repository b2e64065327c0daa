//go:build linux

package e2e

import (
	"slices"
	"testing"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// TestDelivery has one person with two devices write to another with two, on different message servers where there are two. Acks wait
// for an answer: longer than the test has patience, so that one that comes was not for want of time.
func TestDelivery(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 4, flags: []string{"--msg.ack-wait", "1m"}}, func(t *testing.T, sys *deployment) {
		here, there := sys.msgAddr[0], sys.msgAddr[1]
		pc, alice := loggedIn(t, here, "u00001", windows)
		phone, _ := loggedIn(t, there, "u00001", ios)
		bobPC, bob := loggedIn(t, there, "u00002", mac)
		bobPhone, _ := loggedIn(t, here, "u00002", android)
		carol, carolID := loggedIn(t, there, "u00003", android)

		{ // first deliveries, which nobody is known to acknowledge: not waited for
			pc.say(8, bob, "hello")
			m := bobPC.hear(alice, bob, 1, "hello")
			bobPhone.hear(alice, bob, 1, "hello")
			phone.hear(alice, bob, 1, "hello")
			bobPC.heard(m)
			bobPC.noticed(bob, alice, pc, phone, bobPhone)
			pc.say(9, carolID, "hello")
			phone.hear(alice, carolID, 1, "hello")
			carol.heard(carol.hear(alice, carolID, 1, "hello"))
			carol.noticed(carolID, alice, pc, phone)
		}
		{ // all devices
			pc.send(10, text(bob, "hello again"))
			var m *pb.MsgData
			for _, w := range []*wire{phone, bobPC, bobPhone} {
				m = w.hear(alice, bob, 2, "hello again")
			}
			pc.alive() // no ack yet: nobody has answered
			bobPC.heard(m)
			if id := pc.acked(10, bob); id != 2 {
				t.Errorf("acked as %d", id)
			}
			bobPhone.heard(m) // too late for anybody to wait
			for _, w := range []*wire{pc, phone, bobPC, bobPhone, carol} {
				w.alive()
			}
		}
		{ // answered elsewhere only
			pc.send(11, text(carolID, "are you there"))
			phone.hear(alice, carolID, 2, "are you there")
			m := carol.hear(alice, carolID, 2, "are you there")
			pc.alive()
			carol.heard(m)
			pc.acked(11, carolID)
		}
		{ // offline
			if id := pc.say(12, 4, "for later"); id != 1 {
				t.Errorf("acked as %d", id)
			}
			phone.hear(alice, 4, 1, "for later")
		}
		{ // sent again
			for range 2 { // the same seq, content and target: the same message
				if id := pc.say(12, 4, "for later"); id != 1 {
					t.Errorf("acked as %d", id)
				}
			}
			if id := pc.say(13, 4, "for later"); id != 2 {
				t.Errorf("with another seq acked as %d", id)
			}
			phone.hear(alice, 4, 2, "for later")
			named := text(4, "with a name")
			named.ClientMsgID = []byte("e2e-1")
			pc.send(14, named)
			if id := pc.acked(14, 4); id != 3 {
				t.Errorf("acked as %d", id)
			}
			phone.hear(alice, 4, 3, "with a name")

			// From another connection, to another server.
			pc.Close()
			for _, addr := range []string{there, here} {
				pc, _ = loggedIn(t, addr, "u00001", windows)
				pc.send(77, named)
				if id := pc.acked(77, 4); id != 3 {
					t.Errorf("acked as %d after connecting again", id)
				}
			}
			phone.alive()
		}
		{ // statuses
			pc.send(20, pb.IMUsersStatReq_builder{UserId: new(alice), UserIdList: []uint32{bob, 4, carolID}}.Build())
			rsp := &pb.IMUsersStatRsp{}
			pc.expectSeq(20, rsp)
			got := map[uint32]pb.UserStatType{}
			for _, s := range rsp.GetUserStatList() {
				got[s.GetUserId()] = s.GetStatus()
			}
			if len(got) != 3 || got[bob] != pb.UserStatType_USER_STATUS_ONLINE ||
				got[carolID] != pb.UserStatType_USER_STATUS_OFFLINE || got[4] != pb.UserStatType_USER_STATUS_OFFLINE {
				// carol is at a phone only: that is no pc
				t.Errorf("statuses %v", got)
			}
		}
		{ // read
			bobPC.send(0, pb.IMMsgDataReadAck_builder{
				UserId: new(bob), SessionId: new(alice), MsgId: new(uint32(2)), SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum(),
			}.Build())
			n := &pb.IMMsgDataReadNotify{}
			bobPhone.expectSeq(0, n)
			if n.GetUserId() != bob || n.GetSessionId() != alice || n.GetMsgId() != 2 {
				t.Errorf("notify %v", n)
			}
			bobPC.send(21, pb.IMUnreadMsgCntReq_builder{UserId: new(bob)}.Build())
			rsp := &pb.IMUnreadMsgCntRsp{}
			bobPC.expectSeq(21, rsp)
			if rsp.GetTotalCnt() != 0 {
				t.Errorf("unread %v", rsp)
			}
			pc.alive() // the sender is not told
		}
	})
}

// TestSilentRecipients has a receiver that stops to acknowledge: senders wait for it once, and it is
// sent again, once, what it did not acknowledge. One that never did is neither.
func TestSilentRecipients(t *testing.T) {
	t.Parallel()
	s := settings{users: 3, flags: []string{"--msg.ack-wait", "300ms", "--msg.redeliver-after", "1s"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		a, alice := loggedIn(t, sys.msgAddr[0], "u00001", android)
		b, bob := loggedIn(t, sys.msgAddr[1], "u00002", android)
		c, carol := loggedIn(t, sys.msgAddr[1], "u00003", windows)
		a.say(2, carol, "anybody?")
		c.hear(alice, carol, 1, "anybody?")
		a.say(3, bob, "anybody?")
		b.heard(b.hear(alice, bob, 1, "anybody?"))
		b.noticed(bob, alice, a)
		if id := a.say(4, bob, "still there?"); id != 2 {
			t.Errorf("acked as %d", id)
		}
		b.hear(alice, bob, 2, "still there?")
		m := b.hear(alice, bob, 2, "still there?")
		b.heard(m)
		b.noticed(bob, alice, a)
		// It answers: from now on it is waited for again, and nothing is sent twice.
		a.send(5, text(bob, "good"))
		b.heard(b.hear(alice, bob, 3, "good"))
		a.acked(5, bob)
		b.alive()
		c.alive() // not sent again
	})
}

// TestSyncing asks for what was said.
func TestSyncing(t *testing.T) {
	t.Parallel()
	s := settings{users: 4, flags: []string{"--msg.ack", "stored", "--msg.rate", "0", "--dbproxy.history-limit", "20"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		a, alice := loggedIn(t, sys.msgAddr[0], "u00001", android)
		c, carol := loggedIn(t, sys.msgAddr[0], "u00003", android)
		const bob = 2
		for i := range 25 {
			a.say(uint16(i+2), bob, string(rune('a'+i)))
		}
		c.say(2, bob, "from carol")

		q := conn(t, sys.msgAddr[1], "u00002", windows)
		ctx := bounded(t)
		unread, err := client.Unread(ctx, q)
		slices.SortFunc(unread, func(a, b im.Unread) int { return int(a.Peer) - int(b.Peer) })
		if err != nil || len(unread) != 2 || unread[0].Peer != alice || unread[0].Count != 25 || unread[0].Latest.ID != 25 ||
			string(unread[0].Latest.Data) != "y" || unread[1].Peer != carol || unread[1].Count != 1 {
			t.Errorf("unread %+v, %v", unread, err)
		}
		recent, err := client.Recent(ctx, q, 0)
		if err != nil || len(recent) != 2 {
			t.Errorf("recent %+v, %v", recent, err)
		}
		peer := client.Peer{ID: alice}
		wantIDs := func(what string, msgs []im.Message, err error, want ...uint32) {
			t.Helper()
			var ids []uint32
			for _, m := range msgs {
				ids = append(ids, m.ID)
				if string(m.Data) != string(rune('a'+m.ID-1)) || m.From != alice || m.To != bob || m.Created == 0 {
					t.Errorf("%s: %+v", what, m)
				}
			}
			if err != nil || !slices.Equal(ids, want) {
				t.Errorf("%s: ids %v, %v; want %v", what, ids, err, want)
			}
		}
		msgs, err := client.History(ctx, q, peer, 0, 3)
		wantIDs("newest", msgs, err, 25, 24, 23)
		msgs, err = client.History(ctx, q, peer, 2, 10)
		wantIDs("oldest", msgs, err, 2, 1)
		if msgs, err = client.History(ctx, q, peer, 0, 1000); err != nil || len(msgs) != 20 {
			t.Errorf("%d messages at once, %v; want the limit", len(msgs), err)
		}
		if msgs, err = client.History(ctx, q, client.Peer{ID: 4}, 0, 10); err != nil || len(msgs) != 0 {
			t.Errorf("with a stranger %v, %v", msgs, err)
		}
		msgs, err = client.ByID(ctx, q, peer, []uint32{3, 99, 7})
		wantIDs("by id", msgs, err, 7, 3)
		if id, err := client.LatestID(ctx, q, peer); err != nil || id != 25 {
			t.Errorf("latest %d, %v", id, err)
		}
		users, _, err := client.Contacts(ctx, q, 0)
		if err != nil || len(users) != 4 {
			t.Errorf("contacts %v, %v", users, err)
		}
	})
}

// TestRate sends more than is allowed: what is beyond is dropped without ack, and counted.
func TestRate(t *testing.T) {
	t.Parallel()
	s := settings{users: 2, flags: []string{"--msg.rate", "0.01", "--msg.rate-burst", "5", "--msg.ack", "stored"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		w, _ := loggedIn(t, sys.msgAddr[0], "u00001", android)
		var segment []byte
		for seq := range uint16(30) {
			segment = append(segment, encode(t, seq+10, text(2, "much"))...)
		}
		w.write(segment)
		for seq := range uint16(5) {
			w.acked(seq+10, 2)
		}
		w.alive()
		if dropped := sys.msg[0].metric("teamtalk_msg_dropped_total", `reason="rate"`); dropped != 25 {
			t.Errorf("%v messages counted as dropped, want 25", dropped)
		}
	})
}

// TestPresence follows who is told when people come and go.
func TestPresence(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 3}, func(t *testing.T, sys *deployment) {
		here, there := sys.msgAddr[0], sys.msgAddr[1]
		watcher := dial(t, here)
		watcher.news = true
		user := watcher.login("u00001", windows)
		expect := func(w *wire, user uint32, status pb.UserStatType) {
			t.Helper()
			n := &pb.IMUserStatNotify{}
			w.expectSeq(0, n)
			if n.GetUserStat().GetUserId() != user || n.GetUserStat().GetStatus() != status {
				t.Errorf("notify %v, want user %d, %v", n, user, status)
			}
		}
		expect(watcher, user, pb.UserStatType_USER_STATUS_ONLINE)
		pc, other := loggedIn(t, there, "u00002", mac)
		expect(watcher, other, pb.UserStatType_USER_STATUS_ONLINE)
		phone := dial(t, here)
		phone.news = true
		phone.login("u00002", android)
		n := &pb.IMPCLoginStatusNotify{}
		phone.expectSeq(0, n)
		if n.GetLoginStat() != pb.UserStatType_USER_STATUS_ONLINE {
			t.Errorf("notify %v", n)
		}
		if sys.separate {
			// A message server that dies takes its users' statuses with it.
			sys.msg[1].kill()
			pc.closed()
		} else {
			pc.Close()
		}
		phone.expectSeq(0, n)
		if n.GetUserId() != other || n.GetLoginStat() != pb.UserStatType_USER_STATUS_OFFLINE {
			t.Errorf("notify %v", n)
		}
		expect(watcher, other, pb.UserStatType_USER_STATUS_OFFLINE)
		phone.Close()
		watcher.alive()
	})
}
