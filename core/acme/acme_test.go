package acme

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/cert/certtest"
)

// The orders themselves are tested with a real CA: TestACME in cmd/teamtalk/e2e.

const directory = "https://127.0.0.1:1/dir"

// open opens a Manager for localhost.
func open(t *testing.T, folder string) *Manager {
	t.Helper()
	m, err := Open(Options{Domains: []string{"localhost"}, Directory: directory, Folder: folder,
		Challenge: HTTP01, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// place writes a certificate into the folder as an order does.
func place(t *testing.T, m *Manager, o certtest.Options) certtest.Cert {
	t.Helper()
	c := certtest.Write(t, t.TempDir(), o)
	if err := m.dir.writePair(certificateFile, c.Pair.PrivateKey, c.Pair.Certificate); err != nil {
		t.Fatal(err)
	}
	return c
}

// handshake returns the protocol and the error of a handshake with m.
func handshake(t *testing.T, m *Manager, client *tls.Config) (protocol string, err error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() { _ = tls.Server(b, m.Config(tls.VersionTLS12)).Handshake(); b.Close() }()
	c := tls.Client(a, client)
	err = c.Handshake()
	return c.ConnectionState().NegotiatedProtocol, err
}

// TestCertificateInTheFolder shows the certificate that this or another process has put into the
// folder, and the last one that was good when it is damaged.
func TestCertificateInTheFolder(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "acme")
	m := open(t, folder)
	if err := m.Ready(t.Context()); err == nil {
		t.Error("ready without a certificate")
	}
	if _, err := handshake(t, m, &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Error("a handshake without a certificate")
	}
	c := place(t, m, certtest.Options{})
	if err := m.look(); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Manager{m, open(t, folder)} {
		if err := m.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		// Browsers offer protocols.
		if _, err := handshake(t, m, &tls.Config{RootCAs: c.Roots, ServerName: "localhost",
			NextProtos: []string{"h2", "http/1.1"}}); err != nil {
			t.Error(err)
		}
	}
	if err := m.dir.write(certificateFile, []byte("damaged")); err != nil {
		t.Fatal(err)
	}
	if err := m.look(); err == nil {
		t.Error("a damaged certificate was read")
	}
	if end := m.End(); !end.Equal(c.Pair.Leaf.NotAfter) {
		t.Errorf("after the damage the certificate ends at %v", end)
	}
}

// TestDue renews in the last third of a life, and when a domain is missing.
func TestDue(t *testing.T) {
	m := open(t, t.TempDir()+"/acme")
	if !m.due().IsZero() {
		t.Error("no order without a certificate")
	}
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	place(t, m, certtest.Options{Begin: begin, End: begin.Add(90 * 24 * time.Hour)})
	if err := m.look(); err != nil {
		t.Fatal(err)
	}
	if got, want := m.due(), begin.Add(60*24*time.Hour); !got.Equal(want) {
		t.Errorf("due at %v, want %v", got, want)
	}
	m.opt.Domains = append(m.opt.Domains, "other.example.org")
	if !m.due().IsZero() {
		t.Error("no order for a further domain")
	}
}

// TestFolderMode refuses a folder that others may read.
func TestFolderMode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "acme")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Options{Folder: dir, Directory: directory})
	if err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("error %v", err)
	}
}

// TestChallenges answers the CA during an order only, and never with another file.
func TestChallenges(t *testing.T) {
	m := open(t, t.TempDir()+"/acme")
	c := place(t, m, certtest.Options{})
	if err := errors.Join(m.look(), m.dir.write(httpPrefix+"token", []byte("answer")),
		m.dir.write(accountFile, []byte("key"))); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(m.Handler())
	defer s.Close()
	for path, want := range map[string]string{challengePath + "token": "answer",
		challengePath + "other": "", challengePath: "", challengePath + "..%2f" + accountFile: "",
		challengePath + "x%2f..%2f" + accountFile: "", "/" + accountFile: ""} {
		rsp, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(rsp.Body)
		rsp.Body.Close()
		if ok := rsp.StatusCode == http.StatusOK; err != nil || ok != (want != "") ||
			ok && string(body) != want {
			t.Errorf("%s: status %d, %q, %v", path, rsp.StatusCode, body, err)
		}
	}
	asks := func(name string) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, ServerName: name,
			NextProtos: []string{"acme-tls/1"}}
	}
	for _, name := range []string{"localhost", "other.example.org", "../" + accountFile} {
		if p, err := handshake(t, m, asks(name)); err == nil {
			t.Errorf("%s: a handshake for no challenge (%q)", name, p)
		}
	}
	if err := m.dir.writePair(alpnPrefix+"localhost", c.Pair.PrivateKey,
		c.Pair.Certificate); err != nil {
		t.Fatal(err)
	}
	if p, err := handshake(t, m, asks("localhost")); err != nil || p != "acme-tls/1" {
		t.Errorf("during an order: %q, %v", p, err)
	}
	m.dir.remove(httpPrefix, alpnPrefix)
	if _, err := handshake(t, m, asks("localhost")); err == nil {
		t.Error("a handshake for a challenge that is over")
	}
}

// TestFailedOrder: the log tells an operator whether clients have the certificate of before.
func TestFailedOrder(t *testing.T) {
	m := open(t, filepath.Join(t.TempDir(), "acme"))
	var log strings.Builder
	m.opt.Log = slog.New(slog.NewTextHandler(&log, nil))
	m.note(errors.New("no CA"), time.Minute)
	if said := log.String(); !strings.Contains(said, "clients cannot use TLS yet") ||
		strings.Contains(said, "before stays") || strings.Contains(said, "end=") {
		t.Errorf("without a certificate: %s", said)
	}
	log.Reset()
	m.current.Store(&tls.Certificate{Leaf: &x509.Certificate{NotAfter: time.Now()}})
	m.note(errors.New("no CA"), time.Minute)
	if said := log.String(); !strings.Contains(said, "the one before stays") ||
		!strings.Contains(said, "end=") {
		t.Errorf("with one: %s", said)
	}
}

// TestOrderOfAnotherProcess: an order that failed is no reason to be degraded once another process
// has put a certificate into the folder.
func TestOrderOfAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, t.TempDir()+"/acme")
		go m.Run(t.Context())
		time.Sleep(time.Second)
		if err := m.Ready(t.Context()); err == nil || testutil.ToFloat64(
			m.orders.WithLabelValues("failed")) != 1 {
			t.Fatalf("ready without a CA: %v", err)
		}
		place(t, m, certtest.Options{})
		time.Sleep(2 * lookEvery)
		if err := m.Ready(t.Context()); err != nil {
			t.Errorf("with a certificate: %v", err)
		}
	})
}

// TestNewAndDue: a new certificate that is due already is a failure, which has longer and longer
// pauses.
func TestNewAndDue(t *testing.T) {
	m := open(t, t.TempDir()+"/acme")
	for _, test := range []struct {
		begin time.Duration
		ok    bool
	}{{-time.Hour, true}, {-80 * 24 * time.Hour, false}} {
		begin := time.Now().Add(test.begin)
		place(t, m, certtest.Options{Begin: begin, End: begin.Add(90 * 24 * time.Hour)})
		if err := m.look(); err != nil {
			t.Fatal(err)
		}
		if err := m.fresh(); (err == nil) != test.ok {
			t.Errorf("%v after its begin: %v", -test.begin, err)
		}
	}
}

// TestUnreadable reads a file again that could not be read, and removes challenges from a folder
// with any name.
func TestUnreadable(t *testing.T) {
	m := open(t, t.TempDir()+"/[acme]")
	if err := errors.Join(os.Mkdir(m.dir.path(certificateFile), 0o700),
		m.dir.write(httpPrefix+"token", nil)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.look(); err == nil {
			t.Error("a folder was read as a certificate")
		}
	}
	m.dir.remove(httpPrefix)
	if _, err := os.Stat(m.dir.path(httpPrefix + "token")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a challenge remains: %v", err)
	}
}
