//go:build linux

package e2e

import (
	"net/http"
	"path/filepath"
	"slices"
	"testing"
)

// TestLinkTLS runs dbproxy apart from the other roles, with certificates of teamtalk cert between
// them. A text goes through, and another one after dbproxy was killed and started again.
func TestLinkTLS(t *testing.T) {
	t.Parallel()
	dir, data := t.TempDir(), t.TempDir()
	mustRun(t, "cert", "ca", "--dir", dir)
	links := []string{"--link-tls.ca", filepath.Join(dir, "ca.pem"), "--link.backoff-max", "1s"}
	serve := func(name string, args ...string) *server {
		mustRun(t, "cert", "server", name, "--dir", dir)
		return newServer(t, name, slices.Concat([]string{"serve"}, links, args, []string{
			"--link-tls.certificate", filepath.Join(dir, name+".pem"),
			"--link-tls.key", filepath.Join(dir, name+"-key.pem")})...)
	}
	mustRun(t, "user", "add", "--count", "2", "--format", "u%05d", "--password", "pw",
		"--data-dir", data)
	db, clients := reserve(t), reserve(t)
	dbproxy := serve("db1", "--roles", "dbproxy", "--data-dir", data, "--dbproxy.listen", db)
	msg := serve("msg1", "--roles", "login,route,msg", "--msg.listen", clients, "--msg.dbproxy", db,
		"--login.server-listen", "off", "--route.listen", "off",
		"--login.client-listen", reserve(t), "--login.http-listen", reserve(t))
	dbproxy.launch()
	msg.launch()
	dbproxy.awaitReady()
	msg.awaitReady()

	alice, a := loggedIn(t, clients, "u00001", android)
	bob, b := loggedIn(t, clients, "u00002", android)
	id := alice.sendText(2, b, "before")
	bob.receiveText(a, b, id, "before")
	dbproxy.kill()
	until(t, "the message server to miss dbproxy", func() bool {
		return msg.probe("/readyz") == http.StatusServiceUnavailable
	})
	dbproxy.start()
	msg.awaitReady()
	id = alice.sendText(3, b, "after")
	bob.receiveText(a, b, id, "after")
	// The message server is ready once one of its two links is up.
	if n := dbproxy.metric("teamtalk_servers_tls_handshakes_total", `result="done"`); n < 1 {
		t.Errorf("%v handshakes at the new dbproxy", n)
	}
}
