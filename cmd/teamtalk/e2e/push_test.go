//go:build linux

package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// pushService stands in for the push service of Google: it issues access tokens and
// records pushes. The device token "dead" is unregistered.
type pushService struct {
	*httptest.Server
	credentials string // file
	pushed      chan map[string]any
}

// newPushService starts the service, and writes the credentials of an account.
func newPushService(t testing.TB) *pushService {
	t.Helper()
	s := &pushService{credentials: filepath.Join(t.TempDir(), "account.json"),
		pushed: make(chan map[string]any, 100)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/token" {
			fmt.Fprint(w, `{"access_token":"access","token_type":"Bearer","expires_in":3600}`)
			return
		}
		var body struct{ Message map[string]any }
		data, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(data, &body); err != nil {
			t.Errorf("%s: %v", data, err)
		}
		if body.Message["token"] == "dead" {
			w.WriteHeader(404)
			fmt.Fprint(w,
				`{"error":{"status":"NOT_FOUND","details":[{"errorCode":"UNREGISTERED"}]}}`)
		}
		s.pushed <- body.Message
	}))
	t.Cleanup(s.Close)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	account, _ := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "p", "client_email": "x@y",
		"token_uri": s.URL + "/token",
		"private_key": string(pem.EncodeToMemory(
			&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err := os.WriteFile(s.credentials, account, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// flags returns the flags of a process that pushes. In a separate deployment it starts a
// push server and returns the setting link, which names the push server.
func (s *pushService) flags(t *testing.T, sys *deployment, link string) []string {
	t.Helper()
	flags := []string{"--push.fcm-credentials", s.credentials, "--push.fcm-url", s.URL}
	if !sys.separate {
		return flags
	}
	addr := reserve(t)
	sys.server("push", flags, "--roles", "push", "--push.listen", addr).start()
	return []string{link, addr}
}

// awaitPushLink waits until a process is connected to the push server.
func awaitPushLink(t *testing.T, s *server) {
	t.Helper()
	until(t, "the link to the push server", func() bool {
		return s.metric("teamtalk_link_up", `peer="push"`) == 1
	})
}

// setToken sets the device token of a client; "" removes it.
func (w *wire) setToken(token string) {
	w.t.Helper()
	w.send(9, pb.IMDeviceTokenReq_builder{
		UserId: new(uint32(0)), DeviceToken: &token, ClientType: android.Enum(),
	}.Build())
	w.expectSeq(9, &pb.IMDeviceTokenRsp{})
}

// TestPush sends messages to users whose phones are offline. The push has the text, which
// only the key of the servers decrypts, and the number of unread messages. A token that
// the service calls unregistered is deleted. The push server is in the same process, or
// in one of its own.
func TestPush(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 3}, func(t *testing.T, sys *deployment) {
		service := newPushService(t)
		sys.restartMsg(service.flags(t, sys, "--msg.push")...)
		if sys.separate {
			for _, m := range sys.msg {
				awaitPushLink(t, m)
			}
		}
		cipher, err := im.NewTextCipher("")
		if err != nil {
			t.Fatal(err)
		}
		away := func(name, token string) uint32 {
			t.Helper()
			w, id := loggedIn(t, sys.msgAddr[1], name, android)
			w.setToken(token)
			w.Close() // without a logout, so the token remains
			return id
		}
		sender, self := loggedIn(t, sys.msgAddr[0], "u00001", android)
		sender.setToken("sender")
		two, three := away("u00002", "two"), away("u00003", "dead")
		custom := fmt.Sprintf(`{"msg_type":1,"from_id":%d}`, self)
		for i := range 2 {
			sender.sendText(uint16(20+i), two, string(cipher.Encrypt("你好, how are you?")))
			m := <-service.pushed
			data, _ := m["data"].(map[string]any)
			equal(t, "push", []any{m["token"], fmt.Sprint(m["notification"]), data["badge"],
				data["custom"]}, []any{"two", "map[body:u00001:你好, how are you?]",
				fmt.Sprint(i + 1), custom})
		}
		group := &pb.MsgData{ToSessionID: sender.createGroup(30, self, two, three),
			Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: cipher.Encrypt("all of you")}
		sender.send(31, group)
		sender.expectSeq(31, &pb.IMMsgDataAck{})
		got := map[any]bool{}
		for range 2 {
			got[(<-service.pushed)["token"]] = true
		}
		equal(t, "tokens of the group", got, map[any]bool{"two": true, "dead": true})
		until(t, "the result of the dead token", func() bool {
			return sys.msg[0].metric("teamtalk_msg_push_results_total", `result="dead"`) == 1
		})
		awaitOnePush(t, service, sys.msg[0], sender, group)
	})
}

// awaitOnePush repeats a message to a group until the server pushes it to one phone only:
// the token of the other is deleted a moment after its result. The server counts the
// pushes of one message together.
func awaitOnePush(t *testing.T, service *pushService, msg *server, sender *wire, m *pb.MsgData) {
	t.Helper()
	pushes := func() float64 { return msg.metric("teamtalk_msg_pushes_total", "") }
	seq := uint16(40)
	until(t, "a message that is pushed to one phone only", func() bool {
		before := pushes()
		seq++
		again := *m
		sender.send(seq, &again)
		sender.expectSeq(seq, &pb.IMMsgDataAck{})
		until(t, "its pushes", func() bool { return pushes() > before })
		n := pushes() - before
		for range int(n) {
			<-service.pushed
		}
		return n == 1
	})
}

// want checks the next pushes, in any order: their data, and "token text badge priority"
// of each.
func (s *pushService) want(t *testing.T, data string, all ...string) {
	t.Helper()
	var got []string
	for range all {
		select {
		case m := <-s.pushed:
			custom, _ := m["data"].(map[string]any)
			note, _ := m["notification"].(map[string]any)
			droid, _ := m["android"].(map[string]any)
			got = append(got, fmt.Sprint(m["token"], " ", note["body"], " ", custom["badge"], " ",
				droid["priority"]))
			equal(t, fmt.Sprint("data of ", m["token"]), custom["custom"], any(data))
		case <-time.After(patience):
			t.Fatalf("pushed only %q, want %q", got, all)
		}
	}
	slices.Sort(got)
	equal(t, "pushes", got, all)
}

// TestPushOverHTTP sends messages over the HTTP API. They are pushed as those of clients:
// with the text and the number of unread messages, silently to a user at a pc, and
// neither to the sender nor to a user that muted the group.
func TestPushOverHTTP(t *testing.T) {
	t.Parallel()
	file := apps(t)
	forEachShape(t, settings{users: 4}, func(t *testing.T, sys *deployment) {
		service := newPushService(t)
		api := startHTTPAPI(t, sys, file, service.flags(t, sys, "--http.push")...)
		if sys.separate {
			awaitPushLink(t, api.s)
		}
		var ids []uint32
		var phones []*wire
		for i := range 4 { // online phones, which get pushes all the same
			w, id := loggedIn(t, sys.msgAddr[i%2], fmt.Sprintf("u%05d", i+1), android)
			w.setToken(fmt.Sprint("phone-", i+1))
			ids, phones = append(ids, id), append(phones, w)
		}
		loggedIn(t, sys.msgAddr[1], "u00003", windows)
		send := func(to uint32, text, more string) {
			t.Helper()
			api.call("SendMessage", `"req_user_id":%d,"to_user_id":%d,"text":%q`+more, ids[0], to,
				text)
		}
		single := fmt.Sprintf(`{"msg_type":1,"from_id":%d}`, ids[0])
		send(ids[1], "你好, build is done", `,"client_msg_id":"once"`)
		service.want(t, single, "phone-2 u00001:你好, build is done 1 HIGH")
		send(ids[1], "你好, build is done", `,"client_msg_id":"once"`) // no second push
		send(ids[1], "again", "")
		service.want(t, single, "phone-2 u00001:again 2 HIGH")
		group := uint32(api.call("CreateGroup", `"req_user_id":0,"group_name":"g","group_type":1,`+
			`"group_avatar":"","user_id_list":[%d,%d,%d,%d]`,
			ids[0], ids[1], ids[2], ids[3])["group_id"].(float64))
		phones[3].shieldGroup(10, group)
		api.call("SendMessage", `"req_user_id":%d,"to_group_id":%d,"text":"to all"`, ids[0], group)
		service.want(t, fmt.Sprintf(`{"msg_type":17,"from_id":%d,"group_id":%d}`, ids[0], group),
			"phone-2 u00001:to all 3 HIGH", "phone-3 u00001:to all 1 NORMAL")
		send(ids[3], "last", "")
		// The message of the muted group counts as unread.
		service.want(t, single, "phone-4 u00001:last 2 HIGH")
		until(t, "the results", func() bool {
			return api.s.metric("teamtalk_http_push_results_total", `result="sent"`) == 5
		})
		equal(t, "pushes counted", api.s.metric("teamtalk_http_pushes_total", ""), 5.0)
	})
}

// shieldGroup mutes the pushes of a group.
func (w *wire) shieldGroup(seq uint16, group uint32) {
	w.t.Helper()
	w.send(seq, pb.IMGroupShieldReq_builder{
		UserId: new(uint32(0)), GroupId: &group, ShieldStatus: new(uint32(1)),
	}.Build())
	w.expectSeq(seq, &pb.IMGroupShieldRsp{})
}
