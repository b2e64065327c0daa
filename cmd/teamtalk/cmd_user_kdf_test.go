package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/sql/dbtest"
)

// cheapKDF selects argon2id with the lowest costs that a setting allows.
var cheapKDF = []string{"--password.kdf", "argon2id", "--password.memory", "1MiB",
	"--password.passes", "1"}

// TestUserAddFileKDF adds the users of a file with argon2id. Each has a row of its own salt,
// none is left in md5, and the users log in with their passwords. Set back to md5, new rows are
// md5, and the old ones stay valid.
func TestUserAddFileKDF(t *testing.T) {
	const users = 300
	t.Setenv("TEAMTALK_DATA_DIR", t.TempDir())
	var file strings.Builder
	file.WriteString("name,password\n")
	for i := range users {
		fmt.Fprintf(&file, "user%d,secret%d\n", i, i)
	}
	command(t, file.String(), append([]string{"user", "add", "--csv", "-"}, cheapKDF...)...).want(
		t, cli.ExitOK, "", fmt.Sprintf("added %d users", users))
	command(t, "", append([]string{"user", "add", "--count", "2000", "--password", "pw"},
		cheapKDF...)...).want(t, cli.ExitOK, "", "added 2000 users")
	command(t, "", "user", "list").want(t, cli.ExitOK, "",
		fmt.Sprintf("passwords: %d argon2id, 0 md5", users+2000))
	command(t, "", "user", "add", "late", "--password", "late").want(t, cli.ExitOK, "added late",
		"")
	command(t, "", "user", "list").want(t, cli.ExitOK, "", "argon2id, 1 md5 (weak)")

	cfg, err := config.Load(config.Sources{Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := open.Store(t.Context(), cfg, open.Options{Admin: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	seen := map[string]bool{}
	for i := range users {
		a, err := s.AccountByName(t.Context(), fmt.Sprint("user", i))
		if err != nil || seen[a.Password] || !a.Check(im.ClientPassword(fmt.Sprint("secret", i))) {
			t.Fatalf("user%d: %+v, %v", i, a, err)
		}
		seen[a.Password] = true
	}
	if a, err := s.AccountByName(t.Context(), "late"); err != nil || a.Stored().IsKDF() ||
		!a.Check(im.ClientPassword("late")) {
		t.Errorf("late: %+v, %v", a, err)
	}
}

// TestKDFNeedsFinalize: while C++ servers may share the tables, argon2id is refused by all
// that would write it, and nothing is changed.
func TestKDFNeedsFinalize(t *testing.T) {
	if testing.Short() {
		t.Skip("starts MariaDB")
	}
	server := dbtest.MariaDB(t)
	dsn := server.NewDatabase(t)
	t.Setenv("TEAMTALK_STORE", "mysql")
	t.Setenv("TEAMTALK_MYSQL_MASTER", dsn)
	t.Setenv("TEAMTALK_REDIS_ADDRS", dbtest.Redis(t).Addr())
	script, err := os.ReadFile("../../sql/schema/testdata/cpp.sql")
	if err != nil {
		t.Fatal(err)
	}
	db := server.Open(t, dsn)
	for q := range strings.SplitSeq(string(script), ";\n") {
		if strings.TrimSpace(q) == "" {
			continue
		}
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	if err := db.Close(); err != nil { // finalize refuses to run beside other connections
		t.Fatal(err)
	}
	command(t, "", "migrate").want(t, cli.ExitOK, "finalized: no", "")
	command(t, "", "user", "add", "alice", "--password", "x").want(t, cli.ExitOK, "", "")
	list := [][]string{{"user", "add", "bob", "--password", "x"},
		{"user", "add", "--count", "2", "--password", "x"}, {"user", "passwd", "alice",
			"--password", "y"}, {"serve", "--roles", "dbproxy", "--dbproxy.listen", "127.0.0.1:0",
			"--admin.listen", "127.0.0.1:0"}}
	for _, line := range list {
		command(t, "", append(line, cheapKDF...)...).want(t, cli.ExitFailure, "",
			"run teamtalk migrate finalize")
	}
	command(t, "", "user", "list").want(t, cli.ExitOK, "", "passwords: 0 argon2id, 1 md5")
	command(t, "", "migrate", "finalize").want(t, cli.ExitOK, "", "")
	for _, line := range list[:3] {
		command(t, "", append(line, cheapKDF...)...).want(t, cli.ExitOK, "", "")
	}
	command(t, "", "user", "list").want(t, cli.ExitOK, "", "passwords: 4 argon2id, 0 md5")
}
