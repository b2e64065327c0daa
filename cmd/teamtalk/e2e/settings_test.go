//go:build linux

package e2e

import (
	"testing"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// TestAvatar changes the avatar of a user. The store has it, the user's devices on that
// message server receive the answer, and all connected users are notified.
func TestAvatar(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 2}, func(t *testing.T, sys *deployment) {
		pc, self := loggedIn(t, sys.msgAddr[0], "u00001", windows)
		phone, _ := loggedIn(t, sys.msgAddr[1], "u00001", android)
		other, _ := loggedIn(t, sys.msgAddr[1], "u00002", ios)
		const url = "http://pictures.example/g0/000/001/a_100x100.png"
		pc.send(7, pb.IMChangeAvatarReq_builder{
			UserId: new(self + 1), AvatarUrl: new(url),
		}.Build())
		pc.expectAvatar(self, url, true)
		phone.expectAvatar(self, url, !sys.separate)
		other.expectAvatar(self, url, false)
		c := conn(t, sys.msgAddr[1], "u00002", mac)
		users, err := client.UserInfos(bounded(t), c, []uint32{self})
		if err != nil || len(users) != 1 || users[0].Avatar != url {
			t.Errorf("stored: %v, %v", users, err)
		}
	})
}

// expectAvatar reads the notification of a user's new avatar and, if the client gets one,
// the answer to the request, in any order.
func (w *wire) expectAvatar(user uint32, url string, answer bool) {
	w.t.Helper()
	for notified := false; answer || !notified; {
		f := w.next()
		switch f.Command {
		case pb.CmdChangeAvatarRsp:
			var rsp pb.IMChangeAvatarRsp
			if err := rsp.ParseBody(f.body); err != nil || rsp.GetUserId() != user ||
				rsp.GetResultCode() != 0 || rsp.HasAttachData() {
				w.t.Errorf("answer %v, %v", &rsp, err)
			}
			answer = false
		case pb.CmdAvatarChangedNotify:
			var n pb.IMAvatarChangedNotify
			if err := n.ParseBody(f.body); err != nil || n.GetChangedUserId() != user ||
				n.GetAvatarUrl() != url {
				w.t.Errorf("notification %v, %v", &n, err)
			}
			notified = true
		default:
			w.t.Fatalf("got %s", f.Command)
		}
	}
	w.alive()
}

// TestRequireCipher sends a text that is not encrypted to a server with the setting. The
// server neither stores nor acks it, and serves the next message of the connection.
func TestRequireCipher(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 2}, func(t *testing.T, sys *deployment) {
		sys.restartMsg("--msg.require-cipher", "--msg.ack", "stored")
		cipher, err := im.NewTextCipher("")
		if err != nil {
			t.Fatal(err)
		}
		one, self := loggedIn(t, sys.msgAddr[0], "u00001", windows)
		two, _ := loggedIn(t, sys.msgAddr[1], "u00002", windows)
		one.send(5, text(self+1, "plain"))
		one.sendText(6, self+1, string(cipher.Encrypt("encrypted")))
		m := &pb.MsgData{}
		two.expect(m)
		if got, err := cipher.Decrypt(m.Data); got != "encrypted" || m.MsgID != 1 {
			t.Errorf("message %d, %q, %v", m.MsgID, got, err)
		}
		if n := sys.msg[0].metric("teamtalk_msg_dropped_total", `reason="no_cipher"`); n != 1 {
			t.Errorf("%v counted", n)
		}
	})
}
