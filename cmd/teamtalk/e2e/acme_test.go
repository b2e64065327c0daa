//go:build linux

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"teamtalk/core/cert/certtest"
)

// pebbleVersion is the version of Pebble, the ACME server that Let's Encrypt made for tests.
const pebbleVersion = "@v2.10.3"

// pebble is a CA with ACME.
type pebble struct {
	t           testing.TB
	http        *http.Client
	directory   string // URL
	ca          string // file with the CA that signed the certificate of that URL
	management  string // URL
	args        []string
	cmd         *exec.Cmd
	http01, tls string // addresses that it connects to for its challenges
}

// pebblePrograms builds the programs of Pebble once, into a folder of binaryDir. The module
// is none of the project's dependencies. The flags are those of the binary without the race
// detector, which uses most of the same packages.
var pebblePrograms = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(binaryDir(), "pebble")
	const commands = "github.com/letsencrypt/pebble/v2/cmd/"
	cmd := exec.Command("go", "install", "-ldflags=-s -w", commands+"pebble"+pebbleVersion,
		commands+"pebble-challtestsrv"+pebbleVersion)
	cmd.Env = append(toolEnvironment(false), "GOBIN="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

// pebbleProgram returns the path of a program of Pebble.
func pebbleProgram(t testing.TB, name string) string {
	t.Helper()
	dir, err := pebblePrograms()
	if err != nil {
		t.Skipf("needs Pebble, which cannot be built here: %v", err)
	}
	return filepath.Join(dir, name)
}

// startPebble starts a CA that gives certificates of a length of life.
func startPebble(t testing.TB, life time.Duration) *pebble {
	t.Helper()
	program(t) // skips with -short
	dir := t.TempDir()
	own := certtest.Write(t, dir, certtest.Options{})
	dns, listen, management := reserve(t), reserve(t), reserve(t)
	p := &pebble{t: t, directory: "https://" + listen + "/dir", ca: own.Certificate,
		management: "https://" + management, http01: reserve(t), tls: reserve(t),
		http: &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{RootCAs: own.Roots}}}}
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": management,
		"certificate": own.Certificate, "privateKey": own.Key,
		"httpPort": port(t, p.http01), "tlsPort": port(t, p.tls),
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{
			"description": "test", "validityPeriod": int(life.Seconds())}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, exec.Command(pebbleProgram(t, "pebble-challtestsrv"), "-dnsserver", dns,
		"-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "",
		"-management", reserve(t)))
	p.args = []string{pebbleProgram(t, "pebble"), "-config", file, "-dnsserver", dns}
	p.start()
	return p
}

// start starts the CA, which has a new root then.
func (p *pebble) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	run(p.t, p.cmd)
	until(p.t, "Pebble", func() bool { _, err := p.get("/roots/0"); return err == nil })
}

// stop ends the CA.
func (p *pebble) stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// run starts a program that the end of the test ends.
func run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := startBound(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// port returns the port of an address.
func port(t testing.TB, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// get returns a file of the management port.
func (p *pebble) get(path string) ([]byte, error) {
	rsp, err := p.http.Get(p.management + path)
	if err != nil {
		return nil, err
	}
	defer rsp.Body.Close()
	return io.ReadAll(rsp.Body)
}

// roots returns the root of the certificates that it gives.
func (p *pebble) roots() *x509.CertPool {
	p.t.Helper()
	text, err := p.get("/roots/0")
	if err != nil {
		p.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		p.t.Fatalf("no root: %q", text)
	}
	return roots
}

// flags are those of a server that gets the certificates of names from the CA.
func (p *pebble) flags(folder, names string, more ...string) []string {
	return slices.Concat([]string{"--tls.acme.domains", names, "--tls.acme.agree-tos",
		"--tls.acme.directory", p.directory, "--tls.acme.directory-ca", p.ca,
		"--tls.acme.email", "admin@example.org", "--tls.acme.folder", folder}, more)
}

// TestACME gets a certificate from a CA. Clients talk over TLS. After a restart without the CA
// the server has the certificate.
func TestACME(t *testing.T) {
	t.Parallel()
	ca := startPebble(t, 90*24*time.Hour)
	folder := filepath.Join(t.TempDir(), "acme")
	// The server is ready once it has a certificate.
	sys := deployAllInOne(t, settings{users: 2, flags: ca.flags(folder,
		"chat.example.org,files.example.org", "--tls.acme.http-listen", ca.http01)})
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info, err)
	}
	orders := func(result string) float64 {
		return sys.msg[0].metric("teamtalk_tls_acme_orders_total", `result="`+result+`"`)
	}
	if n := orders("done"); n != 1 {
		t.Errorf("%v orders", n)
	}
	roots := ca.roots()
	at := func(name string) where {
		return where{login: "https://" + sys.loginHTTP,
			tls: &tls.Config{RootCAs: roots, ServerName: name}}
	}
	a, b := newTalker(t, "u00001", at("chat.example.org")), newTalker(t, "u00002",
		at("files.example.org"))
	online(t, a, b)
	talk(a, b)
	awaitTalk(t, a, b, 20)
	hush(t, a, b)
	check(t, a, b, false)
	a.Close()
	b.Close()

	ca.stop()
	sys.msg[0].stop()
	sys.msg[0].start()
	if n := orders("done") + orders("failed"); n != 0 {
		t.Errorf("%v orders after a restart", n)
	}
	url := "https://" + sys.loginHTTP + "/msg_server"
	if _, err := askOver(t, url, at("chat.example.org").tls); err != nil {
		t.Error(err)
	}
}

// TestACMERenewal answers the CA on the TLS port of clients, and renews a certificate of a short
// life. A client that sends no name gets the certificate as well.
func TestACMERenewal(t *testing.T) {
	t.Parallel()
	ca := startPebble(t, 30*time.Second)
	folder := filepath.Join(t.TempDir(), "acme")
	flags := ca.flags(folder, "chat.example.org", "--tls.acme.challenge", "tls-alpn-01",
		"--login.http-listen", ca.tls, "--msg.listen", ca.http01)
	data := t.TempDir()
	s := newServer(t, "all", slices.Concat([]string{"serve", "--data-dir", data,
		"--login.client-listen", "off", "--msfs.listen", "off", "--file.listen", "off"}, flags)...)
	s.start()
	roots := ca.roots()
	first := shown(t, ca.http01, roots)
	var second *x509.Certificate
	until(t, "a renewal", func() bool {
		second = shown(t, ca.http01, roots)
		return second.SerialNumber.Cmp(first.SerialNumber) != 0
	})
	if err := second.VerifyHostname("chat.example.org"); err != nil {
		t.Error(err)
	}
	n := s.metric("teamtalk_tls_certificate_end_seconds", "")
	if n < float64(second.NotAfter.Unix()) {
		t.Errorf("the certificate ends at %v, the metric has %v", second.NotAfter, n)
	}
}

// shown returns the certificate that a port shows to a client that sends no name.
func shown(t testing.TB, addr string, roots *x509.CertPool) *x509.Certificate {
	t.Helper()
	var leaf *x509.Certificate
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			leaf = s.PeerCertificates[0]
			between := x509.NewCertPool()
			for _, c := range s.PeerCertificates[1:] {
				between.AddCert(c)
			}
			_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between,
				CurrentTime: leaf.NotBefore})
			return err
		}})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	return leaf
}

// TestACMEWithoutCA starts two servers that share a folder, while the CA is down. They serve
// clients without TLS and are not ready. When the CA is back, SIGHUP makes one of them order the
// certificate, and both have it, although only one answers the CA.
func TestACMEWithoutCA(t *testing.T) {
	t.Parallel()
	ca := startPebble(t, 90*24*time.Hour)
	ca.stop()
	folder := filepath.Join(t.TempDir(), "acme")
	var servers [2]*server
	var ports [2]string
	for i, challenges := range []string{ca.http01, "off"} {
		ports[i] = reserve(t)
		servers[i] = newServer(t, "all"+strconv.Itoa(i), slices.Concat([]string{"serve",
			"--data-dir", t.TempDir(), "--login.client-listen", "off", "--msfs.listen", "off",
			"--file.listen", "off", "--msg.listen", reserve(t), "--login.http-listen", ports[i]},
			ca.flags(folder, "chat.example.org", "--tls.acme.http-listen", challenges))...)
		servers[i].launch()
	}
	for i, s := range servers {
		until(t, "an order that fails", func() bool {
			return s.probe("/healthz") == http.StatusOK &&
				s.metric("teamtalk_tls_acme_orders_total", `result="failed"`) >= 1
		})
		if got := s.probe("/readyz"); got != http.StatusServiceUnavailable {
			t.Errorf("without a certificate: /readyz has %d", got)
		}
		if _, err := askOver(t, "http://"+ports[i]+"/msg_server", nil); err != nil {
			t.Error(err)
		}
	}
	ca.start()
	orders := 0.0
	for _, s := range servers {
		s.signal(syscall.SIGHUP)
	}
	for _, s := range servers {
		s.awaitReady()
		orders += s.metric("teamtalk_tls_acme_orders_total", `result="done"`)
	}
	if orders != 1 {
		t.Errorf("%v orders", orders)
	}
	config := &tls.Config{RootCAs: ca.roots(), ServerName: "chat.example.org"}
	for _, port := range ports {
		if _, err := askOver(t, "https://"+port+"/msg_server", config); err != nil {
			t.Error(err)
		}
	}
}
