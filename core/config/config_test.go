package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
)

// load loads from the text of a file (none when empty), an environment and a command
// line.
func load(t testing.TB, file string, env []string, args ...string) (*Config, error) {
	t.Helper()
	src := Sources{Env: env, Flags: pflag.NewFlagSet("test", pflag.ContinueOnError)}
	if file != "" {
		src.File = filepath.Join(t.TempDir(), "teamtalk.toml")
		if err := os.WriteFile(src.File, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	AddFlags(src.Flags, nil)
	if err := src.Flags.Parse(args); err != nil {
		return nil, err
	}
	c, err := Load(src)
	if err != nil && src.File != "" { // paths differ from run to run
		err = fmt.Errorf("%s", strings.ReplaceAll(err.Error(), src.File, "teamtalk.toml"))
	}
	return c, err
}

func TestDefinition(t *testing.T) {
	names := map[string]string{}
	settings, sections := definition()
	for _, s := range sections {
		if s.doc == "" {
			t.Errorf("section %s: no text in docs", s.name)
		}
	}
	if n := len(settings) + len(sections); len(docs) != n {
		t.Errorf("docs has %d texts for %d settings and sections", len(docs), n)
	}
	for _, s := range settings {
		if s.Key == "" || strings.HasSuffix(s.Key, ".") || s.Doc == "" {
			t.Errorf("%q: without name or doc", s.Key)
		}
		if other := names[s.Env()]; other != "" {
			t.Errorf("%s and %s share %s", s.Key, other, s.Env())
		}
		names[s.Env()] = s.Key
		for _, tag := range []string{"default", "min", "max"} {
			if v := s.tag.Get(tag); v != "" {
				if _, err := s.parse(v); err != nil {
					t.Errorf("%s: %s %q: %v", s.Key, tag, v, err)
				}
			}
		}
		if form := s.tag.Get("form"); form != "" && forms[form] == nil && listForms[form] == nil {
			t.Errorf("%s: unknown form %q", s.Key, form)
		}
		if got := s.text(Default()); s.Type != "secret" && got != s.Default {
			t.Errorf("%s: default %q is written back as %q", s.Key, s.Default, got)
		}
	}
	for _, key := range common {
		if _, ok := names[strings.ToUpper(EnvPrefix+strings.ReplaceAll(key, ".", "_"))]; !ok {
			t.Errorf("common has the unknown setting %q", key)
		}
	}
}

func TestDefaults(t *testing.T) {
	c, err := load(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ got, want any }{
		{c.DataDir, "teamtalk-data"}, {c.Store, "embedded"},
		{c.ShutdownTimeout, 30 * time.Second}, {c.Admin.Listen, "127.0.0.1:9090"},
		{c.Login.ClientListen, ":8008"}, {c.Login.HTTPListen, ":8080"},
		{c.Msg.Listen, ":8000"}, {c.Msg.MaxFrame, Size(1<<20 + 64<<10)},
		{c.Msg.Rate, 20.0}, {c.Msg.Ack, "delivered"}, {c.Msg.MaxConnections, 100000},
		{c.DBProxy.LoginLockWindow, 30 * time.Minute},
		{c.Redis.Addrs, []string{"127.0.0.1:6379"}}, {c.AllInOne(), true},
		{c.Origin("msg.rate"), Origin("default")}, {len(c.Keys.Text.Reveal()), 32},
	} {
		if !reflect.DeepEqual(x.got, x.want) {
			t.Errorf("got %v, want %v", x.got, x.want)
		}
	}
	if err := c.CheckServe(); err != nil {
		t.Errorf("defaults do not run: %v", err)
	}
}

// TestDefaultsOfTheProtocol compares defaults with constants that the client library and ports
// without a setting use. A tag cannot name a constant.
func TestDefaultsOfTheProtocol(t *testing.T) {
	c := Default()
	for _, x := range []struct {
		key       string
		got, want any
	}{
		{"keys.text_key", c.Keys.Text.Reveal(), im.DefaultTextKey},
		{"msg.max_frame", int(c.Msg.MaxFrame), pdu.MaxClientFrame},
		{"link.max_frame", int(c.Link.MaxFrame), pdu.MaxServerFrame},
	} {
		if x.got != x.want {
			t.Errorf("the default of %s is %v, the protocol's constant %v", x.key, x.got, x.want)
		}
	}
}

// TestPrecedence sets one setting in every combination of sources. The last of default,
// file, environment and flag wins.
func TestPrecedence(t *testing.T) {
	for bits := range 8 {
		want, origin := 20.0, "default"
		file, env, args := "", []string(nil), []string(nil)
		if bits&1 != 0 {
			file, want, origin = "\n[msg]\nrate = 1\n", 1, "teamtalk.toml:3"
		}
		if bits&2 != 0 {
			env, want, origin = []string{"TEAMTALK_MSG_RATE=2"}, 2, "environment TEAMTALK_MSG_RATE"
		}
		if bits&4 != 0 {
			args, want, origin = []string{"--msg.rate=3"}, 3, "flag --msg.rate"
		}
		c, err := load(t, file, env, args...)
		if err != nil {
			t.Fatal(err)
		}
		got := string(c.Origin("msg.rate"))
		if c.Msg.Rate != want || !strings.HasSuffix(got, origin) {
			t.Errorf("sources %03b: %v from %s, want %v from %s", bits, c.Msg.Rate, got, want,
				origin)
		}
	}
}

// defaults are compared with. Nobody changes them.
var defaults = Default()

// TestEverySource sets every setting from every source to a value that differs from the
// default, and checks that the configuration holds it.
func TestEverySource(t *testing.T) {
	values := map[string]string{
		"msg.websocket_origins": "https://a.example.com", "trace.ratio": "0.5", "text": "x", "number": "23", "true|false": "true", "duration": "3s", "size": "3MiB",
		"secret": "s3cr3t", "list": "10.0.0.5:1,10.0.0.6:2", "msfs.expire_unused_after": "24h",
		"form listen": "10.0.0.1:1", "form internal": "10.0.0.1:2", "form host": "10.0.0.9", "form url": "http://x/", "form websocket": "wss://x/", "form sockets": "127.0.0.1:1", "form dsn": "u:p@tcp(h:1)/d",
		"form redis": "redis://u:p@h:1/2", "form key32": strings.Repeat("k", 32), "form key": strings.Repeat("k", 33), "form syslog": "udp://10.0.0.9:514", "form cidr": "10.0.0.0/8,fd00::/8", "form roles": "msg,login", "form domains": "a.example.org,b.example.org", "form hours": "01:00-06:00", "dbproxy.message_expiry": "72h",
		"link.timeout": "20s", "msfs.upload_burst": "20MiB", "msfs.expire_after": "48h",
	}
	for _, s := range Settings() {
		v := values[s.Type]
		if f := values["form "+s.tag.Get("form")]; f != "" {
			v = f
		}
		if words := allowedWords(s.tag); words != "" {
			v = words[strings.LastIndexByte(words, '|')+1:]
			if v == s.Default {
				v, _, _ = strings.Cut(words, "|")
			}
		}
		if k := values[s.Key]; k != "" { // not below link.heartbeat or msfs.max_size
			v = k
		}
		section, name := cutLast(s.Key)
		quoted := `"` + v + `"`
		switch s.Type {
		case "number", "true|false":
			quoted = v
		case "list":
			quoted = `["` + strings.ReplaceAll(v, ",", `", "`) + `"]`
		}
		file := name + " = " + quoted
		if section != "" {
			file = "[" + section + "]\n" + file
		}
		if s.Key == "redis.db" { // not together with several addresses
			file += "\naddrs = [\"a:1\"]"
		}
		want := Default()
		if err := s.set(want, v); err != nil {
			t.Errorf("%s: %v", s.Key, err)
			continue
		}
		for source, get := range map[string]func() (*Config, error){
			"file": func() (*Config, error) { return load(t, file, nil) },
			"env":  func() (*Config, error) { return load(t, "", []string{s.Env() + "=" + v}) },
			"flag": func() (*Config, error) { return load(t, "", nil, "--"+s.Flag()+"="+v) },
		} {
			c, err := get()
			if err != nil {
				t.Errorf("%s from %s: %v", s.Key, source, err)
				continue
			}
			got := s.field(c).Interface()
			if !reflect.DeepEqual(got, s.field(want).Interface()) ||
				reflect.DeepEqual(got, s.field(defaults).Interface()) {
				t.Errorf("%s from %s: got %v", s.Key, source, got)
			}
		}
	}
}

func TestMissingFile(t *testing.T) {
	_, err := Load(Sources{File: filepath.Join(t.TempDir(), "none.toml")})
	if err == nil || !strings.Contains(err.Error(), "none.toml does not exist") {
		t.Errorf("got %v", err)
	}
}

func TestEnvironmentOddities(t *testing.T) {
	c, err := load(t, "", []string{"TEAMTALK_STORE=", "TEAMTALK_STOR=mysql",
		"TEAMTALK_SERVICE_HOST=10.0.0.1", "TEAMTALK_CONFIG=x", "HOME=/", "odd"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Store != "embedded" {
		t.Errorf("a variable set to nothing set the store to %q", c.Store)
	}
	want := []string{
		"environment variable TEAMTALK_STOR: no such setting; did you mean TEAMTALK_STORE?"}
	if !slices.Equal(c.Warnings(), want) {
		t.Errorf("warnings %q, want %q", c.Warnings(), want)
	}
}

// TestReadableFile loads files with each kind of secret, and files that settings name, which
// all users of the machine can read or cannot.
func TestReadableFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "t.toml")
	texts := map[string]bool{ // with a secret
		`store = "mysql"`: false,
		`mysql.master = "u:p@tcp(h:1)/d"` + "\nstore = \"mysql\"": true,
		`mysql.slave = "u:p@tcp(h:1)/d"`:                          true,
		`redis.password = "x"`:                                    true,
		`redis.sentinel_password = "x"`:                           true,
		`redis.token = "redis://u:p@h:1"`:                         true,
		`trace.endpoint = "http://u:p@h:1"`:                       true,
		`trace.endpoint = "http://h:1"`:                           false,
		`msfs.s3_secret_key = "x"`:                                true,
		`push.apns_cert_password = "x"`:                           true,
		`keys.text_key = "12345678901234567890123456789013"`:      true,
	}
	for _, key := range []string{"http.apps_file", "push.apns_key_file", "push.apns_cert_file",
		"push.fcm_credentials", "tls.key", "link_tls.key", "mysql.key"} {
		texts[fmt.Sprintf("%s = %q", key, file)] = true
	}
	for text, secret := range texts {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, mode := range []os.FileMode{0o644, 0o604, 0o640, 0o600} {
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
			c, err := Load(Sources{File: file})
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			want := 0
			if secret && mode&0o004 != 0 {
				want = 1
			}
			if w := c.Warnings(); len(w) != want || want == 1 && (!strings.Contains(w[0], file) ||
				!strings.Contains(w[0], strings.Fields(text)[0]) ||
				!strings.Contains(w[0], "chmod o-r")) {
				t.Errorf("%s, mode %v: %q, want %d warnings", text, mode, w, want)
			}
		}
	}
}

func TestRedisTarget(t *testing.T) {
	r := Redis{Addrs: []string{"a:1"}, Username: "u", Password: "p", DB: 3, MasterName: "blue",
		SentinelUsername: "v", SentinelPassword: "w"}
	for _, x := range []struct {
		sentinels []string
		url       RedisURL
		want      RedisTarget
		bad       string
	}{
		{url: "", want: RedisTarget{Addrs: []string{"a:1"}, Username: "u", Password: "p", DB: 3}},
		{url: "redis:///5", want: RedisTarget{Addrs: []string{"a:1"}, Username: "u", Password: "p", DB: 5}},
		{url: "redis://b:2", want: RedisTarget{Addrs: []string{"b:2"}}},
		{url: "redis://v:q%40r@b:2/1", want: RedisTarget{Addrs: []string{"b:2"}, Username: "v", Password: "q@r", DB: 1}},
		{url: "redis://:q@r@b:2", want: RedisTarget{Addrs: []string{"b:2"}, Password: "q@r"}},
		{url: "redis://b:2,c:3", want: RedisTarget{Addrs: []string{"b:2", "c:3"}, Cluster: true}},
		{url: "redis://b:2?cluster=true", want: RedisTarget{Addrs: []string{"b:2"}, Cluster: true}},
		{url: "redis://b:2/1?cluster=true", bad: "no database but 0"},
		{url: "rediss://b:2/1", want: RedisTarget{Addrs: []string{"b:2"}, DB: 1, TLS: true}},
		{url: "rediss:///1", bad: "write redis:///1"},
		{url: "redis://b", bad: "no address"},
		{url: "redis://b:2/x", bad: "not a number"},
		{url: "redis://b:2?tls=1", bad: "only ?cluster=true"},
		{url: "redis://:q@s:2,s:3/1?sentinel=red", want: RedisTarget{Addrs: []string{"s:2", "s:3"},
			Password: "q", DB: 1, MasterName: "red", SentinelUsername: "v", SentinelPassword: "w"}},
		{url: "redis://s:2?sentinel=", bad: "?sentinel=NAME"},
		{url: "redis:///1?sentinel=red", bad: "?sentinel=NAME"},
		{url: "redis://s:2?sentinel=red&cluster=true", bad: "?sentinel=NAME"},
		{sentinels: []string{"s:1"}, url: "redis:///5", want: RedisTarget{Addrs: []string{"s:1"},
			Username: "u", Password: "p", DB: 5, MasterName: "blue", SentinelUsername: "v",
			SentinelPassword: "w"}},
		{sentinels: []string{"s:1"}, url: "redis://b:2", want: RedisTarget{Addrs: []string{"b:2"}}},
	} {
		r.Sentinels = x.sentinels
		got, err := r.Target(x.url)
		if x.bad != "" {
			if err == nil || !strings.Contains(err.Error(), x.bad) {
				t.Errorf("%s: error %v, want %q", x.url.Reveal(), err, x.bad)
			}
			continue
		}
		if err != nil || !got.Equal(x.want) {
			t.Errorf("%s: %+v, %v", x.url.Reveal(), got, err)
		}
	}
}

func TestRoles(t *testing.T) {
	for _, x := range []struct {
		name, file string
		server     string // login's address for servers
		want       string // what CheckServe says
	}{
		{"all in one", "", "", ""},
		{"all in one, opened by name", "login.server_listen = \"127.0.0.1:8100\"",
			"127.0.0.1:8100", ""},
		{"login alone", "roles = [\"login\"]", ":8100", "link_tls.ca: needed"},
		{"login alone, closed", "roles = [\"login\"]\nlogin.server_listen = \"off\"", "", ""},
		{"msg alone", "roles = [\"msg\"]\nmsg.login = [\"a:1\"]", ":8100", "msg.dbproxy: needed"},
		{"msg with peers", "roles = [\"msg\"]\nmsg.login = [\"[::1]:1\"]\n" +
			"msg.route = [\"127.0.0.2:2\"]\nmsg.dbproxy = [\"localhost:3\"]", ":8100", ""},
		{"mysql without a DSN", "store = \"mysql\"", "", "mysql.master: needed with store"},
		{"a DSN without mysql", "mysql.master = \"u:p@tcp(db1:3306)/t\"", "", "store: needed"},
		{"a DSN beside embedded", "store = \"embedded\"\nmysql.master = \"u:p@tcp(db1:3306)/t\"",
			"", ""},
		{"a DSN that is not used here", "roles = [\"msfs\"]\nmysql.master = " +
			"\"u:p@tcp(db1:3306)/t\"", ":8100", ""},
		{"tickets, all in one", "msfs.tickets = \"optional\"", "", ""},
		{"tickets, several servers", "msfs.tickets = \"optional\"\nmsg.login = [\"a:1\"]", "",
			"msfs.ticket_key: needed with msfs.tickets = \"optional\""},
		{"tickets of other files", "msfs.tickets = \"required\"\ndbproxy.msfs = \"http://a/\"", "",
			"msfs.ticket_key: needed"},
		{"tickets of clients' other files",
			"msfs.tickets = \"required\"\nlogin.msfs_prior = \"http://a/\"", "",
			"msfs.ticket_key: needed"},
		{"tickets, files alone", "msfs.tickets = \"required\"\nroles = [\"msfs\"]", ":8100",
			"msfs.ticket_key: needed"},
		{"tickets with a key", "msfs.tickets = \"required\"\nroles = [\"msfs\"]\n" +
			"msfs.ticket_key = \"" + strings.Repeat("k", 32) + "\"", ":8100", ""},
		{"tickets that are not used here", "msfs.tickets = \"required\"\nroles = [\"push\"]\n" +
			"push.listen = \"127.0.0.1:8500\"", ":8100", ""},
		{"mysql that is not used here", "store = \"mysql\"\nroles = [\"msfs\"]", ":8100", ""},
	} {
		c, err := load(t, x.file, nil)
		if err != nil {
			t.Fatalf("%s: %v", x.name, err)
		}
		if got := c.Login.ServerAddr(c.AllInOne()); got != x.server {
			t.Errorf("%s: server port %q, want %q", x.name, got, x.server)
		}
		err = c.CheckServe()
		if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
	}
}

// TestReference reads the reference file back, unchanged and with every setting
// uncommented. Both must give the defaults.
func TestReference(t *testing.T) {
	var out bytes.Buffer
	if err := WriteReference(&out); err != nil {
		t.Fatal(err)
	}
	var active []string
	settings := 0
	for line := range strings.Lines(out.String()) {
		if len(line) > 1 && line[0] == '#' && line[1] != ' ' {
			line = line[1:]
			settings++
		}
		active = append(active, line)
	}
	if settings != len(Settings()) {
		t.Errorf("%d settings in the reference, of %d", settings, len(Settings()))
	}
	c, err := load(t, out.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !equal(c, Default()) {
		t.Error("the reference as it is changes a setting")
	}
	if c, err = load(t, strings.Join(active, ""), nil); err != nil {
		t.Fatal(err)
	}
	if !equal(c, Default()) {
		t.Error("the reference with every setting uncommented is not the defaults")
	}
}

// TestEffectiveReadsBack has texts that TOML must quote.
func TestEffectiveReadsBack(t *testing.T) {
	dir := "a\"b\\c\n\t\x7f#ü"
	c, err := load(t, "", []string{"TEAMTALK_DATA_DIR=" + dir})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := c.WriteEffective(&out); err != nil {
		t.Fatal(err)
	}
	again := Default()
	key := []byte(c.Keys.Text.Reveal())
	problems := again.readTOML("f", bytes.Replace(out.Bytes(), []byte(mask), key, 1))
	if len(problems) > 0 || again.DataDir != dir {
		t.Errorf("%q, %v", again.DataDir, problems)
	}
}

// equal compares settings, not where they came from.
func equal(a, b *Config) bool {
	for _, s := range Settings() {
		x, y := s.field(a), s.field(b)
		if x.Kind() == reflect.Slice && x.Len() == 0 && y.Len() == 0 {
			continue
		}
		if !reflect.DeepEqual(x.Interface(), y.Interface()) {
			return false
		}
	}
	return true
}

// FuzzTOML reads arbitrary files. The values of an accepted file must be within their
// bounds, and must be the same after they were written and read again. Each problem of a
// refused file must name a line.
func FuzzTOML(f *testing.F) {
	var reference bytes.Buffer
	if err := WriteReference(&reference); err != nil {
		f.Fatal(err)
	}
	f.Add(strings.ReplaceAll(reference.String(), "\n#", "\n"))
	for _, s := range []string{"", "store = \"mysql\"", "[msg]\nrate = 1e3", "msg = {rate=1}",
		"[[msg]]", "a.b.c = [1, {x=2}]", "roles=['msg']",
		"[redis]\nunread=\"redis://a:b@c:1/2?cluster=true\"", "\"msg\".'listen' = \":1\"",
		"[mysql]\nmaster='''x\ny@/z'''", "x = 1979-05-27T07:32:00Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := Default()
		if problems := c.readTOML("f.toml", []byte(text)); len(problems) > 0 {
			for _, p := range problems {
				if !strings.HasPrefix(string(p.Origin), "f.toml:") {
					t.Errorf("%v: says no line", p)
				}
			}
			return
		}
		for _, s := range Settings() {
			if err := s.check(s.field(c).Interface()); err != nil {
				t.Errorf("%s was accepted: %v", s.Key, err)
			}
		}
		if hasSecrets(c) {
			return
		}
		var out bytes.Buffer
		if err := c.WriteEffective(&out); err != nil {
			t.Fatal(err)
		}
		again := Default()
		key := []byte(c.Keys.Text.Reveal())
		problems := again.readTOML("f.toml", bytes.ReplaceAll(out.Bytes(), []byte(mask), key))
		if len(problems) > 0 || !equal(c, again) {
			t.Errorf("not read back: %v\n%s", problems, out.String())
		}
	})
}

func hasSecrets(c *Config) bool {
	return slices.ContainsFunc(Settings(), func(s Setting) bool {
		// Value.String of package reflect masks nothing.
		return s.Type == "secret" && s.field(c).String() != s.field(Default()).String()
	})
}
