//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	account "os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"teamtalk/core/audit"
	"teamtalk/proto/pb"
)

// audited reads the lines of an audit log, in a short form. ok is false while there are
// fewer than n.
func audited(t *testing.T, path string, n int) (list []string, ok bool) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var e struct {
			Time string
			audit.Event
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Time == "" || (e.From == "") != (e.Kind == audit.Command) {
			t.Errorf("line without time or address: %s", line)
		}
		about := strings.Join([]string{e.Kind, e.By, fmt.Sprint(e.User), e.Name, e.Client,
			e.What}, " ")
		list = append(list, strings.Join(strings.Fields(about), " ")+": "+
			strings.TrimSpace(e.Result+" "+e.Detail))
	}
	return list, len(list) >= n
}

// awaitAudit waits for the lines of an audit log and compares them.
func awaitAudit(t *testing.T, path string, want ...string) {
	t.Helper()
	var got []string
	until(t, fmt.Sprintf("%d lines in %s", len(want), path), func() (ok bool) {
		got, ok = audited(t, path, len(want))
		return ok
	})
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("audit log (-want +got):\n%s", d)
	}
}

// TestAuditLog: the server and a command write to the same file. It is opened again on
// SIGHUP, after its rotation.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "audit.log")
	sys := deployAllInOne(t, settings{users: 2})
	api := startHTTPAPI(t, sys, apps(t), "--audit.file", log)
	dial(t, sys.msgAddr[0]).tryLogin("u00002", "secret guess", android)
	first, _ := loggedIn(t, sys.msgAddr[0], "u00001", android)
	second, _ := loggedIn(t, sys.msgAddr[0], "u00001", android)
	first.expect(&pb.IMKickUser{})
	second.send(9, &pb.IMLogoutReq{})
	second.expectSeq(9, &pb.IMLogoutRsp{})
	second.closed()
	until(t, "the end of the session in the log", func() bool {
		_, ok := audited(t, log, 5)
		return ok
	})
	api.call("SendMessage", `"req_user_id":1,"to_user_id":2,"text":"secret text"`)
	rsp, err := http.Post("http://"+api.addr+"/query/KickUser", "application/json",
		strings.NewReader(`{"app_key":"secret wrong key","user_id":2}`))
	if err != nil {
		t.Fatal(err)
	}
	rsp.Body.Close()
	api.call("Register",
		`"user_name":"carol","password":"secret and long","invite_code":"come in!"`)
	mustRun(t, append([]string{"user", "set", "u00002", "--sign", "secret sign",
		"--audit.file", log}, sys.store...)...)
	me, err := account.Current()
	if err != nil {
		t.Fatal(err)
	}
	awaitAudit(t, log,
		"login_refused 0 u00002 android: wrong_password",
		"login 1 u00001 android: ok",
		"kick 1 android: duplicate_user",
		"login 1 u00001 android: ok",
		"logout 1 android: ok",
		"call app test 0 SendMessage as=1 user=2: ok",
		"call 0 KickUser user=2: wrong_key app_key is wrong",
		"register 3 carol: ok",
		"command shell "+me.Username+" 0 user set u00002 --audit.file --data-dir --sign: ok",
	)
	if text, err := os.ReadFile(log); err != nil || strings.Contains(string(text), "secret") {
		t.Errorf("the log has contents (%v):\n%s", err, text)
	}

	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	sys.msg[0].signal(syscall.SIGHUP)
	until(t, "a new file", func() bool {
		_, err := os.Stat(log)
		return err == nil
	})
	loggedIn(t, sys.msgAddr[0], "u00001", android)
	awaitAudit(t, log, "login 1 u00001 android: ok")
}
