//go:build linux

package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"teamtalk/core/cert/certtest"
	"teamtalk/proto/pb"
)

// adminAPI is the admin API of a process.
type adminAPI struct {
	t     testing.TB
	addr  string
	token string
	file  string // with the tokens
}

// call makes a call and returns its answer. It wants a status.
func (a *adminAPI) call(status int, method, path, body string) map[string]any {
	a.t.Helper()
	req, err := http.NewRequest(method, "http://"+a.addr+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	req.Header.Set("Content-Type", "application/json")
	if strings.Contains(path, "/csv") {
		req.Header.Set("Content-Type", "text/csv")
	}
	rsp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer rsp.Body.Close()
	text, err := io.ReadAll(rsp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil || rsp.StatusCode != status {
		a.t.Fatalf("%s %s %s: %d %s, %v; want %d", method, path, body, rsp.StatusCode, text, err,
			status)
	}
	return got
}

// errorCode makes a call that fails, and returns the code of the error.
func (a *adminAPI) errorCode(status int, method, path, body string) string {
	a.t.Helper()
	return a.call(status, method, path, body)["error"].(map[string]any)["code"].(string)
}

// startAdminAPI runs the admin API: in the process of all roles, which it restarts, or in that
// of a db_proxy of its own.
func startAdminAPI(t testing.TB, sys *deployment, flags ...string) *adminAPI {
	t.Helper()
	a := &adminAPI{t: t, addr: reserve(t)}
	file := filepath.Join(t.TempDir(), "tokens")
	a.token = strings.TrimSpace(mustRun(t, "token", "add", "ops", "--file", file))
	a.file = file
	flags = append([]string{"--admin-api.listen", a.addr, "--admin-api.tokens", file}, flags...)
	if sys.separate {
		apps := apps(t)
		sys.server("http", append(flags, "--http.listen", reserve(t), "--http.apps-file", apps),
			append(slices.Clone(sys.store), "--roles", "http", "--http.dbproxy", sys.dbAddr,
				"--http.route", sys.routeAddr)...).start()
		return a
	}
	sys.restartMsg(flags...)
	return a
}

// TestAdminAPI administers servers over HTTP while clients are online: it finds, changes, kicks,
// disables and deletes users, and changes departments, groups and the process itself.
func TestAdminAPI(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 3}, func(t *testing.T, sys *deployment) {
		a := startAdminAPI(t, sys, "--admin-api.messages")
		one, oneID := loggedIn(t, sys.msgAddr[0], "u00001", android)
		two, twoID := loggedIn(t, sys.msgAddr[1], "u00002", android)
		a.users()
		a.groups(oneID, twoID)
		for i, w := range []*wire{one, two} {
			for range 2 + i { // the members are added, one is removed, the group is dissolved
				w.expect(&pb.IMGroupChangeMemberNotify{})
			}
		}
		a.process()
		one.send(2, &pb.MsgData{ToSessionID: twoID, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT,
			Data: []byte("as it is")})
		one.expectSeq(2, &pb.IMMsgDataAck{})
		path := fmt.Sprintf("/v1/messages?user=%d&peer=%d&ids=1", twoID, oneID)
		got := a.call(200, "GET", path, "")
		if text := fmt.Sprint(got["messages"]); !strings.Contains(text, "text:as it is") {
			t.Errorf("messages: %s", text)
		}
		two.expect(&pb.MsgData{})
		online := a.call(200, "GET", fmt.Sprintf("/v1/online?users=%d,99999", oneID), "")
		if text := fmt.Sprint(online["users"]); !strings.Contains(text, "online:true") ||
			!strings.Contains(text, "online:false") ||
			strings.Contains(text, "client:ANDROID") == sys.separate {
			t.Errorf("online: %s", text)
		}
		a.listsOnline(oneID, twoID)
		a.call(200, "POST", "/v1/users/u00001/kick", "")
		one.expect(&pb.IMKickUser{})
		one.closed()
		a.call(200, "DELETE", "/v1/users/u00002", "")
		two.expect(&pb.IMKickUser{})
		two.closed()
		r := dial(t, sys.msgAddr[0]).tryLogin("u00002", "pw", android)
		equal(t, "login of a deleted user", r.GetResultCode(),
			pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED)
	})
}

// listsOnline finds the users that are online, in pages, and by a part of a name.
func (a *adminAPI) listsOnline(one, two uint32) {
	a.t.Helper()
	var found []any
	for path := "/v1/online/users?limit=1"; path != ""; {
		page := a.call(200, "GET", path, "")
		for _, u := range page["users"].([]any) {
			found = append(found, u.(map[string]any)["id"], u.(map[string]any)["name"])
		}
		path = ""
		if next := page["next"]; next != 0.0 {
			path = fmt.Sprintf("/v1/online/users?limit=1&after=%v", next)
		}
	}
	equal(a.t, "online", fmt.Sprint(found), fmt.Sprint([]any{one, "u00001", two, "u00002"}))
	page := a.call(200, "GET", "/v1/online/users?search=00002", "")
	equal(a.t, "found", len(page["users"].([]any)), 1)
}

// users adds, changes, finds and imports users.
func (a *adminAPI) users() {
	a.t.Helper()
	a.call(200, "PATCH", "/v1/users/u00001", `{"nick":"爱丽丝","phone":"123"}`)
	found := a.call(200, "GET", "/v1/users?search=%E7%88%B1%E4%B8%BD", "")
	if list := found["users"].([]any); len(list) != 1 ||
		list[0].(map[string]any)["name"] != "u00001" || found["next"] != 0.0 {
		a.t.Errorf("found %v", found)
	}
	page := a.call(200, "GET", "/v1/users?limit=2", "")
	rest := a.call(200, "GET", fmt.Sprintf("/v1/users?limit=2&after=%v", page["next"]), "")
	if len(page["users"].([]any)) != 2 || len(rest["users"].([]any)) != 1 || rest["next"] != 0.0 {
		a.t.Errorf("pages %v and %v", page, rest)
	}
	some := a.call(200, "GET", "/v1/users?ids=3,1,999", "")["users"].([]any)
	if len(some) != 2 || some[0].(map[string]any)["id"] != 1.0 {
		a.t.Errorf("users 3, 1 and 999: %v", some)
	}
	if added := a.call(200, "POST", "/v1/users", `{"name":"carol"}`); added["password"] == nil {
		a.t.Errorf("no password was generated: %v", added)
	}
	equal(a.t, "a name twice", a.errorCode(409, "POST", "/v1/users", `{"name":"CAROL"}`), "exists")
	equal(a.t, "an official name", a.errorCode(400, "POST", "/v1/users", `{"name":"admin"}`),
		"invalid")
	bad := a.call(400, "POST", "/v1/users/csv", "name,phone\ndave,1\nerin,123456789012\n")
	if text := fmt.Sprint(bad["error"]); !strings.Contains(text, "line 3: phone") {
		a.t.Errorf("a bad line: %s", text)
	}
	a.call(200, "POST", "/v1/users/csv?dry_run=true", "name\ndave\n")
	equal(a.t, "dave", a.errorCode(404, "GET", "/v1/users/dave", ""), "not_found")
	done := a.call(200, "POST", "/v1/users/csv?skip_existing=1", "name\ndave\ncarol\n")
	equal(a.t, "added", fmt.Sprint(done["added"], done["skipped"], len(done["passwords"].([]any))),
		"1 1 1")
	a.call(200, "POST", "/v1/users/dave/disable", "")
	equal(a.t, "status", a.call(200, "GET", "/v1/users/dave", "")["status"], "disabled")
	a.call(200, "POST", "/v1/users/dave/enable", "")
	a.call(200, "POST", "/v1/users/dave/unlock", "")
	a.call(200, "POST", "/v1/users/dave/password", `{"password":"pw"}`)
	a.call(200, "POST", "/v1/networks/unlock", `{"address":"192.0.2.1"}`)
}

// groups changes departments and groups.
func (a *adminAPI) groups(one, two uint32) {
	a.t.Helper()
	sales := a.call(200, "POST", "/v1/departments", `{"name":"Sales"}`)["id"]
	east := a.call(200, "POST", "/v1/departments",
		fmt.Sprintf(`{"name":"East","parent":%v}`, sales))
	equal(a.t, "path", east["path"], "Sales/East")
	path := fmt.Sprintf("/v1/departments/%v", east["id"])
	moved := a.call(200, "PATCH", path, `{"name":"West","parent":0}`)
	equal(a.t, "path", moved["path"], "West")
	a.call(200, "PATCH", "/v1/users/u00003", `{"department":"West"}`)
	equal(a.t, "a department with a user", a.errorCode(400, "DELETE", path, ""), "invalid")
	a.call(200, "PATCH", "/v1/users/u00003", `{"department":"/"}`)
	a.call(200, "DELETE", path, "")
	equal(a.t, "departments", len(a.call(200, "GET", "/v1/departments", "")["departments"].([]any)),
		1)

	g := a.call(200, "POST", "/v1/groups", fmt.Sprintf(`{"name":"G","members":["%d"]}`, one))
	path = fmt.Sprintf("/v1/groups/%v", g["id"])
	a.call(200, "POST", path+"/members", `{"add":["u00002","u00003"],"remove":["u00001"]}`)
	a.call(200, "PATCH", path, `{"name":"H"}`)
	got := a.call(200, "GET", path, "")
	equal(a.t, "group", fmt.Sprint(got["name"], got["members"]),
		fmt.Sprint("H", []uint32{two, two + 1}))
	equal(a.t, "told", a.call(200, "DELETE", path, "")["told"], true)
	equal(a.t, "members", a.call(200, "GET", path, "")["count"], 0.0)
	equal(a.t, "groups", len(a.call(200, "GET", "/v1/groups?search=h", "")["groups"].([]any)), 1)
	equal(a.t, "no group", a.errorCode(404, "GET", "/v1/groups/999", ""), "not_found")
}

// process reads and changes the state of the process.
func (a *adminAPI) process() {
	a.t.Helper()
	for _, s := range a.call(200, "GET", "/v1/settings", "")["settings"].([]any) {
		one := s.(map[string]any)
		if one["key"] == "admin_api.listen" &&
			(one["value"] != fmt.Sprintf("%q", a.addr) || one["origin"] == "default") {
			a.t.Errorf("setting %v", one)
		}
	}
	equal(a.t, "level", a.call(200, "PUT", "/v1/log", `{"level":"debug"}`)["level"], "debug")
	equal(a.t, "level", a.call(200, "GET", "/v1/log", "")["level"], "debug")
	equal(a.t, "no level", a.errorCode(400, "PUT", "/v1/log", `{"level":"loud"}`), "invalid")
	m := a.call(200, "GET", "/v1/metrics?prefix=teamtalk_admin_api", "")["metrics"].([]any)
	if len(m) == 0 {
		a.t.Error("no metrics")
	}
	m = a.call(200, "GET", "/v1/metrics?label=code&nonzero=1", "")["metrics"].([]any)
	for _, one := range m {
		m := one.(map[string]any)
		if m["value"] == 0.0 || m["labels"].(map[string]any)["code"] == nil {
			a.t.Errorf("metric %v", m)
		}
	}
	events := a.call(200, "GET", "/v1/audit", "")["events"].([]any)
	if first := events[0].(map[string]any); first["what"] != "setLogLevel PUT /v1/log level=loud" ||
		first["result"] != "bad_request" || first["by"] != "token ops" {
		a.t.Errorf("the last event is %v", first)
	}
	l := a.call(200, "GET", "/v1/live?step=10", "")
	if l["series"].(map[string]any)["users_online"] == nil {
		a.t.Errorf("live data: %v", l)
	}
	a.call(200, "GET", "/v1/transfers", "")
	equal(a.t, "registry", a.call(200, "GET", "/v1/nodes", "")["registry"], false)
	equal(a.t, "drain", a.errorCode(403, "PUT", "/v1/nodes/a/drain", `{"drain":true}`), "denied")
}

// TestAdminAPIOfACluster asks a message server of a cluster without route servers where users are
// online and which servers are registered, kicks a user of another server, and orders that server
// to drain.
func TestAdminAPIOfACluster(t *testing.T) {
	t.Parallel()
	sys := deploySeparate(t, settings{users: 2, mesh: true,
		flags: []string{"--link-tls.plaintext-beyond-loopback"}})
	a := &adminAPI{t: t, addr: reserve(t)}
	file := filepath.Join(t.TempDir(), "tokens")
	a.token = strings.TrimSpace(mustRun(t, "token", "add", "ops", "--file", file))
	sys.msg[0].stop()
	sys.msg[0].extra = append(slices.Clone(sys.store), "--admin-api.listen", a.addr,
		"--admin-api.tokens", file)
	sys.msg[0].start()
	sys.awaitMesh()
	_, one := loggedIn(t, sys.msgAddr[0], "u00001", windows)
	two, twoID := loggedIn(t, sys.msgAddr[1], "u00002", android)
	online := a.call(200, "GET", fmt.Sprintf("/v1/online?users=%d,%d,999", one, twoID), "")
	users := online["users"].([]any)
	nodes := map[any]bool{}
	for i, client := range []string{"WINDOWS", "ANDROID"} {
		u := users[i].(map[string]any)
		devices := u["devices"].([]any)
		if u["online"] != true || len(devices) != 1 ||
			devices[0].(map[string]any)["client"] != client {
			t.Fatalf("user %d: %v", i, u)
		}
		nodes[devices[0].(map[string]any)["node"]] = true
	}
	off := users[2].(map[string]any)
	if off["online"] != false || len(off["devices"].([]any)) != 0 || len(nodes) != 2 {
		t.Errorf("online: %v", online)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(a.token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := []string{"--api", "http://" + a.addr, "--token-file", secret}
	table := mustRun(t, slices.Concat([]string{"user", "online", "u00001", "u00002"}, at,
		sys.store)...)
	for _, want := range []string{"u00001  online  msg1:WINDOWS", "u00002  online  msg2:ANDROID"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q:\n%s", want, table)
		}
	}
	mustRun(t, slices.Concat([]string{"user", "kick", "u00002"}, at)...)
	two.expect(&pb.IMKickUser{})
	two.closed()
	a.drain(sys.msg[1].name)
}

// drain orders a message server to drain, and to serve again.
func (a *adminAPI) drain(name string) {
	a.t.Helper()
	path := "/v1/nodes/" + name + "/drain"
	equal(a.t, "no such role", a.errorCode(404, "PUT", path, `{"drain":true,"roles":["file"]}`),
		"not_found")
	for _, drain := range []bool{true, false} {
		a.call(200, "PUT", path, fmt.Sprintf(`{"drain":%v,"roles":["msg"]}`, drain))
		until(a.t, fmt.Sprintf("draining to be %v", drain), func() bool {
			var states []any
			for _, n := range a.call(200, "GET", "/v1/nodes", "")["nodes"].([]any) {
				if n := n.(map[string]any); n["role"] == "msg" {
					states = append(states, n["name"], n["draining"])
				}
			}
			return fmt.Sprint(states) == fmt.Sprint([]any{"msg1", false, name, drain})
		})
	}
}

// TestAdminAPIOverTLS calls the admin API with TLS. On the same machine it also takes calls
// without.
func TestAdminAPIOverTLS(t *testing.T) {
	t.Parallel()
	cert := certtest.Write(t, t.TempDir(), certtest.Options{})
	sys := deployAllInOne(t, settings{users: 1, flags: []string{
		"--tls.certificate", cert.Certificate, "--tls.key", cert.Key,
		"--tls.plain-networks", "192.0.2.0/24"}})
	a := startAdminAPI(t, sys)
	text, err := askOver(t, "https://"+a.addr+"/openapi.json", &tls.Config{RootCAs: cert.Roots})
	if err != nil || !strings.Contains(text, "listUsers") {
		t.Errorf("with TLS: %.100s, %v", text, err)
	}
	a.call(200, "GET", "/v1/users/u00001", "")
}
