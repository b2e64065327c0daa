//go:build linux

package e2e

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

const (
	appKey = "key-of-the-test-app"
	webKey = "asdfasdf" // what the web administration of the C++ servers sends
)

// apps writes a file with one app that may do everything, and an invite code.
func apps(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "apps.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, `
[[app]]
name = "test"
key = %q
[[app]]
name = "web-administration"
key = %q
networks = ["127.0.0.0/8"]
[register]
invites = ["come in!"]
`, appKey, webKey), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// httpAPI is the HTTP API of a deployment.
type httpAPI struct {
	t    testing.TB
	s    *server
	addr string
}

// startHTTPAPI runs the HTTP API: in the process that runs everything, started anew, or in one of its own.
func startHTTPAPI(t testing.TB, sys *deployment, appsFile string, flags ...string) *httpAPI {
	t.Helper()
	a := &httpAPI{t: t, addr: reserve(t)}
	flags = append([]string{"--http.listen", a.addr, "--http.apps-file", appsFile}, flags...)
	if sys.separate {
		a.s = sys.server("http", flags, append(slices.Clone(sys.store), "--roles", "http", "--http.dbproxy", sys.dbAddr, "--http.route", sys.routeAddr)...)
		a.s.start()
		return a
	}
	a.s = sys.msg[0]
	sys.restartMsg(flags...)
	return a
}

// call makes a call that has to succeed.
func (a *httpAPI) call(name, format string, args ...any) map[string]any {
	a.t.Helper()
	return a.callWith(appKey, name, format, args...)
}

// callWith makes a call with a key that has to succeed.
func (a *httpAPI) callWith(key, name, format string, args ...any) map[string]any {
	a.t.Helper()
	body := fmt.Sprintf(`{"app_key":%q,`+format+`}`, append([]any{key}, args...)...)
	rsp, err := http.Post("http://"+a.addr+"/query/"+name, "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		a.t.Fatal(err)
	}
	defer rsp.Body.Close()
	var got map[string]any
	if err := json.NewDecoder(rsp.Body).Decode(&got); err != nil || got["error_code"] != 0.0 {
		a.t.Fatalf("%s %s: %v, %v", name, body, got, err)
	}
	return got
}

// TestHTTPAPI: another system makes a group, writes to people who are online, kicks one of them; somebody registers. In one process, and in
// one of its own beside the others.
func TestHTTPAPI(t *testing.T) {
	t.Parallel()
	file := apps(t)
	forEachShape(t, settings{users: 2}, func(t *testing.T, sys *deployment) {
		api := startHTTPAPI(t, sys, file)
		call := api.call
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
		api.callWith(webKey, "CreateGroup", `"req_user_id":0,"group_name":"w","group_type":1,"group_avatar":"","user_id_list":[%d]`, oneID)
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
