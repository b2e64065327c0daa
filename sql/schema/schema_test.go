package schema

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"teamtalk/core/im"
	"teamtalk/sql/dbtest"
)

// database makes a database, with the tables of file unless it is empty.
func database(t *testing.T, file string) *sql.DB {
	t.Helper()
	server := dbtest.MariaDB(t)
	db := server.Open(t, server.NewDatabase(t))
	if file == "" {
		return db
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, stmt := range strings.Split(string(text), ";") {
		if strings.TrimSpace(stmt) != "" {
			exec(t, db, stmt)
		}
	}
	return db
}

func exec(t *testing.T, db *sql.DB, stmt string, args ...any) {
	t.Helper()
	if _, err := db.Exec(stmt, args...); err != nil {
		t.Fatalf("%s: %v", stmt, err)
	}
}

func migrate(t *testing.T, db *sql.DB) {
	t.Helper()
	if err := Migrate(t.Context(), db, Options{}); err != nil {
		t.Fatalf("Migrate: %v", err)
	}
}

func status(t *testing.T, db *sql.DB) State {
	t.Helper()
	s, err := Status(t.Context(), db)
	if err != nil {
		t.Fatalf("Status: %v", err)
	}
	return s
}

func TestMigrateNeedsTwoConnections(t *testing.T) {
	db := database(t, "")
	db.SetMaxOpenConns(1)
	if err := Migrate(t.Context(), db, Options{}); im.KindOf(err) != im.Invalid {
		t.Errorf("%v, want an error of kind Invalid", err)
	}
}

func TestNewDatabaseIsFinalized(t *testing.T) {
	db := database(t, "")
	if s := status(t, db); s.Version != 0 || len(s.Pending) != s.Latest || s.Finalized {
		t.Errorf("status of an empty database: %+v", s)
	}
	migrate(t, db)
	if s := status(t, db); s.Version != 12 || s.Latest != 12 ||
		len(s.Pending) > 0 || !s.Finalized || len(s.Missing) > 0 {
		t.Errorf("status after Migrate: %+v", s)
	}
	did := 0
	if err := Migrate(t.Context(), db, Options{Progress: func(string) {
		did++
	}}); err != nil || did > 0 {
		t.Errorf("a second Migrate made %d changes, %v", did, err)
	}
}

// TestExistingDatabaseIsNotFinalized migrates tables to which C++ servers may be writing.
func TestExistingDatabaseIsNotFinalized(t *testing.T) {
	db := database(t, "testdata/cpp.sql")
	before := columns(t, db)
	migrate(t, db)
	if s := status(t, db); len(s.Pending) > 0 || s.Finalized || len(s.Missing) != 2+2*Tables {
		t.Errorf("status after Migrate: %+v", s)
	}
	after := columns(t, db)
	// The migrations widen these columns, which C++ servers do not notice.
	before["IMUser.password"] = "varchar(128)NO''"
	before["IMTransmitFile.fileName"] = "varchar(255)NO''"
	for name, typ := range before {
		if after[name] != typ {
			t.Errorf("%s was %q and is %q", name, typ, after[name])
		}
	}
	// Rows in the form that a C++ server writes.
	exec(t, db,
		"INSERT INTO IMUser "+
			"(sex,name,domain,nick,password,salt,phone,email,avatar,departId,status,created,"+
			"updated,push_shield_status,sign_info) "+
			"VALUES (1,'Bob','bob','Bob','x','1234','1','e','a',1,0,1,1,0,'')")
	exec(t, db,
		"INSERT INTO IMMessage_3 "+
			"(relateId,fromId,toId,msgId,content,status,type,created,updated) VALUES "+
			"(3,1,2,1,'a',0,1,1,1), (3,1,2,1,'a',0,1,1,1)")
	var id int
	if err := db.QueryRow("SELECT id FROM IMUser WHERE nameFold='bob'").Scan(&id); err != nil ||
		id != 1 {
		t.Errorf("user by folded name: %d, %v", id, err)
	}
}

// columns returns every column and index of the tables, with its type.
func columns(t *testing.T, db *sql.DB) map[string]string {
	t.Helper()
	list := map[string]string{}
	for _, query := range []string{
		"SELECT CONCAT(TABLE_NAME, '.', COLUMN_NAME), CONCAT(COLUMN_TYPE, IS_NULLABLE, " +
			"COALESCE(COLUMN_DEFAULT, '-')) FROM information_schema.COLUMNS WHERE " +
			"TABLE_SCHEMA=DATABASE()",
		"SELECT CONCAT(TABLE_NAME, ' key ', INDEX_NAME, SEQ_IN_INDEX), CONCAT(COLUMN_NAME, " +
			"NON_UNIQUE) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA=DATABASE()",
	} {
		rows, err := db.Query(query)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var name, typ string
			if err := rows.Scan(&name, &typ); err != nil {
				t.Fatal(err)
			}
			list[name] = typ
		}
		rows.Close()
	}
	return list
}

// TestNewDatabaseHasTheColumnsOfCPP compares a database that Migrate created with that of
// the C++ servers. It needs the same names, also of keys, because the C++ servers name
// indexes in queries.
func TestNewDatabaseHasTheColumnsOfCPP(t *testing.T) {
	ours, theirs := database(t, ""), database(t, "testdata/cpp.sql")
	migrate(t, ours)
	have := columns(t, ours)
	for name := range columns(t, theirs) {
		if _, ok := have[name]; !ok {
			t.Errorf("a new database has no %s", name)
		}
	}
}

func TestConcurrentMigrateIsRefused(t *testing.T) {
	db := database(t, "")
	in, out := make(chan struct{}), make(chan error)
	first := true
	go func() {
		out <- Migrate(t.Context(), db, Options{Progress: func(string) {
			if first {
				first = false
				in <- struct{}{}
				<-in
			}
		}})
	}()
	<-in
	if err := Migrate(t.Context(), db, Options{}); im.KindOf(err) != im.Busy {
		t.Errorf("a concurrent Migrate: %v, want an error of kind Busy", err)
	}
	in <- struct{}{}
	if err := <-out; err != nil {
		t.Error(err)
	}
}

// message is a row of a message table.
type message struct {
	id, relate, msgID, created uint32
	content                    string
}

// messages returns all rows of the eight tables with a prefix.
func messages(t *testing.T, db *sql.DB, prefix, column string) []message {
	t.Helper()
	var list []message
	for n := range Tables {
		rows, err := db.Query(fmt.Sprintf("SELECT id, %s, msgId, created, content FROM %s%d",
			column, prefix, n))
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var m message
			if err := rows.Scan(&m.id, &m.relate, &m.msgID, &m.created, &m.content); err != nil {
				t.Fatal(err)
			}
			if int(m.relate)%Tables != n {
				t.Errorf("message %q of %s %d is in table %d", m.content, column, m.relate, n)
			}
			list = append(list, m)
		}
		rows.Close()
	}
	slices.SortFunc(list, func(a, b message) int { return strings.Compare(a.content, b.content) })
	return list
}

// doubled makes a database with every kind of duplicate.
func doubled(t *testing.T) *sql.DB {
	t.Helper()
	db := database(t, "testdata/cpp.sql")
	migrate(t, db)
	// Users 1 and 2 have two relations in different tables. Relation 10 has two messages,
	// one of them deleted. Relation 12 has five, one msgId twice, and a gap. Users 3 and
	// 4 have two relations in the same table. The one with fewer messages was updated
	// last. Users 5 and 6 have three, one of them removed and empty.
	exec(t, db, `INSERT INTO IMRelationShip (id, smallId, bigId, status, created, updated) VALUES
		(10,1,2,0,100,100), (12,1,2,0,100,100), (20,3,4,0,90,200), (28,3,4,0,100,300),
		(31,5,6,1,50,60),
		(32,5,6,0,70,70), (33,5,6,0,70,80), (40,7,8,0,1,1)`)
	insert := func(relate int, rows string) {
		exec(t, db,
			fmt.Sprintf(
				"INSERT INTO IMMessage_%d (relateId, msgId, created, content, status, fromId, "+
					"toId, updated) VALUES %s", relate%Tables, rows))
	}
	insert(10, "(10,1,100,'a1',0,1,2,1), (10,2,105,'a2 deleted',1,2,1,1)")
	insert(12,
		"(12,1,100,'b1',0,1,2,1), (12,3,110,'b3',0,1,2,1), (12,4,120,'b4',0,1,2,1), "+
			"(12,4,121,'b4 again',0,1,2,1), (12,5,130,'b5',0,1,2,1)")
	insert(20, "(20,1,100,'c1',0,3,4,1), (20,2,101,'c2',0,3,4,1), (20,3,102,'c3',0,3,4,1)")
	insert(28, "(28,1,300,'d1',0,4,3,1), (28,2,99,'d2',0,4,3,1)")
	insert(33, "(33,1,70,'e1',0,5,6,1)")
	insert(32, "(32,1,71,'f1',0,6,5,1)")
	// A counter that Redis lost after four messages: it gave the ids one to three again.
	insert(40,
		"(40,1,1,'g1',0,7,8,1), (40,2,2,'g2',0,7,8,1), (40,3,3,'g3',0,7,8,1), "+
			"(40,4,4,'g4',0,7,8,1), (40,1,5,'g5',0,7,8,1), (40,2,6,'g6',0,7,8,1), "+
			"(40,3,7,'g7',0,7,8,1)")
	exec(t, db, `INSERT INTO IMGroupMessage_1 (groupId, userId, msgId, content, created) VALUES
		(9,1,1,'h1',1), (9,2,2,'h2',2), (9,3,2,'h2 again',2), (17,1,2,'i2',1)`)
	exec(t, db, `INSERT INTO IMGroupMember (groupId, userId, joinMsgId, joinedAt) VALUES
		(9,1,2,2), (17,1,2,2)`)
	exec(t, db, `INSERT INTO IMRecentSession (id, userId, peerId, type, status, created, updated)
		VALUES
		(1,1,2,1,0,100,100), (2,1,2,1,1,90,200), (3,2,1,1,0,100,100), (4,3,9,2,1,1,5),
		(5,3,9,2,1,1,4), (6,3,9,1,0,1,1)`)
	exec(t, db,
		"INSERT INTO IMClientMsgId (fromId, toId, clientMsgId, relateId, msgId, created) VALUES "+
			"(1,2,'k1',10,1,100), (1,2,'k2',12,1,100)")
	return db
}

// wantMessages are the messages of doubled after Finalize. No message is lost, and those
// of a kept relation keep their primary keys.
var wantMessages = []message{
	{relate: 12, msgID: 6, created: 100, content: "a1"},         // id 1 is taken
	{relate: 12, msgID: 2, created: 105, content: "a2 deleted"}, // id 2 is free
	{relate: 12, msgID: 1, created: 100, content: "b1"},
	{relate: 12, msgID: 3, created: 110, content: "b3"},
	{relate: 12, msgID: 4, created: 120, content: "b4"},
	{relate: 12, msgID: 7, created: 121, content: "b4 again"},
	{relate: 12, msgID: 5, created: 130, content: "b5"},
	{relate: 20, msgID: 1, created: 100, content: "c1"},
	{relate: 20, msgID: 2, created: 101, content: "c2"},
	{relate: 20, msgID: 3, created: 102, content: "c3"},
	{relate: 20, msgID: 5, created: 300, content: "d1"}, // newer than d2
	{relate: 20, msgID: 4, created: 99, content: "d2"},
	{relate: 33, msgID: 1, created: 70, content: "e1"},
	{relate: 33, msgID: 2, created: 71, content: "f1"},
	{relate: 40, msgID: 1, created: 1, content: "g1"},
	{relate: 40, msgID: 2, created: 2, content: "g2"},
	{relate: 40, msgID: 3, created: 3, content: "g3"},
	{relate: 40, msgID: 4, created: 4, content: "g4"},
	{relate: 40, msgID: 5, created: 5, content: "g5"},
	{relate: 40, msgID: 6, created: 6, content: "g6"},
	{relate: 40, msgID: 7, created: 7, content: "g7"},
}

// checkFinalized compares a database with the expected result for doubled.
func checkFinalized(t *testing.T, db *sql.DB, before []message) {
	t.Helper()
	if s := status(t, db); !s.Finalized {
		t.Errorf("not finalized: %+v", s)
	}
	keys := map[string]uint32{}
	for _, m := range before {
		keys[m.content] = m.id
	}
	got := messages(t, db, "IMMessage_", "relateId")
	for i := range got {
		if strings.ContainsAny(got[i].content[:1], "bceg") && keys[got[i].content] != got[i].id {
			t.Errorf("message %q was kept, and has primary key %d instead of %d", got[i].content,
				got[i].id, keys[got[i].content])
		}
		got[i].id = 0
	}
	if !slices.Equal(got, wantMessages) {
		t.Errorf("messages:\n got %v\nwant %v", got, wantMessages)
	}
	checkJoins(t, db)
	if lines := query(t, db,
		"SELECT CONCAT_WS(' ', id, smallId, bigId, status, created, updated) FROM "+
			"IMRelationShip ORDER BY id"); !slices.Equal(lines,
		[]string{"12 1 2 0 100 100", "20 3 4 0 90 300", "33 5 6 0 50 80", "40 7 8 0 1 1"}) {
		t.Errorf("relations: %q", lines)
	}
	if lines := query(t, db,
		"SELECT CONCAT_WS(' ', id, userId, peerId, type, status, created, updated) FROM "+
			"IMRecentSession ORDER BY id"); !slices.Equal(lines,
		[]string{"2 1 2 1 0 90 200", "3 2 1 1 0 100 100", "4 3 9 2 1 1 5", "6 3 9 1 0 1 1"}) {
		t.Errorf("sessions: %q", lines)
	}
	if lines := query(t, db,
		"SELECT CONCAT_WS(' ', groupId, msgId, content) FROM IMGroupMessage_1 ORDER BY groupId, "+
			"msgId"); !slices.Equal(lines,
		[]string{"9 1 h1", "9 2 h2", "9 3 h2 again", "17 2 i2"}) {
		t.Errorf("group messages: %q", lines)
	}
	if lines := query(t, db,
		"SELECT CONCAT_WS(' ', clientMsgId, relateId, msgId) FROM IMClientMsgId ORDER BY "+
			"clientMsgId"); !slices.Equal(lines,
		[]string{"k1 12 6", "k2 12 1"}) {
		t.Errorf("client message ids: %q", lines)
	}
}

// query returns the first column of all rows of a query.
func query(t *testing.T, db *sql.DB, q string) []string {
	t.Helper()
	rows, err := db.Query(q)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func TestFinalizeResolvesEveryDuplicate(t *testing.T) {
	db := doubled(t)
	before := messages(t, db, "IMMessage_", "relateId")
	counters := map[Conversation]uint32{}
	raise := func(_ context.Context, c Conversation, max uint32) error {
		if max < counters[c] {
			t.Errorf("counter of %+v lowered from %d to %d", c, counters[c], max)
		}
		counters[c] = max
		return nil
	}
	if err := Finalize(t.Context(), db, Options{RaiseCounter: raise}); err != nil {
		t.Fatal(err)
	}
	checkFinalized(t, db, before)
	for c, want := range map[Conversation]uint32{{ID: 12}: 7, {ID: 20}: 5, {ID: 33}: 2, {ID: 40}: 7,
		{Group: true, ID: 9}: 3} {
		if counters[c] != want {
			t.Errorf("counter of %+v raised to %d, want %d", c, counters[c], want)
		}
	}
	did := 0
	if err := Finalize(t.Context(), db, Options{Progress: func(string) {
		did++
	}}); err != nil || did > 1 {
		t.Errorf("a second Finalize made %d changes, %v", did, err)
	}
}

func TestFinalizeRefusesWhenUnsafe(t *testing.T) {
	t.Run("pending migrations", func(t *testing.T) {
		db := database(t, "testdata/cpp.sql")
		if err := Finalize(t.Context(), db, Options{}); im.KindOf(err) != im.Denied {
			t.Errorf("%v, want an error of kind Denied", err)
		}
	})
	t.Run("others connected", func(t *testing.T) {
		server := dbtest.MariaDB(t)
		dsn := server.NewDatabase(t)
		db, other := server.Open(t, dsn), server.Open(t, dsn)
		migrate(t, db)
		exec(t, other, "DO 1")
		if err := Finalize(t.Context(), db, Options{}); im.KindOf(err) != im.Denied {
			t.Errorf("%v, want an error of kind Denied", err)
		}
		if err := Finalize(t.Context(), db, Options{Force: true}); err != nil {
			t.Errorf("forced: %v", err)
		}
		other.Close()
		if err := Finalize(t.Context(), db, Options{}); err != nil {
			t.Errorf("after the other connection was closed: %v", err)
		}
	})
	t.Run("no transactions", func(t *testing.T) {
		db := database(t, "testdata/cpp.sql")
		migrate(t, db)
		exec(t, db, "ALTER TABLE IMMessage_5 ENGINE=MyISAM")
		if err := Finalize(t.Context(), db, Options{}); im.KindOf(err) != im.Denied {
			t.Errorf("%v, want an error of kind Denied", err)
		}
	})
}

// TestFinalizeStartsAgain stores a duplicate after its kind was resolved.
func TestFinalizeStartsAgain(t *testing.T) {
	db := doubled(t)
	before := messages(t, db, "IMMessage_", "relateId")
	late := false
	err := Finalize(t.Context(), db, Options{Force: true, Progress: func(msg string) {
		if strings.HasPrefix(msg, "IMMessage_0: relateId 40") && !late {
			late = true
			exec(t, db,
				"INSERT INTO IMRecentSession (userId, peerId, type, status, created, updated) "+
					"VALUES (2,1,1,1,100,100)")
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !late {
		t.Fatal("Progress never reported the step")
	}
	if n := len(messages(t, db, "IMMessage_", "relateId")); n != len(before) {
		t.Errorf("%d messages of %d", n, len(before))
	}
	if s := status(t, db); !s.Finalized {
		t.Errorf("not finalized: %+v", s)
	}
}
