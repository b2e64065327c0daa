package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/admincmd"
	"teamtalk/cmd/teamtalk/internal/benchcmd"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/im"
	"teamtalk/sql/embedded"
)

// update makes golden write its files instead of comparing with them.
var update = flag.Bool("update", false, "write the golden files")

// result is the outcome of a command line.
type result struct {
	code     int
	out, err string
}

// command runs a command line in this process.
func command(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	root := newRootCommand(args)
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errOut)
	code := cli.Execute(t.Context(), root, args)
	return result{code, out.String(), errOut.String()}
}

// want checks the exit code, and parts of the output and of the error.
func (r result) want(t *testing.T, code int, out, errOut string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.out, out) || !strings.Contains(r.err, errOut) {
		t.Errorf("exit code %d, want %d\n--- out\n%s--- want\n%s\n--- err\n%s--- want\n%s", r.code,
			code, r.out, out, r.err, errOut)
	}
	if code != cli.ExitOK && (strings.Count(r.err, "\n") < 1 ||
		!strings.HasPrefix(r.err, "teamtalk: ")) {
		t.Errorf("the error is not one line: %q", r.err)
	}
}

// lines joins lines, each with its end.
func lines(text ...string) string { return strings.Join(text, "\n") + "\n" }

// golden compares a text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, path+" (go test -update writes it)", got, string(want))
}

// TestHelp checks the help of the root command and of user add.
func TestHelp(t *testing.T) {
	r := command(t, "")
	for _, want := range []string{"teamtalk serve --demo", "Usage:\n  teamtalk [command]\n",
		"\nRun:\n", "\nAdminister and measure:\n", "  user        Add, list and change users\n"} {
		r.want(t, cli.ExitOK, want, "")
	}
	golden(t, "help-user-add.txt", command(t, "", "user", "add", "--help").out)
}

// TestHelpOfAll checks the help of every command: each has a short text, and lines that fit a
// terminal.
func TestHelpOfAll(t *testing.T) {
	for _, c := range slices.Concat(newRootCommand(nil).Commands(), admincmd.NewUser().Commands(),
		admincmd.NewGroup().Commands(), admincmd.NewDepart().Commands(),
		benchcmd.New().Commands(), benchcmd.NewSweepCommand().Commands()) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q", c.Name(), c.Short)
		}
		for line := range strings.Lines(c.Long) {
			if len([]rune(line)) > 110 {
				t.Errorf("%s: line of %d letters: %s", c.Name(), len([]rune(line)), line)
			}
		}
	}
}

// TestOneSubcommand checks that the root command has the called subcommand alone, and all
// subcommands when the arguments begin with none.
func TestOneSubcommand(t *testing.T) {
	for _, s := range subcommands {
		cmds := newRootCommand([]string{s.name, "--help"}).Commands()
		if len(cmds) != 1 || cmds[0].Name() != s.name {
			t.Errorf("%s: %d commands, the first one %s", s.name, len(cmds), cmds[0].Name())
		}
	}
	for _, args := range [][]string{nil, {"help", "user"}, {"--help"}, {"usr"}} {
		if n := len(newRootCommand(args).Commands()); n != len(subcommands) {
			t.Errorf("%q: %d commands, want %d", args, n, len(subcommands))
		}
	}
}

// TestUsageErrors checks the error of each kind of wrong usage, and that none shows a
// password.
func TestUsageErrors(t *testing.T) {
	for _, x := range []struct {
		args []string
		want string
	}{
		{[]string{"sevre"}, `unknown command "sevre"; did you mean "serve"?`},
		{[]string{"frobnicate"}, `unknown command "frobnicate" (see teamtalk --help)`},
		{[]string{"user", "ad"}, `did you mean "add"? (see teamtalk user --help)`},
		{[]string{"version", "x"}, `want no arguments, got "x" (see teamtalk version --help)`},
		{[]string{"version", "--jsn"}, "unknown flag: --jsn (see teamtalk version --help)"},
		{[]string{"config", "--config", "none.toml"}, "none.toml does not exist"},
		{[]string{"user", "add"}, "want one NAME, or --csv FILE, or --count N"},
		{[]string{"user", "add", "a", "b"}, "want one NAME"},
		{[]string{"user", "add", "a", "--csv", "f"}, "not both"},
		{[]string{"user", "add", "--csv", "f", "--count", "3"}, "want one of --csv and --count"},
		{[]string{"user", "add", "--csv", "f", "--nick", "x"}, "--nick describes one user"},
		{[]string{"user", "add", "--csv", "f", "--password", "x"}, "passwords are a column"},
		{[]string{"user", "add", "a", "--first", "3"}, "--first and --format go with --count"},
		{[]string{"user", "add", "a", "--skip-existing"}, "--skip-existing goes with"},
		{[]string{"user", "add", "a", "--password", "x", "--password-stdin"},
			"want one of --password and --password-stdin"},
		{[]string{"user", "add", "a", "--password", ""}, "the password is empty"},
		{[]string{"user", "add", "a", "--gender", "x"}, `gender "x" is none of m, f`},
		{[]string{"user", "add", ""}, "a user needs a name"},
		{[]string{"user", "add", " a"}, "begins or ends with a blank"},
		{[]string{"user", "add", "a\nb"}, "control character"},
		{[]string{"user", "add", strings.Repeat("x", 33)}, "is 33 characters long; 32 fit"},
		{[]string{"user", "add", "a", "--phone", "123456789012"}, "is 12 characters long; 11 fit"},
		{[]string{"user", "add", "--count", "0", "--password", "x"}, "--count must be"},
		{[]string{"user", "add", "--count", "3"}, "--count needs --password"},
		{[]string{"user", "add", "--count", "3", "--password", "x", "--format", "u"},
			"must hold one %d"},
		{[]string{"user", "add", "--count", "3", "--password", "x", "--format", "u%d%s"},
			"must hold one %d"},
		{[]string{"user", "add", "--count", "3", "--password", "x", "--format", "u%999d"},
			"must hold one %d"},
		{[]string{"user", "passwd"}, "want one NAME, got 0"},
		{[]string{"user", "list", "--store", "mysql"}, "mysql.master: needed with store"},
		{[]string{"migrate"}, "no MySQL database given"},
		{[]string{"migrate", "--mysql.master", "u:geheim@tcp(x/d"}, "mysql.master"},
	} {
		r := command(t, "", append(x.args, "--data-dir", t.TempDir())...)
		if x.args[0] == "version" || x.args[0] == "sevre" || x.args[0] == "frobnicate" {
			r = command(t, "", x.args...)
		}
		r.want(t, cli.ExitUsage, "", x.want)
		if r.out != "" || strings.Contains(r.err, "geheim") {
			t.Errorf("%q: printed %q, %q", x.args, r.out, r.err)
		}
	}
}

// TestFlagErrors checks that the error of a flag points to what lists it: the help of the command,
// or for most settings teamtalk config.
func TestFlagErrors(t *testing.T) {
	for _, x := range []struct {
		args []string
		want string
	}{
		{[]string{"config", "--msg.rate", "-1"}, "must be 0 or more (see teamtalk config)"},
		{[]string{"serve", "--msg.rate", "x"}, `want a number, not "x" (see teamtalk config)`},
		// The help lists this one.
		{[]string{"serve", "--store", "x"}, "embedded, mysql (see teamtalk serve --help)"},
		{[]string{"bench", "sweep", "single", "--rate", "x"},
			"(see teamtalk bench sweep single --help)"}, // hidden, and no setting
		{[]string{"serve", "--msg.lissen", "x"}, "unknown flag: --msg.lissen; did you mean " +
			"--msg.listen? (see teamtalk config)"},
		{[]string{"user", "list", "--mysql.mastr", "x"}, "did you mean --mysql.master?"},
		{[]string{"serve", "--kafka.brokers", "x"},
			"unknown flag: --kafka.brokers (see teamtalk config)"},
		{[]string{"serve", "--dmo"}, "unknown flag: --dmo (see teamtalk serve --help)"},
		{[]string{"serve", "--msg.rate"},
			"flag needs an argument: --msg.rate (see teamtalk config)"},
		{[]string{"doctor", "--examples", "x"},
			`invalid argument "x" for "--examples" flag: want a whole number (see`},
		{[]string{"doctor", "--examples", "99999999999999999999"},
			"want a whole number, with fewer digits (see"},
		{[]string{"restore", "x", "--id-gap", "-5"}, "want a whole number of 0 or more (see"},
		{[]string{"doctor", "--pace", "5"}, `want a duration such as "10s" or "1h30m": numbers`},
		{[]string{"user", "list", "--json=x"}, "want true or false (see"},
		{[]string{"restore"}, "want the DIR of one backup, got 0 arguments (see"},
		{[]string{"depart", "rename", "x"}, "and its new NAME, got 1 argument (see"},
		{[]string{"chat", "a", "b", "c"}, "want a USER and perhaps a PEER, got 3 arguments (see"},
	} {
		command(t, "", x.args...).want(t, cli.ExitUsage, "", x.want)
	}
}

// TestVersionCommand prints the version as text and as JSON.
func TestVersionCommand(t *testing.T) {
	command(t, "", "version").want(t, cli.ExitOK, "teamtalk dev", "")
	var v struct{ Version, Go string }
	if err := json.Unmarshal([]byte(command(t, "", "version", "--json").out),
		&v); err != nil || v.Version == "" || v.Go == "" {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestConfigCommand prints the sources of settings, and warns about unknown variables.
func TestConfigCommand(t *testing.T) {
	t.Setenv("TEAMTALK_REDIS_PASSWORD", "geheim")
	t.Setenv("TEAMTALK_MSG_LISTN", ":1")
	file := filepath.Join(t.TempDir(), "t.toml")
	if err := os.WriteFile(file, []byte("[msg]\nrate = 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := command(t, "", "config", "--effective", "--config", file, "--msg.max_connections", "5")
	for _, want := range []string{"rate = 7  # " + file + ":2",
		"max_connections = 5  # flag --msg.max-connections",
		`password = "********"  # environment TEAMTALK_REDIS_PASSWORD`,
		`listen = ":8000"  # default`,
	} {
		r.want(t, cli.ExitOK, want, "warning: environment variable TEAMTALK_MSG_LISTN: no such "+
			"setting; did you mean TEAMTALK_MSG_LISTEN?")
	}
	t.Setenv("TEAMTALK_CONFIG", file)
	command(t, "", "config", "check").want(t, cli.ExitOK, "ok: 2 settings given", "")
	command(t, "", "config", "check").want(t, cli.ExitOK,
		"SIGHUP reloads: msg.rate; the others given need a restart", "")
	command(t, "", "config", "check", "--roles", "msg").want(t, cli.ExitUsage, "",
		"msg.dbproxy: needed: this process runs msg without dbproxy")
	missing := filepath.Join(filepath.Dir(file), "none")
	command(t, "", "config", "check", "--http.apps-file", missing).want(t, cli.ExitUsage, "",
		"flag --http.apps-file: http.apps_file: read apps: open "+missing)
	command(t, "", "config", "check", "--http.apps-file", missing, "--no-files").
		want(t, cli.ExitOK, "ok: 3 settings given", "")
}

// TestLinksNeedCertificates checks that the error names the commands that make certificates, and
// that config check and serve give the same.
func TestLinksNeedCertificates(t *testing.T) {
	for _, args := range [][]string{{"config", "check"}, {"serve", "--admin.listen", "off"}} {
		r := command(t, "", append(args, "--roles", "route", "--route.listen", ":0")...)
		r.want(t, cli.ExitUsage, "", "route.listen (:0)")
		r.want(t, cli.ExitUsage, "", `"teamtalk cert ca" and "teamtalk cert server NAME"`)
	}
}

// tryLogin opens the store as a server does, and checks a password.
func tryLogin(t *testing.T, dir, name, password string) (ok bool, a im.Account) {
	t.Helper()
	s, err := embedded.Open(t.Context(), embedded.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, err = s.AccountByName(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return a.Status == im.StatusOK && a.Check(im.ClientPassword(password)), a
}

// printedPassword matches the line that tells a generated password.
var printedPassword = regexp.MustCompile(`(?m)^password: (\S+)$`)

// userCommands runs commands of user on one store.
type userCommands struct{ dir string }

// run runs a command of user.
func (u userCommands) run(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return command(t, stdin, append([]string{"user", "--data-dir", u.dir}, args...)...)
}

// login checks whether a password logs a user in.
func (u userCommands) login(t *testing.T, name, password string, want bool) im.Account {
	t.Helper()
	ok, a := tryLogin(t, u.dir, name, password)
	if ok != want {
		t.Errorf("login of %s with %q: %v", name, password, ok)
	}
	return a
}

// TestUserCommands runs the commands one after the other, and checks their effect on logins.
func TestUserCommands(t *testing.T) {
	u := userCommands{dir: t.TempDir()}
	t.Run("a dry run adds nobody", func(t *testing.T) {
		u.run(t, "", "list").want(t, cli.ExitFailure, "", "no store in "+u.dir)
		u.run(t, "", "add", "alice", "--dry-run").want(t, cli.ExitOK, "would add alice", "")
		u.run(t, "", "list").want(t, cli.ExitOK, "no users yet", "")
	})
	t.Run("add generates a password", u.addGenerates)
	t.Run("a taken name is refused", func(t *testing.T) {
		u.run(t, "", "add", "Alice", "--password", "x").want(t, cli.ExitFailure, "",
			`the name "Alice" is taken`)
	})
	t.Run("a given password is not printed", func(t *testing.T) {
		r := u.run(t, "pass word \r\n", "add", "bob", "--password-stdin")
		if strings.Contains(r.out, "password") {
			t.Errorf("printed: %s", r.out)
		}
		u.login(t, "bob", "pass word ", true)
	})
	t.Run("passwd replaces the password", u.passwd)
	t.Run("disable refuses logins until enable", u.disable)
	t.Run("list prints JSON", func(t *testing.T) {
		first, _, _ := strings.Cut(u.run(t, "", "list", "--json").out, "\n")
		equal(t, "first line", first, `{"id":1,"name":"alice","nick":"爱丽丝","domain":"ailisi",`+
			`"gender":"f","phone":"123","email":"a@example.com","avatar":"http://x/a.png",`+
			`"department":4,"sign":"","status":"ok"}`)
	})
}

// addGenerates adds alice. The printed password logs her in.
func (u userCommands) addGenerates(t *testing.T) {
	r := u.run(t, "", "add", "alice", "--nick", "爱丽丝", "--email", "a@example.com", "--gender",
		"f", "--phone", "123", "--department", "4", "--domain", "ailisi",
		"--avatar", "http://x/a.png")
	r.want(t, cli.ExitOK, "added alice (id 1)", "")
	made := printedPassword.FindStringSubmatch(r.out)
	if made == nil {
		t.Fatalf("no password in %q", r.out)
	}
	a := u.login(t, "alice", made[1], true)
	if a.Nick != "爱丽丝" || a.Email != "a@example.com" || a.Gender != 2 || a.Phone != "123" ||
		a.DepartID != 4 || a.Domain != "ailisi" || a.Avatar != "http://x/a.png" {
		t.Errorf("%+v", a)
	}
}

// passwd changes the password of bob.
func (u userCommands) passwd(t *testing.T) {
	u.run(t, "one\ntwo\n", "passwd", "bob", "--password-stdin").want(t, cli.ExitUsage, "",
		"want one line")
	u.run(t, "", "passwd", "bob", "--password", "new").want(t, cli.ExitOK,
		"bob has a new password", "")
	u.login(t, "bob", "pass word ", false)
	u.login(t, "bob", "new", true)
	u.run(t, "", "passwd", "carol").want(t, cli.ExitFailure, "", `no user has the name "carol"`)
}

// disable disables and enables bob.
func (u userCommands) disable(t *testing.T) {
	u.run(t, "", "disable", "BOB").want(t, cli.ExitOK, "bob is disabled", "")
	u.login(t, "bob", "new", false)
	u.run(t, "", "list").want(t, cli.ExitOK, lines(
		"ID  NAME   NICK    STATUS    EMAIL",
		"1   alice  爱丽丝  ok        a@example.com",
		"2   bob    bob     disabled"), "")
	u.run(t, "", "enable", "bob").want(t, cli.ExitOK, "bob is enabled", "")
	u.login(t, "bob", "new", true)
}

// TestUserBesideServer adds a user while a server uses the store.
func TestUserBesideServer(t *testing.T) {
	dir := t.TempDir()
	s, err := embedded.Open(t.Context(), embedded.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	command(t, "", "user", "add", "alice", "--data-dir", dir).want(t, cli.ExitOK, "added alice", "")
	if _, err := s.AccountByName(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
}

// TestUserAddFile adds files of users: all users of a file or none.
func TestUserAddFile(t *testing.T) {
	dir := t.TempDir()
	run := func(stdin string, args ...string) result {
		t.Helper()
		return command(t, stdin, append([]string{"user", "add", "--data-dir", dir, "--csv", "-"},
			args...)...)
	}
	for _, x := range []struct{ name, file, want string }{
		{"empty", "", "the file is empty"},
		{"header only", "name\n", "line 1: there are no users"},
		{"no name", "nick,email\nx,y\n", `line 1: there is no column "name"`},
		{"unknown column", "name,passwort\n",
			`line 1: there is no column "passwort"; known are name, password,`},
		{"semicolons", "name;nick\na;b\n", "columns are separated by commas"},
		{"column twice", "name,nick,nick\n", `names column "nick" twice`},
		{"fields", "name,nick\na,b\nc\n", "line 3: 1 fields where the header has 2"},
		{"quotes", "name,nick\na,b\nc,\"d\n", "line 3: "},
		{"every mistake at once", "name,gender,department\n,m,1\nb,x,1\nd,m,1\nD,f,2\n",
			"line 2: a user needs a name\nteamtalk: standard input: line 3: gender \"x\" is " +
				"none of m, f, and nothing for unknown\n" +
				"teamtalk: standard input: line 5: the name \"D\" is in line 4 already\n" +
				"teamtalk: no user was added"},
		{"no such department", "name,department\na,1\nb,Sales\n",
			"line 3: no department has the name, path or id \"Sales\""},
		{"too long, behind a field of two lines",
			"name,nick\n\"a\",\"x\ny\"\n" + strings.Repeat("n", 33) + ",z\n", "line 4: name"},
		{"many mistakes", "name\n" + strings.Repeat("\"\"\n", 50), "… and 30 more problems"},
	} {
		run(x.file).want(t, cli.ExitFailure, "", x.want)
	}

	good := "\xef\xbb\xbfName, Nick ,password,gender\r\nann,Ann A.,pa ss,f\r\nbea,贝,,\r\n"
	run(good, "--dry-run").want(t, cli.ExitOK, "", "would add 2 users")
	r := run(good)
	r.want(t, cli.ExitOK, "", "added 2 users to "+dir)
	made, err := csv.NewReader(strings.NewReader(r.out)).ReadAll()
	if err != nil || len(made) != 2 || made[0][0] != "name" || made[1][0] != "bea" {
		t.Fatalf("passwords made: %q, %v", made, err)
	}
	if ok, a := tryLogin(t, dir, "bea", made[1][1]); !ok || a.Nick != "贝" {
		t.Errorf("bea: %v %+v", ok, a)
	}
	if ok, a := tryLogin(t, dir, "ann", "pa ss"); !ok || a.Gender != 2 || a.Nick != "Ann A." {
		t.Errorf("ann: %v %+v", ok, a)
	}

	// All or none.
	run("name,password\ncleo,x\nANN,x\n").want(t, cli.ExitFailure, "",
		"standard input: line 3: the name \"ANN\" is taken")
	command(t, "", "user", "passwd", "cleo", "--data-dir", dir).want(t, cli.ExitFailure, "",
		"no user has the name")
	run("name,password\ncleo,x\nANN,x\n", "--skip-existing").want(t, cli.ExitOK, "",
		"added 1 user to "+dir+"; skipped: 1")
	if ok, _ := tryLogin(t, dir, "cleo", "x"); !ok {
		t.Error("cleo was not added")
	}
}

// TestUserAddCount adds numbered users.
func TestUserAddCount(t *testing.T) {
	dir := t.TempDir()
	run := func(args ...string) result {
		t.Helper()
		return command(t, "", append([]string{"user", "add", "--data-dir", dir, "--password", "pw"},
			args...)...)
	}
	run("--count", "2500", "--format", "u%05d").want(t, cli.ExitOK, "",
		"added 2500 users to "+dir+"\nu00001 … u02500 in ")
	if ok, a := tryLogin(t, dir, "u02500", "pw"); !ok || a.ID != 2500 {
		t.Errorf("the last: %v, id %d", ok, a.ID)
	}
	run("--count", "5", "--first", "2500").want(t, cli.ExitFailure, "",
		`the name "u02500" is taken; no user was added (--skip-existing skips such users, `+
			`--first 2505`)
	run("--count", "5", "--first", "2500", "--dry-run", "--skip-existing").want(t, cli.ExitOK, "",
		"would add 4 users")
	run("--count", "5", "--first", "2500", "--skip-existing").want(t, cli.ExitOK, "",
		"added 4 users to "+dir+"; skipped: 1")
	if n := strings.Count(command(t, "", "user", "list", "--json", "--data-dir", dir).out,
		"\n"); n != 2504 {
		t.Errorf("%d users, want 2504", n)
	}
}

// TestTableIsPrintable checks that a table replaces the control characters of users.
func TestTableIsPrintable(t *testing.T) {
	var out bytes.Buffer
	if err := cli.WriteTable(&out, [][]string{{"A", "B"}, {"x\x1b[2J\n", "用户"}}); err != nil {
		t.Fatal(err)
	}
	equal(t, "table", out.String(), "A       B\nx\uFFFD[2J\uFFFD  用户\n")
}
