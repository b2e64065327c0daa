//go:build linux

package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/proto/pb"
	"teamtalk/sql/rediswhereabouts"
)

// TestMesh runs two message servers without a route server. They find each other in Redis, and
// trust each other by their certificates.
func TestMesh(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustRun(t, "cert", "ca", "--dir", dir)
	mustRun(t, "cert", "server", "any", "--dir", dir)
	sys := deploySeparate(t, settings{users: 4, mesh: true, races: true,
		flags: []string{"--msg.ack-wait", "1m", "--link-tls.ca", filepath.Join(dir, "ca.pem"),
			"--link-tls.certificate", filepath.Join(dir, "any.pem"),
			"--link-tls.key", filepath.Join(dir, "any-key.pem")}})
	m := &meshTest{t: t, sys: sys}
	m.awaitNodes(2)
	m.alice, m.aliceID = loggedIn(t, sys.msgAddr[0], "u00001", windows)
	m.bob, m.bobID = loggedIn(t, sys.msgAddr[1], "u00002", windows)
	m.chat()
	m.groups()
	m.kick()
	m.killed()
	m.redisLost()
}

// redisLost restarts Redis, which loses everything. The message servers write their users again,
// and may announce them again.
func (m *meshTest) redisLost() {
	m.alice.news = false
	m.sys.redis.Stop()
	m.sys.redis.Start()
	until(m.t, "the message servers to write their users again", func() bool {
		keys := m.sys.redis.Do("EXISTS " + rediswhereabouts.Key(m.aliceID) + " " +
			rediswhereabouts.Key(m.bobID))
		return strings.Contains(keys, "2")
	})
	m.alice.send(40, text(m.bobID, "after the loss"))
	m.bob.sendAck(m.arrived(m.bob, m.aliceID, "after the loss"))
	m.alice.acked(40, m.bobID)
	m.awaitNodes(2)
	again, _ := loggedIn(m.t, m.sys.msgAddr[0], "u00002", mac)
	m.bob.expect(&pb.IMKickUser{})
	again.Close()
}

// meshTest has the clients of TestMesh: alice is on the first message server, bob on the second.
type meshTest struct {
	t              *testing.T
	sys            *deployment
	alice, bob     *wire
	aliceID, bobID uint32
}

// awaitNodes waits until each message server that runs knows of n.
func (m *meshTest) awaitNodes(n float64) {
	m.t.Helper()
	for i, s := range m.sys.msg {
		if n == 1 && i == 1 {
			continue
		}
		until(m.t, s.name+" to know the message servers", func() bool {
			return s.metric("teamtalk_registry_nodes", `role="msg"`) == n
		})
	}
}

// chat sends texts both ways. The second one of each waits for the ack of the receiver, and a read
// ack reaches the reader's phone on the other server.
func (m *meshTest) chat() {
	for i, body := range []string{"hello", "again"} {
		seq := uint16(10 + i)
		m.alice.send(seq, text(m.bobID, body))
		m.bob.sendAck(m.arrived(m.bob, m.aliceID, body))
		m.alice.acked(seq, m.bobID)
		m.bob.send(seq, text(m.aliceID, body))
		m.alice.sendAck(m.arrived(m.alice, m.bobID, body))
		m.bob.acked(seq, m.aliceID)
	}
	for _, s := range m.sys.msg { // db_proxy says where the users are
		if n := s.metric("teamtalk_mesh_lookups_total", `result="message"`); n != 4 {
			m.t.Errorf("%s has the whereabouts of %v users from db_proxy, want 4", s.name, n)
		}
	}
	phone, _ := loggedIn(m.t, m.sys.msgAddr[0], "u00002", ios)
	m.bob.send(20, pb.IMMsgDataReadAck_builder{UserId: new(m.bobID), SessionId: new(m.aliceID),
		MsgId: new(uint32(2)), SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum()}.Build())
	n := &pb.IMMsgDataReadNotify{}
	phone.expect(n)
	if n.GetUserId() != m.bobID || n.GetSessionId() != m.aliceID {
		m.t.Errorf("the phone was told %v", n)
	}
	phone.Close()
}

// groups sends texts to two groups. One has a member on each message server, the other only on the
// first: its texts do not leave it once it is known where the members are.
func (m *meshTest) groups() {
	marked := func() float64 {
		return m.sys.msg[0].metric("teamtalk_mesh_group_forwards_total", `to="marked"`)
	}
	both := m.alice.createGroup(60, m.aliceID, m.bobID)
	mine := m.alice.createGroup(61, m.aliceID)
	seq := uint16(70)
	say := func(group uint32, receivers ...*wire) {
		seq++
		m.alice.send(seq, groupText(group, "to all"))
		m.alice.expectSeq(seq, &pb.IMMsgDataAck{})
		for _, w := range receivers {
			got := &pb.MsgData{}
			w.expectSeq(0, got)
			w.send(0, pb.IMMsgDataAck_builder{UserId: new(m.bobID), SessionId: new(group),
				MsgId: new(got.MsgID), SessionType: pb.SessionType_SESSION_TYPE_GROUP.Enum(),
			}.Build())
		}
	}
	until(m.t, "the marks of the groups to be known", func() bool {
		before := marked()
		say(mine)
		say(both, m.bob) // it is forwarded after the other
		return marked() == before+2
	})
	sent := m.sys.msg[1].metric("teamtalk_mesh_frames_received_total", `cmd="IMMsgData"`)
	before := marked()
	for range 5 {
		say(both, m.bob)
		say(mine)
	}
	until(m.t, "10 texts to go to the message servers of the members", func() bool {
		return marked() >= before+10
	})
	if n := m.sys.msg[1].metric("teamtalk_mesh_frames_received_total",
		`cmd="IMMsgData"`) - sent; n != 5 {
		m.t.Errorf("the second message server got %v texts, want 5", n)
	}
}

// arrived reads the next frame, which must be a text.
func (m *meshTest) arrived(w *wire, from uint32, body string) *pb.MsgData {
	m.t.Helper()
	got := &pb.MsgData{}
	w.expectSeq(0, got)
	if got.FromUserID != from || string(got.Data) != body {
		m.t.Fatalf("got %q of user %d, want %q of %d", got.Data, got.FromUserID, body, from)
	}
	return got
}

// kick logs alice in on the other server. The first session ends.
func (m *meshTest) kick() {
	second, _ := loggedIn(m.t, m.sys.msgAddr[1], "u00001", mac)
	k := &pb.IMKickUser{}
	m.alice.expect(k)
	if k.GetKickReason() != pb.KickReasonType_KICK_REASON_DUPLICATE_USER {
		m.t.Errorf("kicked with %v", k)
	}
	m.alice.closed()
	second.Close()
	m.alice = withNews(m.t, m.sys.msgAddr[0], "u00001", windows)
	m.alice.status(m.aliceID, isOnline) // its own
}

// killed kills the second message server. Its user goes offline on the first one, and texts arrive
// again when it is back.
func (m *meshTest) killed() {
	m.sys.msg[1].kill()
	m.alice.status(m.bobID, isOffline)
	m.sys.msg[1].start()
	m.awaitNodes(2)
	m.bob, _ = loggedIn(m.t, m.sys.msgAddr[1], "u00002", windows)
	m.alice.status(m.bobID, isOnline)
	m.alice.send(30, text(m.bobID, "welcome back"))
	m.bob.sendAck(m.arrived(m.bob, m.aliceID, "welcome back"))
	m.alice.acked(30, m.bobID)
}
