package move

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/core/im"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/schema"
	"teamtalk/sql/store"
)

// cppRows are rows as C++ servers leave them: two relations of a pair with the same message ids, a
// conversation that a user has removed, a member without a joinMsgId, another that was inserted
// twice, a file that was added twice, a deleted group, and rows of the web administration.
var cppRows = []string{
	`INSERT INTO IMUser (id, sex, name, domain, nick, password, salt, phone, email, avatar,
		departId, status, created, updated, push_shield_status, sign_info) VALUES
		(1, 1, 'ann', 'ann', 'Ann', 'x', '1234', '1', 'e', 'a', 1, 0, 10, 11, 0, ''),
		(2, 0, 'bob', 'bob', 'Bob', 'y', '4321', '2', 'e', NULL, 1, 0, 10, 12, 1, 's'),
		(5, 0, 'eve', 'eve', 'Eve', 'z', '1111', '3', 'e', '', 0, 3, 10, 13, 0, '')`,
	`INSERT INTO IMDepart (id, departName, priority, parentId, status, created, updated) VALUES
		(1, 'D', 1, 0, 0, 5, 6)`,
	`INSERT INTO IMRelationShip (id, smallId, bigId, status, created, updated) VALUES
		(1, 1, 2, 0, 20, 29), (2, 1, 2, 0, 20, 25), (9, 1, 5, 0, 40, 40)`,
	`INSERT INTO IMMessage_1 (relateId, fromId, toId, msgId, content, status, type, created,
		updated) VALUES (1, 1, 2, 1, 'one', 0, 1, 21, 21), (1, 2, 1, 2, 'two', 0, 1, 22, 22),
		(1, 1, 2, 3, '7', 0, 2, 23, 23), (9, 5, 1, 1, 'hi', 0, 1, 40, 40)`,
	`INSERT INTO IMMessage_2 (relateId, fromId, toId, msgId, content, status, type, created,
		updated) VALUES (2, 1, 2, 1, 'other', 0, 1, 24, 24),
		(10, 1, 2, 1, 'no relation', 0, 1, 24, 24)`,
	`INSERT INTO IMAudio (id, fromId, toId, path, size, duration, created) VALUES
		(7, 1, 2, 'g0/s', 5, 2, 23)`,
	`INSERT INTO IMRecentSession (userId, peerId, type, status, created, updated) VALUES
		(1, 2, 1, 0, 20, 29), (2, 1, 1, 0, 20, 29), (1, 5, 1, 1, 40, 40), (5, 1, 1, 0, 40, 40),
		(1, 1, 2, 0, 30, 35), (2, 1, 2, 0, 30, 35)`,
	`INSERT INTO IMGroup (id, name, avatar, creator, type, userCnt, status, version, lastChated,
		updated, created) VALUES (1, 'g', '', 1, 2, 3, 0, 4, 35, 31, 30),
		(2, 'gone', '', 1, 2, 1, 1, 2, 35, 31, 30)`,
	`INSERT INTO IMGroupMember (groupId, userId, status, created, updated) VALUES
		(1, 1, 0, 30, 30), (1, 2, 0, 32, 32), (1, 2, 0, 33, 33), (1, 5, 1, 30, 31),
		(2, 1, 0, 30, 30)`,
	`INSERT INTO IMGroupMessage_1 (groupId, userId, msgId, content, type, status, created, updated)
		VALUES (1, 1, 1, 'early', 17, 0, 31, 31), (1, 1, 2, 'late', 17, 0, 33, 33),
		(1, 2, 3, 'last', 17, 0, 35, 35)`,
	`INSERT INTO IMGroupMessage_2 (groupId, userId, msgId, content, type, status, created, updated)
		VALUES (2, 1, 1, 'gone', 17, 0, 31, 31)`,
	`INSERT INTO IMTransmitFile (fromId, toId, fileName, size, taskId, status, created, updated)
		VALUES (1, 2, 'f', 3, 'task', 0, 50, 50), (1, 2, 'f', 3, 'task', 0, 51, 51)`,
	`INSERT INTO IMAdmin (uname, pwd) VALUES ('admin', 'x')`,
}

// cppKeys are commands that write what C++ servers keep in Redis.
var cppKeys = []string{
	"HSET unread_2 1 2", "SET msg_id_1 3", "SET msg_id_2 1", "SET msg_id_9 1",
	"SET group_msg_id_1 3",
	"HSET 1_im_group_msg count 3", "HSET 1_1_im_user_group count 2",
	"HSET 2_1_im_user_group count 3", "SET device_1 ios:token", "SET device_token 1",
	"SET device_2 ios:token", "HSET group_set_1 2_1 1 1_1 0",
}

// cppDatabases makes databases with the rows and keys of C++ servers.
func cppDatabases(t *testing.T) MySQL {
	t.Helper()
	redis := dbtest.Redis(t)
	m := MySQL{DSN: dbtest.MariaDB(t).NewDatabase(t),
		Redis: store.Redis{Unread: store.Instance{Addrs: []string{redis.Addr()}}}}
	db := dbtest.MariaDB(t).Open(t, m.DSN)
	defer db.Close()
	tables, err := os.ReadFile("../schema/testdata/cpp.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range append(strings.Split(string(tables), ";"), cppRows...) {
		if strings.TrimSpace(q) == "" {
			continue
		}
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	for _, c := range cppKeys {
		redis.Do(c)
	}
	return m
}

// TestFromCPP moves the database of a C++ deployment into an embedded store, in which users read
// the same.
func TestFromCPP(t *testing.T) {
	m := cppDatabases(t)
	db := dbtest.MariaDB(t).Open(t, m.DSN)
	dir := filepath.Join(t.TempDir(), "data")
	raise, done, err := store.CounterRaiser(ctx, m.Redis)
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Migrate(ctx, db, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := ToEmbedded(ctx, m, dir, Options{}); im.KindOf(err) != im.Invalid ||
		!strings.Contains(err.Error(), "not finalized") {
		t.Errorf("before finalize: %v", err)
	}
	db = dbtest.MariaDB(t).Open(t, m.DSN)
	if err := schema.Finalize(ctx, db, schema.Options{RaiseCounter: raise}); err != nil {
		t.Fatal(err)
	}
	done()
	db.Close()
	s := openBig(t, m)
	w := &world{TB: t, users: []uint32{1, 2, 5}, groups: []uint32{1, 2}}
	want := w.dump(s)
	closing(t, s)
	report, err := ToEmbedded(ctx, m, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(report.Notes, "\n")
	for _, note := range []string{"1 rows of IMAdmin", "1 rows of IMGroup,",
		"1 rows of IMTransmitFile",
		"1 rows of IMGroupMessage_2", "1 rows of IMMessage_2"} {
		if !strings.Contains(notes, note) {
			t.Errorf("the notes lack %q:\n%s", note, notes)
		}
	}
	lite := openLite(t, dir)
	want = strings.Replace(want, "{1 2 task f 3 50} ", "", 1) // the same file
	equal(t, "of a C++ deployment", w.dump(lite), want)
	for _, part := range []string{`"one"`, `"two"`, `"other"`, `"early"`, `"last"`, "g0/s",
		"{1 CLIENT_TYPE_IOS token}"} {
		if !strings.Contains(want, part) {
			t.Errorf("the source lacks %s", part)
		}
	}
	next := &im.Message{From: 1, To: 2, Type: 1, Data: []byte("next")}
	if lite.AppendMessages(ctx, []*im.Message{next}); next.Err != nil || next.ID != 5 {
		t.Errorf("the next message: %d, %v, want id 5", next.ID, next.Err)
	}
	closing(t, lite)
}
