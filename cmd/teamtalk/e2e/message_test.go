//go:build linux

package e2e

import (
	"slices"
	"testing"

	"teamtalk/core/client"
	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// TestDelivery lets alice with two devices write to bob with two devices, on different
// message servers if there are two. Acks wait for a receiver's ack for a minute, and none
// may be sent because that time was over.
func TestDelivery(t *testing.T) {
	t.Parallel()
	s := settings{users: 4, both: true,
		flags: []string{"--msg.ack-wait", "1m", "--msg.resend-window", "10m"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		here, there := sys.msgAddr[0], sys.msgAddr[1]
		d := &delivery{t: t, sys: sys, offline: 4}
		d.pc, d.alice = loggedIn(t, here, "u00001", windows)
		d.phone, _ = loggedIn(t, there, "u00001", ios)
		d.bobPC, d.bob = loggedIn(t, there, "u00002", mac)
		d.bobPhone, _ = loggedIn(t, here, "u00002", android)
		d.carol, d.carolID = loggedIn(t, there, "u00003", android)
		d.first()
		d.allDevices()
		d.otherServer()
		d.toOffline()
		d.repeated()
		d.repeatedElsewhere()
		d.statuses()
		d.read()
		for _, m := range slices.Compact(slices.Clone(sys.msg[:])) {
			if n := m.metric("teamtalk_msg_ack_timeouts_total", ""); n != 0 {
				t.Errorf("%s: %v acks were sent because a receiver did not ack", m.name, n)
			}
		}
	})
}

// delivery has the clients of TestDelivery. alice has pc and phone, bob has bobPC and
// bobPhone.
type delivery struct {
	t                            *testing.T
	sys                          *deployment
	pc, phone, bobPC, bobPhone   *wire
	carol                        *wire
	alice, bob, carolID, offline uint32 // users; offline has no client
}

// first sends first messages. No receiver has acked a message before, so their acks do
// not wait.
func (d *delivery) first() {
	d.pc.sendText(8, d.bob, "hello")
	m := d.bobPC.receiveText(d.alice, d.bob, 1, "hello")
	d.bobPhone.receiveText(d.alice, d.bob, 1, "hello")
	d.phone.receiveText(d.alice, d.bob, 1, "hello")
	d.bobPC.sendAck(m)
	d.bobPC.noticed(d.bob, d.alice, d.pc, d.phone, d.bobPhone)
	d.pc.sendText(9, d.carolID, "hello")
	d.phone.receiveText(d.alice, d.carolID, 1, "hello")
	d.carol.sendAck(d.carol.receiveText(d.alice, d.carolID, 1, "hello"))
	d.carol.noticed(d.carolID, d.alice, d.pc, d.phone)
}

// allDevices sends a message to bob. All devices receive it, and the ack waits for the
// first ack of bob's devices.
func (d *delivery) allDevices() {
	d.pc.send(10, text(d.bob, "hello again"))
	var m *pb.MsgData
	for _, w := range []*wire{d.phone, d.bobPC, d.bobPhone} {
		m = w.receiveText(d.alice, d.bob, 2, "hello again")
	}
	d.pc.alive() // no ack before that of a receiver
	d.bobPC.sendAck(m)
	equal(d.t, "id of the ack", d.pc.acked(10, d.bob), uint32(2))
	d.bobPhone.sendAck(m) // no sender waits any longer
	for _, w := range []*wire{d.pc, d.phone, d.bobPC, d.bobPhone, d.carol} {
		w.alive()
	}
}

// otherServer sends a message to carol, whose only device may be on the other message
// server.
func (d *delivery) otherServer() {
	d.pc.send(11, text(d.carolID, "are you there"))
	d.phone.receiveText(d.alice, d.carolID, 2, "are you there")
	m := d.carol.receiveText(d.alice, d.carolID, 2, "are you there")
	d.pc.alive()
	d.carol.sendAck(m)
	d.pc.acked(11, d.carolID)
}

// toOffline sends a message to a user that is offline. Its ack does not wait.
func (d *delivery) toOffline() {
	equal(d.t, "id of the ack", d.pc.sendText(12, d.offline, "for later"), uint32(1))
	d.phone.receiveText(d.alice, d.offline, 1, "for later")
}

// repeated sends messages again. One with the same seq, text and receiver is the same
// message, one with another seq is not.
func (d *delivery) repeated() {
	for range 2 {
		equal(d.t, "id of a repeated message", d.pc.sendText(12, d.offline, "for later"), uint32(1))
	}
	equal(d.t, "id with another seq", d.pc.sendText(13, d.offline, "for later"), uint32(2))
	d.phone.receiveText(d.alice, d.offline, 2, "for later")
}

// repeatedElsewhere repeats a message that has an id of the client, and one that has none,
// on other connections to both message servers. They remain the same messages.
func (d *delivery) repeatedElsewhere() {
	named := text(d.offline, "with a name")
	named.ClientMsgID = []byte("e2e-1")
	d.pc.send(14, named)
	equal(d.t, "id of the ack", d.pc.acked(14, d.offline), uint32(3))
	d.phone.receiveText(d.alice, d.offline, 3, "with a name")
	equal(d.t, "id without a name", d.pc.sendText(15, d.offline, "no name"), uint32(4))
	d.phone.receiveText(d.alice, d.offline, 4, "no name")
	d.pc.Close()
	for _, addr := range []string{d.sys.msgAddr[1], d.sys.msgAddr[0]} {
		d.pc, _ = loggedIn(d.t, addr, "u00001", windows)
		d.pc.send(77, named)
		equal(d.t, "id after a reconnection", d.pc.acked(77, d.offline), uint32(3))
		equal(d.t, "id without a name after a reconnection",
			d.pc.sendText(15, d.offline, "no name"), uint32(4))
	}
	d.phone.alive()
}

// statuses requests the status of users. carol is offline: the status is that of a pc,
// and she has a phone only.
func (d *delivery) statuses() {
	d.pc.send(20, pb.IMUsersStatReq_builder{
		UserId: new(d.alice), UserIdList: []uint32{d.bob, d.offline, d.carolID},
	}.Build())
	rsp := &pb.IMUsersStatRsp{}
	d.pc.expectSeq(20, rsp)
	got := map[uint32]pb.UserStatType{}
	for _, s := range rsp.GetUserStatList() {
		got[s.GetUserId()] = s.GetStatus()
	}
	equal(d.t, "statuses", got, map[uint32]pb.UserStatType{
		d.bob: isOnline, d.carolID: isOffline, d.offline: isOffline,
	})
}

// read sends a read ack from bob's pc. bob's phone is notified, and the sender is not.
func (d *delivery) read() {
	d.bobPC.send(0, pb.IMMsgDataReadAck_builder{
		UserId: new(d.bob), SessionId: new(d.alice), MsgId: new(uint32(2)),
		SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum(),
	}.Build())
	n := &pb.IMMsgDataReadNotify{}
	d.bobPhone.expectSeq(0, n)
	if n.GetUserId() != d.bob || n.GetSessionId() != d.alice || n.GetMsgId() != 2 {
		d.t.Errorf("notify %v", n)
	}
	d.bobPC.send(21, pb.IMUnreadMsgCntReq_builder{UserId: new(d.bob)}.Build())
	rsp := &pb.IMUnreadMsgCntRsp{}
	d.bobPC.expectSeq(21, rsp)
	equal(d.t, "unread messages", rsp.GetTotalCnt(), uint32(0))
	d.pc.alive()
}

// TestSilentRecipients sends to a receiver that stops to ack. One ack of the sender waits
// for it, and the server redelivers the message once. A receiver that never acked gets
// neither.
func TestSilentRecipients(t *testing.T) {
	t.Parallel()
	s := settings{users: 3, flags: []string{"--msg.ack-wait", "300ms", "--msg.redeliver-after",
		"1s"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		a, alice := loggedIn(t, sys.msgAddr[0], "u00001", android)
		b, bob := loggedIn(t, sys.msgAddr[1], "u00002", android)
		c, carol := loggedIn(t, sys.msgAddr[1], "u00003", windows)
		a.sendText(2, carol, "anybody?")
		c.receiveText(alice, carol, 1, "anybody?")
		a.sendText(3, bob, "anybody?")
		b.sendAck(b.receiveText(alice, bob, 1, "anybody?"))
		b.noticed(bob, alice, a)
		if id := a.sendText(4, bob, "still there?"); id != 2 {
			t.Errorf("acked as %d", id)
		}
		b.receiveText(alice, bob, 2, "still there?")
		m := b.receiveText(alice, bob, 2, "still there?")
		b.sendAck(m)
		b.noticed(bob, alice, a)
		// After the ack of bob, acks wait for bob again, and no message is redelivered.
		a.send(5, text(bob, "good"))
		b.sendAck(b.receiveText(alice, bob, 3, "good"))
		a.acked(5, bob)
		b.alive()
		c.alive() // no redelivery
	})
}

// TestSyncing requests the unread counts, the history and the contacts of a user that was
// offline.
func TestSyncing(t *testing.T) {
	t.Parallel()
	s := settings{users: 4, flags: []string{"--msg.ack", "stored", "--msg.rate", "0",
		"--dbproxy.history-limit", "20"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		a, alice := loggedIn(t, sys.msgAddr[0], "u00001", android)
		c, carol := loggedIn(t, sys.msgAddr[0], "u00003", android)
		const bob = 2
		for i := range 25 {
			a.sendText(uint16(i+2), bob, string(rune('a'+i)))
		}
		c.sendText(2, bob, "from carol")

		q := conn(t, sys.msgAddr[1], "u00002", windows)
		syncCounts(t, q, alice, carol)
		syncHistory(t, q, alice)
		users, _, err := client.Contacts(bounded(t), q, 0)
		if err != nil || len(users) != 4 {
			t.Errorf("contacts %v, %v", users, err)
		}
	})
}

// syncCounts checks the unread counts and the recent sessions.
func syncCounts(t *testing.T, q *tcp.Conn, alice, carol uint32) {
	t.Helper()
	unread, err := client.Unread(bounded(t), q)
	if err != nil {
		t.Fatal(err)
	}
	type count struct {
		Peer, Count, Latest uint32
		Text                string
	}
	var got []count
	for _, u := range unread {
		got = append(got, count{u.Peer, u.Count, u.Latest.ID, string(u.Latest.Data)})
	}
	slices.SortFunc(got, func(a, b count) int { return int(a.Peer) - int(b.Peer) })
	equal(t, "unread", got, []count{{alice, 25, 25, "y"}, {carol, 1, 1, "from carol"}})
	recent, err := client.Recent(bounded(t), q, 0)
	if err != nil || len(recent) != 2 {
		t.Errorf("recent %+v, %v", recent, err)
	}
}

// syncHistory checks the pages of the history with alice, and messages by id.
func syncHistory(t *testing.T, q *tcp.Conn, alice uint32) {
	t.Helper()
	peer := client.Peer{ID: alice}
	page := func(begin uint32, n int) ([]im.Message, error) {
		return client.History(bounded(t), q, peer, begin, n)
	}
	msgs, err := page(0, 3)
	wantIDs(t, "newest", alice, msgs, err, 25, 24, 23)
	msgs, err = page(2, 10)
	wantIDs(t, "oldest", alice, msgs, err, 2, 1)
	if msgs, err = page(0, 1000); err != nil || len(msgs) != 20 {
		t.Errorf("%d messages at once, %v; want the limit of 20", len(msgs), err)
	}
	msgs, err = client.ByID(bounded(t), q, peer, []uint32{3, 99, 7})
	wantIDs(t, "by id", alice, msgs, err, 7, 3)
	if id, err := client.LatestID(bounded(t), q, peer); err != nil || id != 25 {
		t.Errorf("latest %d, %v", id, err)
	}
	msgs, err = client.History(bounded(t), q, client.Peer{ID: 4}, 0, 10)
	if err != nil || len(msgs) != 0 {
		t.Errorf("history without a message: %v, %v", msgs, err)
	}
}

// wantIDs checks the ids of messages from alice to bob, whose texts are letters in the
// order of ids.
func wantIDs(t *testing.T, what string, alice uint32, msgs []im.Message, err error,
	want ...uint32) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	var ids []uint32
	for _, m := range msgs {
		ids = append(ids, m.ID)
		if string(m.Data) != string(rune('a'+m.ID-1)) || m.From != alice || m.To != 2 ||
			m.Created == 0 {
			t.Errorf("%s: %+v", what, m)
		}
	}
	equal(t, what, ids, want)
}

// TestRate sends more messages than the limit allows. The server drops those above it
// without an ack, and counts them.
func TestRate(t *testing.T) {
	t.Parallel()
	s := settings{users: 2, flags: []string{"--msg.rate", "0.01", "--msg.rate-burst", "5",
		"--msg.ack", "stored"}}
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
		if dropped := sys.msg[0].metric("teamtalk_msg_dropped_total",
			`reason="rate"`); dropped != 25 {
			t.Errorf("%v messages counted as dropped, want 25", dropped)
		}
	})
}

// TestPresence checks the notifications of a user's logins and logouts: a pc is notified
// of pcs, and a phone of the pc of its own user.
func TestPresence(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 3}, func(t *testing.T, sys *deployment) {
		here, there := sys.msgAddr[0], sys.msgAddr[1]
		watcher := withNews(t, here, "u00001", windows)
		watcher.status(1, isOnline)
		pc, other := loggedIn(t, there, "u00002", mac)
		watcher.status(other, isOnline)
		phone := withNews(t, here, "u00002", android)
		phone.pcStatus(other, isOnline)
		if sys.separate {
			// The users of a message server are offline after its death.
			sys.msg[1].kill()
			pc.closed()
		} else {
			pc.Close()
		}
		phone.pcStatus(other, isOffline)
		watcher.status(other, isOffline)
		phone.Close()
		watcher.alive()
	})
}
