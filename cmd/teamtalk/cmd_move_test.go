package main

import (
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/sql/dbtest"
)

// TestMoveCommand moves the users of an embedded store to MySQL and back.
func TestMoveCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("starts MariaDB")
	}
	dir, back := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "back")
	dsn, redis := dbtest.MariaDB(t).NewDatabase(t), dbtest.Redis(t).Addr()
	databases := []string{"--mysql.master", dsn, "--redis.addrs", redis}
	run := func(args ...string) result { return command(t, "", append(args, databases...)...) }
	command(t, "", "move", "--to", "mysql").want(t, cli.ExitUsage, "", "no MySQL database given")
	run("move").want(t, cli.ExitUsage, "", "want --to mysql or --to embedded")
	run("move", "--to", "mysql", "--data-dir", dir).want(t, cli.ExitFailure, "", "no store to move")
	command(t, "", "move", "--to", "embedded", "--mysql.master", "root@tcp(127.0.0.1:1)/x").
		want(t, cli.ExitFailure, "", "MySQL (setting mysql.master)")
	command(t, "", "move", "--to", "embedded", "--mysql.master", dsn, "--redis.addrs",
		"127.0.0.1:1").want(t, cli.ExitFailure, "", "Redis (section redis of the settings)")
	missing := strings.Replace(dsn, dsn[strings.LastIndex(dsn, "/")+1:], "not_there", 1)
	command(t, "", "move", "--to", "embedded", "--mysql.master", missing, "--redis.addrs", redis).
		want(t, cli.ExitFailure, "", "make it first: CREATE DATABASE `not_there`")
	command(t, "", "user", "add", "alice", "--password", "x", "--data-dir", dir).
		want(t, cli.ExitOK, "added alice (id 1)", "")
	r := run("move", "--to", "mysql", "--data-dir", dir)
	r.want(t, cli.ExitOK, `next: set store = "mysql"`, "")
	if !strings.Contains(r.out, "compare users\n") || strings.Contains(r.out, "secret") {
		t.Errorf("the output: %s", r.out)
	}
	run("user", "list", "--store", "mysql").want(t, cli.ExitOK, "alice", "")
	run("move", "--to", "mysql", "--data-dir", dir).want(t, cli.ExitFailure, "", "has rows")
	run("migrate", "restored", "--id-gap", "0").want(t, cli.ExitUsage, "", "want --id-gap")
	run("migrate", "restored").want(t, cli.ExitOK, "0 conversations and groups leave out", "")
	run("move", "--to", "embedded", "--data-dir", dir).want(t, cli.ExitFailure, "", "is not empty")
	run("move", "--to", "embedded", "--data-dir", back).want(t, cli.ExitOK,
		`next: move the folders audio, files and msfs, if there, of the data_dir that the servers `+
			`had into `+back+`, then set store = "embedded" and data_dir = "`+back+`"`, "")
	command(t, "", "user", "list", "--data-dir", back).want(t, cli.ExitOK, "alice", "")
}
