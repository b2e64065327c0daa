package main

import (
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/sql/dbtest"
)

// TestOnMySQL runs the commands of a new deployment on MariaDB and Redis, on an empty
// database.
func TestOnMySQL(t *testing.T) {
	if testing.Short() {
		t.Skip("starts MariaDB")
	}
	dsn := dbtest.MariaDB(t).NewDatabase(t)
	t.Setenv("TEAMTALK_STORE", "mysql")
	t.Setenv("TEAMTALK_MYSQL_MASTER", dsn)
	t.Setenv("TEAMTALK_REDIS_ADDRS", dbtest.Redis(t).Addr())

	command(t, "", "user", "list").want(t, cli.ExitFailure, "", "migrate")
	command(t, "", "migrate", "status").want(t, cli.ExitOK, "schema: not migrated", "")
	command(t, "", "migrate", "--dry-run").want(t, cli.ExitOK, "would apply migration 1 (", "")
	command(t, "", "migrate", "finalize", "--dry-run").want(t, cli.ExitOK,
		"finalize needs them applied first", "")
	command(t, "", "migrate", "finalize").want(t, cli.ExitFailure, "",
		"nothing was changed: migrations are pending")
	command(t, "", "migrate", "status").want(t, cli.ExitOK, "next: teamtalk migrate\n", "")
	command(t, "", "migrate").want(t, cli.ExitOK, "finalized: yes; nothing is left to do", "")
	command(t, "", "migrate").want(t, cli.ExitOK, "nothing is left to do", "")
	command(t, "", "migrate", "finalize").want(t, cli.ExitOK, "nothing is left to do", "")
	var state struct {
		Version, Latest int
		Finalized       bool
		Pending         []string
	}
	if err := json.Unmarshal([]byte(command(t, "", "migrate", "status", "--json").out),
		&state); err != nil || !state.Finalized ||
		state.Version != state.Latest || state.Pending == nil {
		t.Errorf("%+v, %v", state, err)
	}

	command(t, "", "user", "add", "alice", "--password", "x").want(t, cli.ExitOK,
		"added alice (id 1) to root", "")
	command(t, "", "user", "add", "alice", "--password", "x").want(t, cli.ExitFailure, "",
		"is taken")
	command(t, "", "user", "add", "--count", "3000", "--password", "x").want(t, cli.ExitOK, "",
		"added 3000 users")
	command(t, "", "user", "disable", "alice").want(t, cli.ExitOK, "alice is disabled", "")
	command(t, "", "user", "passwd", "u00007", "--password", "y").want(t, cli.ExitOK,
		"new password", "")
	command(t, "", "user", "list").want(t, cli.ExitOK, "disabled", "")

	cfg, err := config.Load(config.Sources{Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := open.Store(context.Background(), cfg, open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, err := s.AccountByName(t.Context(), "u00007")
	if err != nil || !a.Check(im.ClientPassword("y")) {
		t.Errorf("u00007: %v", err)
	}
}

// TestMigrateAdvice checks the advice for errors of the connection.
func TestMigrateAdvice(t *testing.T) {
	if testing.Short() {
		t.Skip("starts MariaDB")
	}
	addr := dbtest.MariaDB(t).Addr()
	command(t, "", "migrate", "--mysql.master", "root@tcp("+addr+")/not_there").want(t,
		cli.ExitFailure, "", "make it first: CREATE DATABASE `not_there`")
	command(t, "", "migrate", "--mysql.master", "nobody:geheim@tcp("+addr+")/x").want(t,
		cli.ExitFailure, "", "check the user and password in mysql.master")
	command(t, "", "migrate", "--mysql.master", "root:geheim@tcp(127.0.0.1:1)/x").want(t,
		cli.ExitFailure, "", "connect to root:********@tcp(127.0.0.1:1)/x")
}

// TestFinalizeCommand migrates and finalizes a database of C++ servers in which two
// messages have the same id.
func TestFinalizeCommand(t *testing.T) {
	server := dbtest.MariaDB(t)
	dsn, redis := server.NewDatabase(t), dbtest.Redis(t)
	redis.FlushAll()
	t.Setenv("TEAMTALK_STORE", "mysql")
	t.Setenv("TEAMTALK_MYSQL_MASTER", dsn)
	t.Setenv("TEAMTALK_REDIS_ADDRS", redis.Addr())
	db := server.Open(t, dsn)
	script, err := os.ReadFile("../../sql/schema/testdata/cpp.sql")
	if err != nil {
		t.Fatal(err)
	}
	rows := `INSERT INTO IMRelationShip (id, smallId, bigId, status, created, updated)
VALUES (8, 1, 2, 0, 1, 1);
INSERT INTO IMMessage_0 (relateId, fromId, toId, msgId, content, type, status, created, updated)
VALUES (8, 1, 2, 1, 'one', 1, 0, 1, 1), (8, 2, 1, 1, 'one too', 1, 0, 2, 2),
(8, 1, 2, 2, 'two', 1, 0, 3, 3);`
	for _, q := range strings.Split(string(script)+rows, ";\n") {
		if strings.TrimSpace(q) == "" {
			continue
		}
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	redis.Do("SET msg_id_8 2")
	if err := db.Close(); err != nil { // finalize refuses to run beside other connections
		t.Fatal(err)
	}

	command(t, "", "migrate").want(t, cli.ExitOK, "finalized: no", "")
	command(t, "", "migrate", "finalize", "--redis.addrs", "127.0.0.1:1").want(t, cli.ExitFailure,
		"", "nothing was changed")
	command(t, "", "migrate", "finalize", "--dry-run").want(t, cli.ExitOK, "nothing was changed",
		"")
	command(t, "", "migrate", "finalize").want(t, cli.ExitOK, "", "")
	command(t, "", "migrate", "status").want(t, cli.ExitOK, "finalized: yes", "")
	db = server.Open(t, dsn)
	var n, ids, highest int
	if err := db.QueryRow("SELECT COUNT(*), COUNT(DISTINCT msgId), MAX(msgId) FROM IMMessage_0 "+
		"WHERE relateId = 8").Scan(&n, &ids, &highest); err != nil {
		t.Fatal(err)
	}
	if n != 3 || ids != 3 {
		t.Errorf("%d messages with %d ids, want 3 and 3", n, ids)
	}
	if counter := redis.Do("GET msg_id_8"); counter != strconv.Itoa(highest) {
		t.Errorf("the counter says %s, the highest id is %d", counter, highest)
	}
}
