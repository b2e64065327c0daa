//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// The keys of the apps file.
const (
	appKey = "key-of-the-test-app"
	webKey = "asdfasdf" // of the web administration of the C++ servers
)

// apps writes an apps file: an app with all rights, the web administration, and an invite
// code.
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

// startHTTPAPI runs the HTTP API: it restarts the process of all roles with it, or starts
// a process of its own.
func startHTTPAPI(t testing.TB, sys *deployment, appsFile string, flags ...string) *httpAPI {
	t.Helper()
	a := &httpAPI{t: t, addr: reserve(t)}
	flags = append([]string{"--http.listen", a.addr, "--http.apps-file", appsFile}, flags...)
	if sys.separate {
		a.s = sys.server("http", flags, append(slices.Clone(sys.store), "--roles", "http",
			"--http.dbproxy", sys.dbAddr, "--http.route", sys.routeAddr)...)
		a.s.start()
		return a
	}
	a.s = sys.msg[0]
	sys.restartMsg(flags...)
	return a
}

// call makes a call with the key of the app, which must succeed.
func (a *httpAPI) call(name, format string, args ...any) map[string]any {
	a.t.Helper()
	return a.callWith(appKey, name, format, args...)
}

// refused makes a call with the key of the app, which must fail with code.
func (a *httpAPI) refused(code int, name, format string, args ...any) {
	a.t.Helper()
	if got := a.ask(appKey, name, format, args...); got["error_code"] != float64(code) {
		a.t.Errorf("%s: %v, want error_code %d", name, got, code)
	}
}

// callWith makes a call with a key, which must succeed.
func (a *httpAPI) callWith(key, name, format string, args ...any) map[string]any {
	a.t.Helper()
	got := a.ask(key, name, format, args...)
	if got["error_code"] != 0.0 {
		a.t.Fatalf("%s %v: %v", name, args, got)
	}
	return got
}

// ask makes a call with a key.
func (a *httpAPI) ask(key, name, format string, args ...any) map[string]any {
	a.t.Helper()
	body := fmt.Sprintf(`{"app_key":%q,`+format+`}`, append([]any{key}, args...)...)
	rsp, err := http.Post("http://"+a.addr+"/query/"+name, "application/json",
		strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	defer rsp.Body.Close()
	var got map[string]any
	if err := json.NewDecoder(rsp.Body).Decode(&got); err != nil {
		a.t.Fatalf("%s %s: %v", name, body, err)
	}
	return got
}

// TestHTTPAPI calls the HTTP API, in one process with the servers and in one of its own:
// a system creates a group, writes to users that are online and kicks one of them, and a
// new user registers.
func TestHTTPAPI(t *testing.T) {
	t.Parallel()
	file := apps(t)
	forEachShape(t, settings{users: 2}, func(t *testing.T, sys *deployment) {
		api := startHTTPAPI(t, sys, file)
		one, oneID := loggedIn(t, sys.msgAddr[0], "u00001", android)
		two, twoID := loggedIn(t, sys.msgAddr[1], "u00002", android)
		group := api.createGroup(appKey, oneID)
		api.call("ChangeMembers", `"req_user_id":0,"group_id":%d,"modify_type":1,`+
			`"user_id_list":[%d]`, group, twoID)
		for _, w := range []*wire{one, two} {
			n := &pb.IMGroupChangeMemberNotify{}
			w.expect(n)
			if n.GetGroupId() != group || len(n.GetCurUserIdList()) != 2 ||
				len(n.GetChgUserIdList()) != 1 || n.HasVersion() {
				t.Errorf("notify: %v", n)
			}
		}
		api.call("SendMessage", `"req_user_id":%d,"to_group_id":%d,"text":"to all"`, oneID, group)
		api.call("SendMessage", `"req_user_id":%d,"to_user_id":%d,"text":"to you"`, oneID, twoID)
		two.expectFirst("to all")
		two.expectFirst("to you")
		api.refused(4, "SendMessage", `"req_user_id":%d,"to_user_id":99999,"text":"x"`, oneID)
		api.refused(4, "SendMessage", `"req_user_id":99999,"to_user_id":%d,"text":"x"`, oneID)
		api.refused(4, "SendMessage", `"req_user_id":%d,"to_group_id":99999,"text":"x"`, oneID)
		api.createGroup(webKey, oneID)
		stat := api.call("GetUserStatus", `"user_id_list":[%d,99999]`, twoID)
		equal(t, "statuses", fmt.Sprint(stat["user_stat_list"]),
			fmt.Sprintf("[map[status:1 user_id:%d] map[status:2 user_id:99999]]", twoID))
		api.call("KickUser", `"user_id":%d`, twoID)
		two.expect(&pb.IMKickUser{})
		two.closed()
		api.call("Register",
			`"user_name":"carol","password":"long enough","invite_code":"come in!"`)
		r := dial(t, sys.msgAddr[0]).tryLogin("carol", "long enough", android)
		equal(t, "login of the new user", r.GetResultCode(), pb.ResultType_REFUSE_REASON_NONE)
	})
}

// createGroup creates a group of one user with a key, and returns its id.
func (a *httpAPI) createGroup(key string, member uint32) uint32 {
	a.t.Helper()
	rsp := a.callWith(key, "CreateGroup", `"req_user_id":0,"group_name":"g","group_type":1,`+
		`"group_avatar":"","user_id_list":[%d]`, member)
	return uint32(rsp["group_id"].(float64))
}

// expectFirst reads the next frame, which must be the first message of a conversation,
// encrypted.
func (w *wire) expectFirst(want string) {
	w.t.Helper()
	cipher, err := im.NewTextCipher("")
	if err != nil {
		w.t.Fatal(err)
	}
	m := &pb.MsgData{}
	w.expect(m)
	got, err := cipher.Decrypt(m.Data)
	if got != want || err != nil || m.MsgID != 1 || m.HasGroupVersion {
		w.t.Errorf("message %+v with text %q, want %q, %v", m, got, want, err)
	}
}
