//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
)

// get requests a path of the admin port, which must answer with status 200.
func get(t *testing.T, s *server, path string) string {
	t.Helper()
	resp, err := admins.Get("http://" + s.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v", path, resp.StatusCode, err)
	}
	return string(text)
}

// TestServeDemo follows the first steps of the README.
func TestServeDemo(t *testing.T) {
	clients, loginTCP, loginHTTP := reserve(t), reserve(t), reserve(t)
	files, transfers, api, page := reserve(t), reserve(t), reserve(t), reserve(t)
	dir := filepath.Join(t.TempDir(), "data")
	s := newServer(t, "demo", "serve", "--demo", "--data-dir", dir,
		"--msg.listen", clients, "--login.client-listen", loginTCP,
		"--login.http-listen", loginHTTP, "--msfs.listen", files,
		"--file.listen", transfers, "--http.listen", api, "--web.listen", page)
	s.start()
	until(t, "the banner", func() bool {
		return strings.Contains(s.out.String(),
			"chat NAME --register")
	})
	banner := s.out.String()
	for _, want := range []string{
		clients, loginTCP, "http://" + loginHTTP + "/msg_server", "http://" + files,
		"http://" + s.admin, dir, "http://" + api + "/openapi.json",
		" chat NAME --register --server http://" + loginHTTP, "http://" + page + "/",
		" chat alice bob --password demo --server http://" + loginHTTP,
		" chat bob alice --password demo --server http://" + loginHTTP,
	} {
		if !strings.Contains(banner, want) {
			t.Errorf("the banner does not say %q:\n%s", want, banner)
		}
	}
	if got := get(t, s, "/healthz"); got != "ok\n" {
		t.Errorf("/healthz: %q", got)
	}
	if got := get(t, s, "/readyz"); !strings.Contains(got, `"ready":true`) {
		t.Errorf("/readyz: %s", got)
	}
	if got := get(t, s, "/metrics"); !strings.Contains(got, "teamtalk_build_info") ||
		!strings.Contains(got, "teamtalk_msg_users_online 0") {
		t.Errorf("/metrics: %s", got)
	}
	accepted(t, clients, "alice", "demo")
	accepted(t, clients, "bob", "demo")

	// The users exist after a restart.
	s.stop()
	s.start()
	accepted(t, clients, "alice", "demo")
}

// fails runs a command that must fail with an exit code and errors that contain want.
// Standard error has one line beside the log; for wrong usage, one line for each mistake.
func fails(t *testing.T, code int, want []string, args ...string) {
	t.Helper()
	got, out, errOut := command(t, args...)
	var said []string
	for line := range strings.Lines(errOut) {
		if !strings.HasPrefix(line, "time=") && !strings.HasPrefix(line, "teamtalk: warning: ") {
			said = append(said, line)
		}
	}
	if got != code || len(said) == 0 || (code == 1 && len(said) > 1) || out != "" {
		t.Errorf("teamtalk %s: exit code %d, want %d, and one line\n%s%s", strings.Join(args, " "),
			got, code, out, errOut)
	}
	for _, line := range said {
		if !strings.HasPrefix(line, "teamtalk: ") {
			t.Errorf("teamtalk %s: said %q", strings.Join(args, " "), line)
		}
	}
	for _, w := range want {
		if !strings.Contains(strings.Join(said, ""), w) {
			t.Errorf("teamtalk %s: the error does not say %q: %s", strings.Join(args, " "), w, said)
		}
	}
}

// TestServeRefuses starts servers that cannot run: on ports and folders in use, and with
// wrong settings.
func TestServeRefuses(t *testing.T) {
	t.Parallel()
	sys := deployAllInOne(t, settings{users: 1})
	used := map[string]string{
		"--msg.listen": sys.msgAddr[0], "--login.client-listen": sys.loginTCP,
		"--login.http-listen": sys.loginHTTP, "--admin.listen": sys.msg[0].admin,
		"--msfs.listen": sys.files, "--file.listen": sys.fileAddr,
	}
	// free returns a command line with free ports, except for one flag.
	free := func(but, addr string) []string {
		args := []string{"serve", "--data-dir", filepath.Join(t.TempDir(), "other")}
		for flag := range used {
			if flag == but {
				args = append(args, flag, addr)
			} else {
				args = append(args, flag, "127.0.0.1:0")
			}
		}
		return args
	}
	for flag, addr := range used {
		setting := strings.ReplaceAll(strings.TrimPrefix(flag, "--"), "-", "_")
		fails(t, 1, []string{addr, "address already in use", setting}, free(flag, addr)...)
	}
	dir := sys.store[1]
	fails(t, 1, []string{dir}, append(free("", ""), "--data-dir", dir)...)
	fails(t, 2, []string{"msg.dbproxy"}, "serve", "--roles", "msg")
	fails(t, 2, []string{"role"}, "serve", "--roles", "chef")

	file := filepath.Join(t.TempDir(), "teamtalk.toml")
	if err := os.WriteFile(file, []byte("[msg]\nlisten = \":8000\"\nrat = 3\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, 2, []string{file, "rat"}, "serve", "--config", file)

	// The running server still serves clients.
	accepted(t, sys.msgAddr[0], "u00001", "pw")
}

// TestNotMigrated starts a db_proxy on an empty database: the error names the command to
// run.
func TestNotMigrated(t *testing.T) {
	t.Parallel()
	program(t)
	dsn, redis := dbtest.MariaDB(t).NewDatabase(t), dbtest.Redis(t)
	fails(t, 1, []string{"not migrated", "run migrate"}, "serve", "--roles", "dbproxy", "--store",
		"mysql", "--mysql.master", dsn, "--redis.addrs", redis.Addr(),
		"--dbproxy.listen", "127.0.0.1:0", "--admin.listen", "127.0.0.1:0")
}

// TestMissingServers stops each server that a login needs. The answer to a login names
// the missing server, and logins succeed again after its start.
func TestMissingServers(t *testing.T) {
	t.Parallel()
	program(t)
	sys := deploySeparate(t, settings{users: 1})
	for _, x := range []struct {
		down *server
		code pb.ResultType
	}{
		{sys.dbproxy, pb.ResultType_REFUSE_REASON_NO_DB_SERVER},
		{sys.login, pb.ResultType_REFUSE_REASON_NO_LOGIN_SERVER},
		{sys.servers[1], pb.ResultType_REFUSE_REASON_NO_ROUTE_SERVER},
	} {
		x.down.stop()
		until(t, fmt.Sprintf("logins to be refused with %v", x.code), func() bool {
			w := dial(t, sys.msgAddr[0])
			defer w.Close()
			return w.tryLogin("u00001", "pw", android).GetResultCode() == x.code
		})
		x.down.start()
		sys.msg[0].awaitReady()
		accepted(t, sys.msgAddr[0], "u00001", "pw")
	}
}
