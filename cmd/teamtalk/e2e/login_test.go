//go:build linux

package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"teamtalk/proto/pb"
)

// refused logs in. The server must refuse the name or password, and close the connection.
func refused(t *testing.T, addr, name, password string) {
	t.Helper()
	w := dial(t, addr)
	res := w.tryLogin(name, password, android)
	if res.GetResultCode() != pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED ||
		res.GetResultString() == "" || res.HasUserInfo() {
		t.Errorf("login of %s: %v %q, user %v; want it refused", name, res.GetResultCode(),
			res.GetResultString(), res.HasUserInfo())
	}
	w.closed()
}

// accepted logs in and out.
func accepted(t *testing.T, addr, name, password string) {
	t.Helper()
	w := dial(t, addr)
	res := w.tryLogin(name, password, android)
	if res.GetResultCode() != pb.ResultType_REFUSE_REASON_NONE {
		t.Errorf("login of %s: %v %q", name, res.GetResultCode(), res.GetResultString())
		return
	}
	w.send(2, &pb.IMLogoutReq{})
	w.expectSeq(2, &pb.IMLogoutRsp{})
	w.closed()
}

// TestLogins checks passwords, the lock after wrong passwords, and changes of users by
// the commands while the servers run.
func TestLogins(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 5}, func(t *testing.T, sys *deployment) {
		addr := sys.msgAddr[0]
		accepted(t, addr, "u00001", "pw")
		refused(t, addr, "nobody", "pw")
		refused(t, addr, "u00001", "wrong")
		refused(t, addr, "u00001", "")

		// Ten different wrong passwords in a row lock a name on every message server,
		// nine do not.
		nine, ten := guess(t, sys, "u00003", 9), guess(t, sys, "u00002", 10)
		nine()
		accepted(t, addr, "u00003", "pw")
		ten()
		refused(t, addr, "u00002", "pw")
		refused(t, sys.msgAddr[1], "u00002", "pw")
		accepted(t, addr, "u00003", "pw")

		admin := func(args ...string) {
			t.Helper()
			mustRun(t, append(append([]string{"user"}, args...), sys.store...)...)
		}
		admin("disable", "u00004")
		refused(t, addr, "u00004", "pw")
		admin("enable", "u00004")
		accepted(t, addr, "u00004", "pw")
		admin("passwd", "u00005", "--password", "new")
		refused(t, addr, "u00005", "pw")
		accepted(t, addr, "u00005", "new")
		admin("add", "late", "--password", "pw")
		accepted(t, addr, "late", "pw")
	})
}

// guess logs in with a number of wrong passwords, with each of them twice: a repeated
// password does not count. All logins run at once, because each answer waits longer than
// the one before. answered waits for the answers.
func guess(t *testing.T, sys *deployment, name string, passwords int) (answered func()) {
	t.Helper()
	var all []*wire
	for i := range 2 * passwords {
		w := dial(t, sys.msgAddr[i%2])
		w.send(1, loginReq(name, "guess "+strconv.Itoa(i/2), android))
		all = append(all, w)
	}
	return func() {
		t.Helper()
		for _, w := range all {
			w.expectSeq(1, &pb.IMLoginRes{})
			w.closed()
		}
	}
}

// TestRefusedLogins checks that each refusal of repeated logins takes longer than the one
// before.
func TestRefusedLogins(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 2}, func(t *testing.T, sys *deployment) {
		addr := sys.msgAddr[0]
		for least := range 3 {
			start := time.Now()
			refused(t, addr, "u00001", "wrong")
			if took := time.Since(start); took < time.Duration(least)*time.Second {
				t.Errorf("refusal %d answered after %v", least+1, took)
			}
		}
		accepted(t, addr, "u00001", "pw")

		// The refusal of an unknown client type names the field.
		w := dial(t, addr)
		res := w.tryLogin("u00001", "pw", 9)
		if res.GetResultCode() != pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED ||
			!strings.Contains(res.GetResultString(), "client_type") {
			t.Errorf("answer %v", res)
		}
		w.closed()
	})
}

// TestKickedConnection kicks a client that continues to send. It receives no more frames,
// and the server closes the connection two seconds after the notification. Its next login
// is delayed.
func TestKickedConnection(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 2}, func(t *testing.T, sys *deployment) {
		addr := sys.msgAddr[0]
		old, user := loggedIn(t, addr, "u00001", windows)
		sender, _ := loggedIn(t, addr, "u00002", android)
		start := time.Now()
		next, _ := loggedIn(t, addr, "u00001", mac)
		old.expectSeq(0, &pb.IMKickUser{})
		old.send(2, &pb.IMHeartBeat{})
		old.send(3, text(2, "too late"))
		sender.send(4, text(user, "news"))
		next.sendAck(next.receiveText(2, user, 1, "news"))
		sender.acked(4, user)
		old.closed()
		if took := time.Since(start); took < 1900*time.Millisecond {
			t.Errorf("closed after %v", took)
		}
		loggedIn(t, addr, "u00001", windows)
		if took := time.Since(start); took < 4900*time.Millisecond {
			t.Errorf("logged in again after %v", took)
		}
		kicked(t, next, user, replaced)
	})
}

// TestDiscovery requests the address of a message server from login_server, over HTTP and
// TCP. login_server names each message server in turn, and reports an error if none is
// connected.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{}, func(t *testing.T, sys *deployment) {
		seen := map[string]bool{}
		until(t, "the address of each message server", func() bool {
			answer := msgServerHTTP(t, sys)
			port, ok := answer["port"].(string)
			if !ok || answer["code"] != 0.0 {
				t.Fatalf("answer %v", answer)
			}
			seen[net.JoinHostPort(answer["priorIP"].(string), port)] = true
			return seen[sys.msgAddr[0]] && seen[sys.msgAddr[1]]
		})
		rsp := msgServerTCP(t, sys)
		at := net.JoinHostPort(rsp.GetPriorIp(), strconv.Itoa(int(rsp.GetPort())))
		if rsp.GetResultCode() != 0 || !seen[at] {
			t.Errorf("answer %v", rsp)
		}
		if !sys.separate {
			return
		}
		for _, s := range sys.msg {
			s.stop()
		}
		until(t, "the error without message servers", func() bool {
			return msgServerHTTP(t, sys)["code"] == 1.0
		})
		rsp = msgServerTCP(t, sys)
		equal(t, "result", rsp.GetResultCode(), pb.ResultType_REFUSE_REASON_NO_MSG_SERVER)
		for _, s := range sys.msg {
			s.start()
		}
	})
}

// msgServerHTTP requests a message server over HTTP.
func msgServerHTTP(t *testing.T, sys *deployment) (answer map[string]any) {
	t.Helper()
	resp, err := admins.Get(sys.url() + "/msg_server")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	if typ := resp.Header.Get("Content-Type"); typ != "text/html; charset=utf-8" {
		t.Fatalf("type %q", typ)
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return answer
}

// msgServerTCP requests a message server with a PDU. login_server closes the connection
// after the answer.
func msgServerTCP(t *testing.T, sys *deployment) *pb.IMMsgServRsp {
	t.Helper()
	w := dial(t, sys.loginTCP)
	w.send(1, &pb.IMMsgServReq{})
	rsp := &pb.IMMsgServRsp{}
	w.expectSeq(1, rsp)
	w.closed()
	return rsp
}

// kicked checks that the server kicks a client for a reason, and closes the connection.
func kicked(t *testing.T, w *wire, user uint32, reason pb.KickReasonType) {
	t.Helper()
	k := &pb.IMKickUser{}
	w.expectSeq(0, k)
	if k.GetUserId() != user || k.GetKickReason() != reason {
		t.Errorf("kick %v, want user %d, reason %v", k, user, reason)
	}
	w.closed()
}

// The reasons of kicks.
const (
	replaced = pb.KickReasonType_KICK_REASON_DUPLICATE_USER
	byPhone  = pb.KickReasonType_KICK_REASON_MOBILE_KICK
)

// TestDevicePolicies logs in one user on several devices, on different message servers if
// there are two.
func TestDevicePolicies(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 2}, func(t *testing.T, sys *deployment) {
		t.Run("device_class", func(t *testing.T) { deviceClass(t, sys) })
		t.Run("one_client", func(t *testing.T) {
			sys.restartMsg("--msg.device-policy", "one_client")
			pc, user := loggedIn(t, sys.msgAddr[0], "u00001", windows)
			phone, _ := loggedIn(t, sys.msgAddr[1], "u00001", ios)
			kicked(t, pc, user, replaced)
			pc, _ = loggedIn(t, sys.msgAddr[1], "u00001", windows)
			kicked(t, phone, user, replaced)
			pc.alive()
			pc.Close()
		})
		t.Run("keep_first", func(t *testing.T) {
			sys.restartMsg("--msg.device-policy", "keep_first")
			keepFirst(t, sys)
		})
		t.Run("unlimited", func(t *testing.T) {
			sys.restartMsg("--msg.device-policy", "unlimited")
			var all []*wire
			for _, addr := range []string{sys.msgAddr[0], sys.msgAddr[1], sys.msgAddr[0]} {
				w, _ := loggedIn(t, addr, "u00001", windows)
				all = append(all, w)
			}
			other, user := loggedIn(t, sys.msgAddr[1], "u00002", android)
			other.send(3, text(1, "to all of you"))
			for _, w := range all {
				w.sendAck(w.receiveText(user, 1, 1, "to all of you"))
			}
			other.acked(3, 1)
		})
	})
}

// deviceClass checks the policy device_class: a login kicks the device of the same class.
func deviceClass(t *testing.T, sys *deployment) {
	here, there := sys.msgAddr[0], sys.msgAddr[1]
	pc, user := loggedIn(t, here, "u00001", windows)
	phone, _ := loggedIn(t, there, "u00001", ios)
	pc2, _ := loggedIn(t, there, "u00001", mac)
	kicked(t, pc, user, replaced)
	phone2, _ := loggedIn(t, here, "u00001", android)
	kicked(t, phone, user, replaced)
	pc3, _ := loggedIn(t, there, "u00001", windows)
	kicked(t, pc2, user, replaced)
	for _, w := range []*wire{phone2, pc3} {
		w.alive()
	}

	// A phone kicks the pc of its user on any message server. A pc kicks no client.
	kick := pb.IMKickPCClientReq_builder{UserId: new(user)}.Build()
	pc3.send(5, kick)
	pc3.alive()
	phone2.send(5, kick)
	phone2.expectSeq(5, &pb.IMKickPCClientRsp{})
	kicked(t, pc3, user, byPhone)
	phone2.alive()
	phone2.Close()
}

// keepFirst checks the policy keep_first: the login of a second device of a class is
// refused.
func keepFirst(t *testing.T, sys *deployment) {
	here, there := sys.msgAddr[0], sys.msgAddr[1]
	pc, _ := loggedIn(t, here, "u00001", windows)
	for _, addr := range []string{here, there} {
		w := dial(t, addr)
		res := w.tryLogin("u00001", "pw", mac)
		if res.GetResultCode() == pb.ResultType_REFUSE_REASON_NONE {
			t.Errorf("the login of a second pc succeeded")
		}
		w.closed()
	}
	phone, _ := loggedIn(t, there, "u00001", ios)
	for _, w := range []*wire{pc, phone} {
		w.alive()
		w.Close()
	}
	until(t, "a login of another pc after the logout of the first", func() bool {
		w := dial(t, there)
		defer w.Close()
		return w.tryLogin("u00001", "pw", mac).GetResultCode() == pb.ResultType_REFUSE_REASON_NONE
	})
}
