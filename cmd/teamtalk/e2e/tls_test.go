//go:build linux

package e2e

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"teamtalk/core/cert/certtest"
	"teamtalk/core/client"
	"teamtalk/core/client/tcp"
)

// TestTLS lets a client with TLS and one without write to each other, on the same ports. A new
// certificate takes effect on SIGHUP, and the connections stay.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert := certtest.Write(t, dir, certtest.Options{})
	sys := deployAllInOne(t, settings{users: 2, flags: []string{
		"--tls.certificate", cert.Certificate, "--tls.key", cert.Key}})
	at := where{login: "https://" + sys.loginHTTP, tls: &tls.Config{RootCAs: cert.Roots}}
	a, b := newTalker(t, "u00001", at), newTalker(t, "u00002", where{login: sys.url()})
	online(t, a, b)
	talk(a, b)
	awaitTalk(t, a, b, 20)

	next := certtest.Write(t, dir, certtest.Options{})
	sys.msg[0].signal(syscall.SIGHUP)
	until(t, "the new certificate", func() bool {
		_, err := askOver(t, "https://"+sys.loginHTTP+"/msg_server", &tls.Config{RootCAs: next.Roots})
		return err == nil
	})
	awaitTalk(t, a, b, 40)
	hush(t, a, b)
	check(t, a, b, false)
	if a.broken() {
		t.Error("the connection with TLS was lost")
	}
	if n := sys.msg[0].metric("teamtalk_tls_handshakes_total", `result="done"`); n != 1 {
		t.Errorf("%v handshakes on the ports for clients", n)
	}
}

// TestTLSRequired refuses clients without TLS whose network is not listed.
func TestTLSRequired(t *testing.T) {
	t.Parallel()
	cert := certtest.Write(t, t.TempDir(), certtest.Options{})
	sys := deployAllInOne(t, settings{users: 1, flags: []string{
		"--tls.certificate", cert.Certificate, "--tls.key", cert.Key,
		"--tls.plain-networks", "192.0.2.0/24"}})
	text, err := askOver(t, sys.url()+"/msg_server", nil)
	if err != nil || !strings.Contains(text, "https") || strings.Contains(text, "priorIP") {
		t.Errorf("HTTP without TLS: %q, %v", text, err)
	}
	_, err = client.Open(bounded(t), client.Options{MsgServer: sys.msgAddr[0],
		Credentials: tcp.Credentials{User: "u00001", Password: "pw"}})
	if err == nil {
		t.Error("a client logged in without TLS")
	}
	newTalker(t, "u00001", where{addr: sys.msgAddr[0], tls: &tls.Config{RootCAs: cert.Roots}})
}

// askOver gets the body of a URL.
func askOver(t *testing.T, url string, config *tls.Config) (string, error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	rsp, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		return "", err
	}
	defer rsp.Body.Close()
	text, err := io.ReadAll(rsp.Body)
	return string(text), err
}
