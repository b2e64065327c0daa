package system

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"teamtalk/cmd/teamtalk/internal/system/check"
	"teamtalk/core/cert"
	"teamtalk/core/config"
	"teamtalk/core/obs"
)

// checkFiles are the files of a deployment: those that are right, and some that are wrong.
type checkFiles struct{ dir, ca, caKey, server, serverKey, text string }

// newCheckFiles writes them.
func newCheckFiles(t *testing.T) checkFiles {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	f := checkFiles{dir, at("ca.pem"), at("ca-key.pem"), at("server.pem"), at("server-key.pem"),
		at("text")}
	ca, pair, err := cert.NewAuthority("test CA", 1000*time.Hour)
	if err == nil {
		err = pair.Write(f.ca, f.caKey)
	}
	if err == nil {
		pair, err = ca.Issue([]string{"127.0.0.1"}, 1000*time.Hour)
	}
	if err == nil {
		err = pair.Write(f.server, f.serverKey)
	}
	if err == nil {
		err = os.WriteFile(f.text, []byte("just text\n"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestCheck checks settings whose files are right, and such whose files are missing or wrong. It
// compares with a start: what a check refuses does not start, and the start says the same. A check
// leaves no file.
func TestCheck(t *testing.T) {
	f := newCheckFiles(t)
	none, below := filepath.Join(f.dir, "none"), filepath.Join(f.text, "below")
	apps := filepath.Join(f.dir, "apps.toml")
	if err := os.WriteFile(apps, []byte("[[app]]\nname = \"hr\"\nkey = \"short\"\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	before := filesIn(t, f.dir)
	for _, x := range checkTests(f, none, below, apps) {
		t.Run(x.name, func(t *testing.T) { x.run(t, f, before) })
	}
}

// checkTest is a test of check.Start.
type checkTest struct {
	name string
	set  map[string]string
	want []string // lines of the error; each begins so. nil: no error
}

// checkTests returns the tests. none is a file that is missing, below a folder in a file.
func checkTests(f checkFiles, none, below, apps string) []checkTest {
	return []checkTest{
		{"right files", map[string]string{"roles": "route,dbproxy", "tls.certificate": f.server,
			"tls.key": f.serverKey, "link_tls.ca": f.ca, "link_tls.certificate": f.server,
			"link_tls.key": f.serverKey, "audit.file": filepath.Join(f.dir, "audit.log"),
			"data_dir": filepath.Join(f.dir, "a")}, nil},
		{"no folder for a store", map[string]string{"roles": "dbproxy",
			"data_dir": filepath.Join(none, "a")},
			[]string{"data_dir: stat " + none + ": no such file or directory (needed by dbproxy)"}},
		{"client TLS", map[string]string{"roles": "route", "tls.certificate": none,
			"tls.key": none},
			[]string{"tls.certificate: certificate " + none + " with key " + none + ": "}},
		{"client TLS of roles", map[string]string{"tls.certificate": f.text, "tls.key": f.text,
			"http.listen": ""},
			[]string{"tls.certificate: certificate " + f.text + " with key "}},
		{"ACME", map[string]string{"roles": "route", "tls.acme.domains": "a.example.org",
			"tls.acme.agree_tos": "true", "tls.acme.folder": below,
			"tls.acme.directory_ca": f.text},
			[]string{"tls.acme.directory_ca: directory_ca: " + f.text + " holds no certificate",
				"tls.acme.folder: "}},
		{"links", map[string]string{"roles": "route", "link_tls.ca": f.text,
			"link_tls.certificate": f.server, "link_tls.key": f.serverKey},
			[]string{"link_tls.certificate: " + f.text + " holds no certificate"}},
		{"registry", map[string]string{"roles": "route", "registry.enabled": "true",
			"node.name": "a", "registry.redis": "rediss://127.0.0.1:1", "redis.ca": f.text},
			[]string{"redis.ca: " + f.text + " holds no certificate"}},
		{"audit", map[string]string{"roles": "route", "audit.file": filepath.Join(none, "log")},
			[]string{"audit.file: stat " + none + ": no such file or directory (needed by every"}},
		{"tokens", map[string]string{"admin_api.listen": "127.0.0.1:0", "admin_api.tokens": none,
			"roles": "dbproxy"},
			[]string{"admin_api.tokens: read tokens: stat " + none}},
		{"apps", map[string]string{"http.apps_file": none},
			[]string{"http.apps_file: read apps: open " + none}},
		{"a wrong app", map[string]string{"http.apps_file": apps},
			[]string{"http.apps_file: " + apps + ": app hr: the key has 5 characters"}},
		{"folders", map[string]string{"roles": "msfs,file,dbproxy", "data_dir": below,
			"msfs.dir": below, "file.dir": below},
			[]string{"msfs.dir: ", "file.dir: ", "data_dir: "}},
		{"pushes", map[string]string{"roles": "push", "push.apns_topic": "x",
			"push.apns_key_file": none, "push.fcm_credentials": f.text},
			[]string{"push.apns_key_file: read APNs key " + none,
				"push.fcm_credentials: read FCM"}},
		{"database", map[string]string{"roles": "dbproxy", "store": "mysql",
			"mysql.master": "u:p@tcp(127.0.0.1:1)/d", "mysql.ca": none, "redis.tls": "true",
			"redis.ca": none},
			[]string{"mysql.ca: open " + none, "redis.ca: open " + none}},
		{"data source", map[string]string{"roles": "dbproxy", "store": "mysql",
			"mysql.master": "u:p@tcp(127.0.0.1:1)/d?timeout=x"},
			[]string{"mysql.master: MySQL DSN: time: invalid duration"}},
		{"page", map[string]string{"roles": "web", "web.listen": "127.0.0.1:0",
			"web.msg": "127.0.0.1:1", "web.msg_ca": f.text},
			[]string{"web.msg_ca: " + f.text + " holds no certificate"}},
		{"page that is off", map[string]string{"roles": "route,web", "web.msg_ca": none}, nil},
		{"another role's", map[string]string{"roles": "route", "push.apns_topic": "x",
			"http.apps_file": none, "msfs.dir": below, "data_dir": below}, nil},
		{"settings and files", map[string]string{"roles": "http", "http.apps_file": none},
			[]string{"http.dbproxy: needed", "http.route: needed", "http.apps_file: read apps"}},
	}
}

// run checks the settings, and starts those that the check refuses.
func (x checkTest) run(t *testing.T, f checkFiles, before string) {
	opt := testOptions(t, x.set)
	var log bytes.Buffer
	err := check.Start(opt.Config, slog.New(slog.NewTextHandler(&log, nil)))
	checkLines(t, err, x.want)
	if log.Len() > 0 {
		t.Errorf("logged %s", &log)
	}
	if after := filesIn(t, f.dir); after != before {
		t.Errorf("left %s\nof %s", after, before)
	}
	if x.want == nil {
		return
	}
	// It would run until the end of the test if it started.
	checkLines(t, Run(t.Context(), opt, io.Discard), x.want)
}

// checkLines compares the error of check.Start with the begins of its lines.
func checkLines(t *testing.T, err error, want []string) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("error %v", err)
		}
		return
	}
	var bad *config.Error
	if !errors.As(err, &bad) || len(bad.Problems) != len(want) {
		t.Fatalf("%v, want %q", err, want)
	}
	for i, p := range bad.Problems {
		line := p.String()
		if strings.HasPrefix(line, "environment ") { // the source of the setting
			_, line, _ = strings.Cut(line, ": ")
		}
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("line %q, want %q", line, want[i])
		}
		if !strings.Contains(line, "needed by ") && !strings.Contains(line, "needed: ") {
			t.Errorf("line %q names no role", line)
		}
	}
}

// filesIn returns the names of all files below a folder.
func filesIn(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, "\n")
}

// TestCAAsServer: a server whose certificate is that of the CA is warned of, on both kinds of
// ports, at a check and at a start.
func TestCAAsServer(t *testing.T) {
	f := newCheckFiles(t)
	for name, set := range map[string]map[string]string{
		"tls": {"roles": "route", "tls.certificate": f.ca, "tls.key": f.caKey},
		"link_tls": {"roles": "route", "link_tls.ca": f.ca, "link_tls.certificate": f.ca,
			"link_tls.key": f.caKey},
	} {
		var log bytes.Buffer
		opt := testOptions(t, set)
		opt.Log = slog.New(slog.NewTextHandler(&log, nil))
		if err := check.Start(opt.Config, opt.Log); err != nil {
			t.Error(err)
		}
		s, err := start(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "is that of a CA"); n != 2 ||
			!strings.Contains(log.String(), "teamtalk cert server NAME") {
			t.Errorf("%s: %d warnings in %s", name, n, &log)
		}
	}
}

// TestClosedAPI: a process without an apps file keeps the port of the HTTP API closed. The banner
// says so, and an address that a setting gives is warned of, at a check and at a start.
func TestClosedAPI(t *testing.T) {
	const warning = "the port of the HTTP API stays closed"
	for listen, want := range map[string]int{"127.0.0.1:0": 2, "": 0, "off": 0} {
		var log bytes.Buffer
		opt := testOptions(t, map[string]string{"http.listen": listen})
		opt.Log, opt.Demo = slog.New(slog.NewTextHandler(&log, nil)), false
		if err := check.Start(opt.Config, opt.Log); err != nil {
			t.Error(err)
		}
		s, err := start(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		s.banner(&b, obs.Version{})
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), warning); n != want {
			t.Errorf("listen %q: %d warnings, want %d: %s", listen, n, want, &log)
		}
		if !strings.Contains(b.String(), "http            closed, until http.apps_file") {
			t.Errorf("listen %q: the banner says\n%s", listen, b.String())
		}
	}
}
