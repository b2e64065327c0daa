//go:build linux

package e2e

import (
	"testing"

	"teamtalk/proto/pb"
)

// status reads the next frame, which must notify that a user's pc is online or offline.
func (w *wire) status(user uint32, status pb.UserStatType) {
	w.t.Helper()
	n := &pb.IMUserStatNotify{}
	w.expectSeq(0, n)
	if st := n.GetUserStat(); st.GetUserId() != user || st.GetStatus() != status {
		w.t.Fatalf("notified that user %d is %v, want %d %v", st.GetUserId(), st.GetStatus(), user,
			status)
	}
}

// signs changes the user's sign info and waits until w and the others are notified. All
// clients are, also those that get no presence changes. The server sends the notification
// after the presence changes that it has collected, so a client that has it has received
// them.
func (w *wire) signs(text string, others ...*wire) {
	w.t.Helper()
	w.send(77, pb.IMChangeSignInfoReq_builder{UserId: new(uint32(0)), SignInfo: new(text)}.Build())
	rsp := &pb.IMChangeSignInfoRsp{}
	w.expectSeq(77, rsp)
	if rsp.GetResultCode() != 0 {
		w.t.Fatalf("sign info refused: %d", rsp.GetResultCode())
	}
	for _, o := range append([]*wire{w}, others...) {
		n := &pb.IMSignInfoChangedNotify{}
		o.expectSeq(0, n)
		if n.GetSignInfo() != text {
			w.t.Fatalf("notified of the sign info %q, want %q", n.GetSignInfo(), text)
		}
	}
}

// The status of a pc in presence changes.
const (
	isOnline  = pb.UserStatType_USER_STATUS_ONLINE
	isOffline = pb.UserStatType_USER_STATUS_OFFLINE
)

// TestPresenceModes checks which clients are notified of presence changes in each mode,
// on two message servers if there are two. alice and bob have a conversation. dave and
// bob have one only after the first message of dave.
func TestPresenceModes(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 4, both: true}, func(t *testing.T, sys *deployment) {
		writer, alice := loggedIn(t, sys.msgAddr[0], "u00001", android)
		p := &presence{sys: sys, alice: alice, bob: alice + 1, dave: alice + 3}
		writer.sendText(2, p.bob, "hello")
		writer.Close()
		for _, mode := range []string{"contacts", "all", "none"} {
			t.Run(mode, func(t *testing.T) { p.try(t, mode) })
		}
	})
}

// presence has the ids of the users of TestPresenceModes.
type presence struct {
	sys              *deployment
	alice, bob, dave uint32
}

// try logs the users in and out in one mode.
func (p *presence) try(t *testing.T, mode string) {
	p.sys.restartMsg("--msg.presence", mode)
	here, there := p.sys.msgAddr[0], p.sys.msgAddr[1]
	a := withNews(t, here, "u00001", windows)
	if mode != "none" {
		a.status(p.alice, isOnline) // its own
	}
	a.awaitOnline(p.alice)
	phone := withNews(t, there, "u00001", ios) // later than the pc
	phone.pcStatus(p.alice, isOnline)
	a.awaitList()
	a.signs("alice, "+mode, phone) // the clients there have been told of alice
	b := withNews(t, there, "u00002", mac)
	if mode != "none" {
		a.status(p.bob, isOnline)
		b.status(p.bob, isOnline)
	}
	b.awaitList()
	d := withNews(t, here, "u00004", windows)
	switch mode {
	case "all":
		for _, w := range []*wire{a, b, d} {
			w.status(p.dave, isOnline)
		}
	case "contacts":
		d.status(p.dave, isOnline)
	}
	d.signs(mode, a, b, phone)

	// The first message makes bob and dave contacts of each other. It differs from that of
	// the mode before, which had the same number a short time ago.
	d.send(5, text(p.bob, "hello from dave, "+mode))
	m := &pb.MsgData{}
	b.expectSeq(0, m)
	b.sendAck(m)
	d.acked(5, p.bob)
	b.Close()
	if mode != "none" {
		a.status(p.bob, isOffline)
		d.status(p.bob, isOffline)
	}
	a.Close()
	phone.pcStatus(p.alice, isOffline)
	if mode == "all" {
		d.status(p.alice, isOffline)
	}
	d.signs(mode+" again", phone)
	d.Close()
	phone.Close()
}

// withNews logs in a client that also reads presence changes.
func withNews(t *testing.T, addr, name string, client pb.ClientType) *wire {
	w, _ := loggedIn(t, addr, name, client)
	w.news = true
	return w
}

// pcStatus reads the next frame, which must notify a phone of the user's own pc.
func (w *wire) pcStatus(user uint32, status pb.UserStatType) {
	w.t.Helper()
	n := &pb.IMPCLoginStatusNotify{}
	if w.expect(n); n.GetUserId() != user || n.GetLoginStat() != status {
		w.t.Fatalf("the phone was notified of %v, want %d %v", n, user, status)
	}
}

// awaitOnline waits until the route server knows the user's pc: it notifies the phones that
// are connected when a pc comes, and a phone that comes while a pc is connected.
func (w *wire) awaitOnline(user uint32) {
	w.t.Helper()
	until(w.t, "the route server to know the pc", func() bool {
		w.send(4, pb.IMUsersStatReq_builder{
			UserId: new(user), UserIdList: []uint32{user}}.Build())
		rsp := &pb.IMUsersStatRsp{}
		w.expectSeq(4, rsp)
		list := rsp.GetUserStatList()
		return len(list) == 1 && list[0].GetStatus() == isOnline
	})
}

// awaitList waits until the server has the contacts of a client. Before, the server
// notifies the client of all users. The answer to this request comes after the server's
// own request for the contacts.
func (w *wire) awaitList() {
	w.t.Helper()
	w.send(3, pb.IMRecentContactSessionReq_builder{
		UserId: new(uint32(0)), LatestUpdateTime: new(uint32(0)),
	}.Build())
	w.expectSeq(3, &pb.IMRecentContactSessionRsp{})
}
