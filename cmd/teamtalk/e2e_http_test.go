//go:build linux

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

const appKey = "key-of-the-test-app"

// apps writes a file with one app that may do everything, and an invite code.
func apps(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "apps.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "[[app]]\nname = \"test\"\nkey = %q\n[register]\ninvites = [\"come in!\"]\n", appKey), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestHTTPAPI: another system makes a group, writes to people who are online, kicks one of them; somebody registers. In one process, and in
// one of its own beside the others.
func TestHTTPAPI(t *testing.T) {
	file := apps(t)
	forEachShape(t, settings{users: 2}, func(t *testing.T, sys *deployment) {
		api := reserve(t)
		if sys.separate {
			sys.server("http", nil, append(slices.Clone(sys.store), "--roles", "http", "--http.listen", api, "--http.apps-file", file,
				"--http.dbproxy", sys.dbAddr, "--http.route", sys.routeAddr)...).start()
		} else {
			sys.msg[0].stop()
			sys.msg[0].extra = []string{"--http.listen", api, "--http.apps-file", file}
			sys.msg[0].start()
		}
		call := func(name, format string, args ...any) map[string]any {
			t.Helper()
			body := fmt.Sprintf(`{"app_key":%q,`+format+`}`, append([]any{appKey}, args...)...)
			rsp, err := http.Post("http://"+api+"/query/"+name, "application/json", bytes.NewReader([]byte(body)))
			if err != nil {
				t.Fatal(err)
			}
			defer rsp.Body.Close()
			var a map[string]any
			if err := json.NewDecoder(rsp.Body).Decode(&a); err != nil || a["error_code"] != 0.0 {
				t.Fatalf("%s %s: %v, %v", name, body, a, err)
			}
			return a
		}
		one, oneID := loggedIn(t, sys.msgAddr[0], "u00001", pb.ClientType_CLIENT_TYPE_ANDROID)
		two, twoID := loggedIn(t, sys.msgAddr[1], "u00002", pb.ClientType_CLIENT_TYPE_ANDROID)
		text, err := im.NewTextCipher("")
		if err != nil {
			t.Fatal(err)
		}
		group := uint32(call("CreateGroup", `"req_user_id":0,"group_name":"g","group_type":1,"group_avatar":"","user_id_list":[%d]`, oneID)["group_id"].(float64))
		call("ChangeMembers", `"req_user_id":0,"group_id":%d,"modify_type":1,"user_id_list":[%d]`, group, twoID)
		for _, w := range []*wire{one, two} {
			n := &pb.IMGroupChangeMemberNotify{}
			w.expect(n)
			if n.GetGroupId() != group || len(n.GetCurUserIdList()) != 2 || len(n.GetChgUserIdList()) != 1 || n.HasVersion() {
				t.Errorf("notify: %v", n)
			}
		}
		call("SendMessage", `"req_user_id":%d,"to_group_id":%d,"text":"to all"`, oneID, group)
		call("SendMessage", `"req_user_id":%d,"to_user_id":%d,"text":"to you"`, oneID, twoID)
		for i, want := range []string{"to all", "to you"} {
			m := &pb.MsgData{}
			two.expect(m)
			if got, err := text.Decrypt(m.Data); got != want || err != nil || m.MsgID != 1 || m.HasGroupVersion {
				t.Errorf("message %d: %+v, text %q, %v", i, m, got, err)
			}
		}
		stat := call("GetUserStatus", `"user_id_list":[%d,99999]`, twoID)
		if got := fmt.Sprint(stat["user_stat_list"]); got != fmt.Sprintf("[map[status:1 user_id:%d] map[status:2 user_id:99999]]", twoID) {
			t.Errorf("statuses: %s", got)
		}
		call("KickUser", `"user_id":%d`, twoID)
		two.expect(&pb.IMKickUser{})
		two.closed()
		call("Register", `"user_name":"carol","password":"long enough","invite_code":"come in!"`)
		if r := dial(t, sys.msgAddr[0]).tryLogin("carol", "long enough", pb.ClientType_CLIENT_TYPE_ANDROID); r.GetResultCode() != 0 {
			t.Errorf("login of who registered: %v", r)
		}
	})
}
