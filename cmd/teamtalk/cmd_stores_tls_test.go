package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/sql/dbtest"
)

// overTLS sets the settings of a new database of a user that must have a certificate, and of a
// Redis that demands one.
func overTLS(t *testing.T) {
	t.Helper()
	server := dbtest.MariaDB(t)
	c := server.Certificates
	dsn := server.NewDatabase(t)
	name := "cmd_" + dsn[strings.LastIndexByte(dsn, '/')+1:]
	for _, q := range []string{"CREATE USER %s REQUIRE X509", "GRANT ALL ON *.* TO %s"} {
		if _, err := server.Admin().Exec(fmt.Sprintf(q, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := server.Admin().Exec("DROP USER " + name); err != nil {
			t.Error(err)
		}
	})
	_, addr := dbtest.RedisTLS(t, c, false)
	for key, value := range map[string]string{"STORE": "mysql",
		"MYSQL_MASTER": strings.Replace(dsn, "root@", name+"@", 1),
		"MYSQL_CA":     c.CA, "MYSQL_CERTIFICATE": c.Client, "MYSQL_KEY": c.ClientKey,
		"REDIS_ADDRS": addr, "REDIS_TLS": "true",
		"REDIS_CA": c.CA, "REDIS_CERTIFICATE": c.Client, "REDIS_KEY": c.ClientKey} {
		t.Setenv("TEAMTALK_"+key, value)
	}
}

// TestCommandsOverTLS runs each command that opens the stores with TLS to MariaDB and Redis,
// once more with a URL of Redis, and without the settings.
func TestCommandsOverTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("starts MariaDB")
	}
	overTLS(t)
	command(t, "", "config", "check").want(t, cli.ExitOK, "ok: ", "")
	for _, line := range []string{"migrate status", "migrate --dry-run", "migrate",
		"migrate finalize --dry-run", "migrate finalize",
		"user add alice --password x", "user add bob --password x",
		"user add --count 3 --password x", "user list", "user show alice",
		"user passwd alice --password y", "user disable bob", "user enable bob",
		"user unlock alice",
		"user set alice --sign hello", "depart add Sales", "depart list",
		"group create Team alice bob", "group list", "group show Team",
		"group rename Team Crew", "unread rebuild"} {
		if r := command(t, "", strings.Fields(line)...); r.code != cli.ExitOK {
			t.Errorf("%s: exit code %d, %s%s", line, r.code, r.out, r.err)
		}
	}

	addr, ca := os.Getenv("TEAMTALK_REDIS_ADDRS"), os.Getenv("TEAMTALK_MYSQL_CA")
	t.Setenv("TEAMTALK_REDIS_TLS", "false")
	t.Setenv("TEAMTALK_REDIS_ADDRS", "127.0.0.1:1")
	for _, key := range []string{"UNREAD", "GROUP_SET", "TOKEN", "SYNC", "GROUP_MEMBER"} {
		t.Setenv("TEAMTALK_REDIS_"+key, "rediss://"+addr)
	}
	command(t, "", "unread", "rebuild").want(t, cli.ExitOK, "counts raised", "")
	t.Setenv("TEAMTALK_REDIS_CA", "")
	list := command(t, "", "user", "list")
	for strings.Contains(list.err, "handshake in time") { // the machine is slow
		list = command(t, "", "user", "list")
	}
	list.want(t, cli.ExitFailure, "", "redis.ca")
	t.Setenv("TEAMTALK_REDIS_CA", ca)

	for _, x := range []struct{ ca, query, check, list string }{
		{ca, "?tls=preferred", "contradicts mysql.ca", "contradicts mysql.ca"},
		{ca, "?allowFallbackToPlaintext=true", "contradicts mysql.ca", "contradicts mysql.ca"},
		{ca, "?x=%zz", "MySQL DSN", "MySQL DSN"},
		{"", "?tls=true", "", "setting mysql.ca"},
	} {
		t.Setenv("TEAMTALK_MYSQL_CA", x.ca)
		dsn := os.Getenv("TEAMTALK_MYSQL_MASTER") + x.query
		code := cli.ExitOK
		if x.check != "" {
			code = cli.ExitUsage
		}
		command(t, "", "config", "check", "--mysql.master", dsn).want(t, code, "", x.check)
		command(t, "", "user", "list", "--mysql.master", dsn).want(t, cli.ExitFailure, "", x.list)
	}
}
