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
	t.Parallel()
	forEachShape(t, settings{users: 3}, func(t *testing.T, sys *deployment) {
		service := newPushService(t)
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
			if m["token"] != "two" || fmt.Sprint(m["notification"]) != "map[body:u00001:你好, how are you?]" || data["badge"] != fmt.Sprint(i+1) ||
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

// TestPushOverHTTP: who is written to over the HTTP API is pushed to as if a client had written: with the text and all unread messages, silently who
// sits at a pc, and not who wants none from the group, nor the sender.
func TestPushOverHTTP(t *testing.T) {
	t.Parallel()
	file := apps(t)
	forEachShape(t, settings{users: 4}, func(t *testing.T, sys *deployment) {
		service := newPushService(t)
		flags := []string{"--push.fcm-credentials", service.credentials, "--push.fcm-url", service.URL}
		if sys.separate {
			addr := reserve(t)
			sys.server("push", flags, "--roles", "push", "--push.listen", addr).start()
			flags = []string{"--http.push", addr}
		}
		api := startHTTPAPI(t, sys, file, flags...)
		if sys.separate {
			until(t, "the link to the push server", func() bool { return api.s.metric("teamtalk_link_up", `peer="push"`) == 1 })
		}
		var ids []uint32
		var phones []*wire
		for i := range 4 { // each with a phone that is on line, which does not keep pushes away
			w, id := loggedIn(t, sys.msgAddr[i%2], fmt.Sprintf("u%05d", i+1), android)
			w.send(9, pb.IMDeviceTokenReq_builder{UserId: new(uint32(0)), DeviceToken: new(fmt.Sprint("phone-", i+1)), ClientType: android.Enum()}.Build())
			w.expectSeq(9, &pb.IMDeviceTokenRsp{})
			ids, phones = append(ids, id), append(phones, w)
		}
		loggedIn(t, sys.msgAddr[1], "u00003", windows)
		// want checks the next pushes: "token text badge priority", in any order.
		want := func(data string, all ...string) {
			t.Helper()
			var got []string
			for range all {
				select {
				case m := <-service.pushed:
					custom, _ := m["data"].(map[string]any)
					note, _ := m["notification"].(map[string]any)
					droid, _ := m["android"].(map[string]any)
					got = append(got, fmt.Sprint(m["token"], " ", note["body"], " ", custom["badge"], " ", droid["priority"]))
					if custom["custom"] != data {
						t.Errorf("%v: data %v, want %s", m["token"], custom["custom"], data)
					}
				case <-time.After(patience):
					t.Fatalf("pushed only %q, want %q", got, all)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, all) {
				t.Errorf("pushed %q, want %q", got, all)
			}
		}
		single := fmt.Sprintf(`{"msg_type":1,"from_id":%d}`, ids[0])
		api.call("SendMessage", `"req_user_id":%d,"to_user_id":%d,"text":"你好, build is done","client_msg_id":"once"`, ids[0], ids[1])
		want(single, "phone-2 u00001:你好, build is done 1 HIGH")
		api.call("SendMessage", `"req_user_id":%d,"to_user_id":%d,"text":"你好, build is done","client_msg_id":"once"`, ids[0], ids[1]) // no second push
		api.call("SendMessage", `"req_user_id":%d,"to_user_id":%d,"text":"again"`, ids[0], ids[1])
		want(single, "phone-2 u00001:again 2 HIGH")
		group := uint32(api.call("CreateGroup", `"req_user_id":0,"group_name":"g","group_type":1,"group_avatar":"","user_id_list":[%d,%d,%d,%d]`,
			ids[0], ids[1], ids[2], ids[3])["group_id"].(float64))
		phones[3].send(10, pb.IMGroupShieldReq_builder{UserId: new(uint32(0)), GroupId: &group, ShieldStatus: new(uint32(1))}.Build())
		phones[3].expectSeq(10, &pb.IMGroupShieldRsp{})
		inGroup := fmt.Sprintf(`{"msg_type":17,"from_id":%d,"group_id":%d}`, ids[0], group)
		api.call("SendMessage", `"req_user_id":%d,"to_group_id":%d,"text":"to all"`, ids[0], group)
		want(inGroup, "phone-2 u00001:to all 3 HIGH", "phone-3 u00001:to all 1 NORMAL")
		api.call("SendMessage", `"req_user_id":%d,"to_user_id":%d,"text":"last"`, ids[0], ids[3])
		want(single, "phone-4 u00001:last 2 HIGH") // what is shielded counts as unread all the same
		until(t, "the results", func() bool { return api.s.metric("teamtalk_http_push_results_total", `result="sent"`) == 5 })
		if n := api.s.metric("teamtalk_http_pushes_total", ""); n != 5 {
			t.Errorf("%v pushes counted", n)
		}
	})
}
