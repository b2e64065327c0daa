package main

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/embedded"
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
	command(t, "", "user", "add", "bob", "--password", "x", "--data-dir", dir).
		want(t, cli.ExitOK, "added bob (id 2)", "")
	keepApart(t, dir)
	run("move", "--to", "embedded", "--leave-apart").want(t, cli.ExitUsage, "", "--to mysql")
	run("move", "--to", "mysql", "--data-dir", dir).want(t, cli.ExitFailure, "",
		"keeps apart 1 message that its tables have rejected (table Arrived), which no user sees")
	r := run("move", "--to", "mysql", "--data-dir", dir, "--leave-apart")
	r.want(t, cli.ExitOK, "left out: 1 message that its tables have rejected (table Arrived); "+
		"they stay in "+filepath.Join(dir, embedded.FileName)+"\n", "")
	r.want(t, cli.ExitOK, "holds everything that "+dir+" holds, but for the above; ", "")
	r.want(t, cli.ExitOK, `next: set store = "mysql"`, "")
	if !strings.Contains(r.out, "compare users\n") || strings.Contains(r.out, "secret") {
		t.Errorf("the output: %s", r.out)
	}
	run("user", "list", "--store", "mysql").want(t, cli.ExitOK, "alice", "")
	run("move", "--to", "mysql", "--data-dir", dir, "--leave-apart").want(t, cli.ExitFailure, "",
		"has rows")
	run("migrate", "restored", "--id-gap", "0").want(t, cli.ExitUsage, "", "want --id-gap")
	run("migrate", "restored").want(t, cli.ExitOK, "0 conversations and groups leave out", "")
	run("move", "--to", "embedded", "--data-dir", dir).want(t, cli.ExitFailure, "", "is not empty")
	run("move", "--to", "embedded", "--data-dir", back).want(t, cli.ExitOK,
		`next: move the folders audio, files and msfs, if there, of the data_dir that the servers `+
			`had into `+back+`, then set store = "embedded" and data_dir = "`+back+`"`, "")
	command(t, "", "user", "list", "--data-dir", back).want(t, cli.ExitOK, "alice", "")
}

// keepApart lets the tables of a store reject a message, which the doctor then names.
func keepApart(t *testing.T, dir string) {
	t.Helper()
	s, err := embedded.Open(t.Context(), embedded.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Raw(t.Context(), func(conn *sql.Conn) error {
		_, err := conn.ExecContext(t.Context(), "create trigger reject before insert on IMMessage "+
			"begin select raise(abort, 'rejected by the test'); end")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	m := &im.Message{From: 1, To: 2, Created: 7, Data: []byte("text"),
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT}
	if s.AppendMessages(t.Context(), []*im.Message{m}); m.Err != nil {
		t.Fatal(m.Err)
	}
	if _, _, err := s.CountApart(t.Context()); err != nil { // a read: no message waits after it
		t.Fatal(err)
	}
	command(t, "", "doctor", "--settle", "1ms", "--only", "kept-apart", "--data-dir", dir).
		want(t, cli.ExitFailure, "FOUND     kept-apart              1 disagreement\n          "+
			"row -1: from user 1 to user 2, message 1 of conversation 1, of 1970-01-01 00:00:07: "+
			"constraint failed: rejected by the test (1811)\n", "1 disagreement; nothing was")
}
