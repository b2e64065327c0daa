//go:build linux

package main_test

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
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// pushService is a stand-in for Google's service: it gives access tokens, and takes what is pushed; the token "dead" is unregistered.
type pushService struct {
	*httptest.Server
	credentials string // file
	pushed      chan map[string]any
}

func newPushService(t testing.TB) *pushService {
	t.Helper()
	s := &pushService{credentials: filepath.Join(t.TempDir(), "account.json"), pushed: make(chan map[string]any, 100)}
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
			fmt.Fprint(w, `{"error":{"status":"NOT_FOUND","details":[{"errorCode":"UNREGISTERED"}]}}`)
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
	account, _ := json.Marshal(map[string]string{"type": "service_account", "project_id": "p", "client_email": "x@y", "token_uri": s.URL + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
	if err := os.WriteFile(s.credentials, account, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPush: a phone that is away is pushed to, with the text that only the servers' key opens, and its unread messages; a token that the service calls dead is
// forgotten. With the push server in the same process, and in one of its own.
func TestPush(t *testing.T) {
	service := newPushService(t)
	forEachShape(t, settings{users: 3}, func(t *testing.T, sys *deployment) {
		flags := []string{"--push.fcm-credentials", service.credentials, "--push.fcm-url", service.URL}
		if sys.separate {
			addr := reserve(t)
			sys.server("push", flags, "--roles", "push", "--push.listen", addr).start()
			flags = []string{"--msg.push", addr}
		}
		sys.restartMsg(flags...)
		if sys.separate {
			for _, m := range sys.msg {
				until(t, "the link to the push server", func() bool { return m.metric("teamtalk_link_up", `peer="push"`) == 1 })
			}
		}
		cipher, err := im.NewTextCipher("")
		if err != nil {
			t.Fatal(err)
		}
		token := func(w *wire, token string) {
			t.Helper()
			req := &pb.IMDeviceTokenReq{}
			req.SetUserId(0)
			req.SetDeviceToken(token)
			req.SetClientType(pb.ClientType_CLIENT_TYPE_ANDROID)
			w.send(9, req)
			w.expectSeq(9, &pb.IMDeviceTokenRsp{})
		}
		away := func(name, tok string) uint32 {
			t.Helper()
			w, id := loggedIn(t, sys.msgAddr[1], name, pb.ClientType_CLIENT_TYPE_ANDROID)
			token(w, tok)
			w.Close() // gone without logging out: the token stays
			return id
		}
		sender, senderID := loggedIn(t, sys.msgAddr[0], "u00001", pb.ClientType_CLIENT_TYPE_ANDROID)
		token(sender, "sender")
		two, three := away("u00002", "two"), away("u00003", "dead")
		for i := range 2 {
			sender.say(uint16(20+i), two, string(cipher.Encrypt("你好, how are you?")))
			m := <-service.pushed
			data, _ := m["data"].(map[string]any)
			if m["token"] != "two" || fmt.Sprint(m["notification"]) != "map[body:你好, how are you?]" || data["badge"] != fmt.Sprint(i+1) ||
				data["custom"] != fmt.Sprintf(`{"msg_type":1,"from_id":%d}`, senderID) {
				t.Errorf("pushed: %v", m)
			}
		}
		create := &pb.IMGroupCreateReq{}
		create.SetUserId(0)
		create.SetGroupType(pb.GroupType_GROUP_TYPE_TMP)
		create.SetGroupName("g")
		create.SetGroupAvatar("")
		create.SetMemberIdList([]uint32{senderID, two, three})
		sender.send(30, create)
		made := &pb.IMGroupCreateRsp{}
		sender.expectSeq(30, made)
		group := &pb.MsgData{ToSessionID: made.GetGroupId(), Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: cipher.Encrypt("all of you")}
		sender.send(31, group)
		sender.expectSeq(31, &pb.IMMsgDataAck{})
		got := map[any]bool{}
		for range 2 {
			got[(<-service.pushed)["token"]] = true
		}
		if !got["two"] || !got["dead"] {
			t.Errorf("pushed to %v", got)
		}
		until(t, "the dead token to be forgotten", func() bool { return sys.msg[0].metric("teamtalk_msg_push_results_total", `result="dead"`) == 1 })
		// It is forgotten a moment after it was said to be dead. The pushes for one message are handed over together.
		pushes := func() float64 { return sys.msg[0].metric("teamtalk_msg_pushes_total", "") }
		seq := uint16(40)
		until(t, "a message about which only one phone is told", func() bool {
			before := pushes()
			seq++
			again := *group
			sender.send(seq, &again)
			sender.expectSeq(seq, &pb.IMMsgDataAck{})
			until(t, "its pushes", func() bool { return pushes() > before })
			n := pushes() - before
			for range int(n) {
				<-service.pushed
			}
			return n == 1
		})
	})
}
