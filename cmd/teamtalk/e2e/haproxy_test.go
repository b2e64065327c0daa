//go:build linux

package e2e

import (
	"bufio"
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"teamtalk/core/cert/certtest"
	"teamtalk/core/dbprog"
)

// haproxyProgram returns the path of HAProxy. Where there is none it skips the test, and fails it
// with CI=true.
func haproxyProgram(t *testing.T) string {
	t.Helper()
	program := dbprog.Find("haproxy")
	if program == "" && os.Getenv("CI") == "true" {
		t.Fatal("needs HAProxy, in Debian the package haproxy")
	} else if program == "" {
		t.Skip("needs HAProxy, in Debian the package haproxy")
	}
	return program
}

// haproxy runs HAProxy with the configuration of an example, in which the pairs of old and
// new replace addresses and files.
func haproxy(t *testing.T, example string, pairs ...string) {
	t.Helper()
	program := haproxyProgram(t)
	text, err := os.ReadFile(filepath.Join("../example", example))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(text), pairs[i]) {
			t.Fatalf("the example has no %s", pairs[i])
		}
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	config := strings.NewReplacer(pairs...).Replace(string(text))
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "-c", "-f", file).CombinedOutput(); err != nil ||
		strings.Contains(string(out), "WARNING") {
		t.Fatalf("haproxy -c: %v\n%s", err, out)
	}
	cmd := exec.Command(program, "-db", "-f", file)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := startBound(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// TestHAProxy puts the HAProxy of the example in front of the servers. Clients with TLS and
// without write to each other through it, and the servers know their addresses.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	haproxyProgram(t)
	dir := t.TempDir()
	cert, log := certtest.Write(t, dir, certtest.Options{}), filepath.Join(dir, "audit.log")
	msg, login, small, web := reserve(t), reserve(t), reserve(t), reserve(t)
	behind := reserve(t) // the port of the page
	_, port, err := net.SplitHostPort(msg)
	if err != nil {
		t.Fatal(err)
	}
	sys := deployAllInOne(t, settings{users: 2, flags: []string{
		"--proxy.networks", "127.0.0.0/8", "--audit.file", log,
		"--web.listen", behind,
		"--msg.advertise-ip1", "127.0.0.1", "--msg.advertise-port", port}})
	haproxy(t, "haproxy.cfg", "maxconn 50000", "maxconn 500", // with few descriptors
		"/etc/haproxy/chat.pem", both(t, dir, cert),
		"bind :8000", "bind "+msg, "bind :8080", "bind "+login, "bind :8700", "bind "+small,
		"10.0.0.11:8000", sys.msgAddr[0], "10.0.0.11:8080", sys.loginHTTP,
		"10.0.0.11:8700", sys.files, "bind :443", "bind "+web, "10.0.0.11:8800", behind,
		"127.0.0.1:18000", reserve(t), "127.0.0.1:18080", reserve(t), "127.0.0.1:18700",
		reserve(t))
	roots := &tls.Config{RootCAs: cert.Roots, ServerName: "localhost"}
	for _, url := range []string{"https://" + login + "/msg_server", "https://" + small + "/none",
		"https://" + web + "/config.json",
		"http://" + login + "/msg_server", "http://" + small + "/none"} {
		until(t, "an answer of "+url, func() bool {
			_, err := askOver(t, url, roots)
			return err == nil
		})
	}
	a := newTalker(t, "u00001", where{login: "https://" + login, tls: roots})
	b := newTalker(t, "u00002", where{login: "http://" + login})
	online(t, a, b)
	talk(a, b)
	awaitTalk(t, a, b, 20)
	hush(t, a, b)
	check(t, a, b, false)

	knownBy(t, msg, nil, "127.0.0.77", log)
	knownBy(t, msg, roots, "127.0.0.78", log)
	page := &pages{t: t, addr: web, tls: roots}
	p, _ := page.tab("127.0.0.79")
	p.login("u00001", windows)
	loggedFrom(t, "127.0.0.79", log)
	if n := sys.msg[0].metric("teamtalk_proxy_headers_total",
		`listener="clients",result="read"`); n < 4 {
		t.Errorf("%v headers on the port for clients, want 4 or more", n)
	}
	// Past HAProxy, without a header, the connection is closed.
	w := dial(t, sys.msgAddr[0])
	w.send(1, loginReq("u00001", "pw", android))
	w.closed()
}

// both writes the certificate and its key into one file, as HAProxy wants them.
func both(t *testing.T, dir string, cert certtest.Cert) string {
	t.Helper()
	var all []byte
	for _, name := range []string{cert.Certificate, cert.Key} {
		part, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, part...)
	}
	file := filepath.Join(dir, "both.pem")
	if err := os.WriteFile(file, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// knownBy logs in from an address of this machine, and awaits the line of the audit log that
// has it.
func knownBy(t *testing.T, addr string, encryption *tls.Config, from, log string) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if encryption != nil {
		c = tls.Client(c, encryption)
	}
	w := &wire{Conn: c, t: t, in: bufio.NewReader(c)}
	w.login("u00001", android)
	loggedFrom(t, from, log)
}

// loggedFrom awaits the line of the audit log with a login from an address.
func loggedFrom(t *testing.T, from, log string) {
	t.Helper()
	until(t, "a login from "+from+" in the audit log", func() bool {
		text, err := os.ReadFile(log)
		lines := slices.Collect(strings.Lines(string(text)))
		return err == nil && slices.ContainsFunc(lines, func(line string) bool {
			return strings.Contains(line, `"event":"login"`) &&
				strings.Contains(line, `"from":"`+from+`"`)
		})
	})
}
