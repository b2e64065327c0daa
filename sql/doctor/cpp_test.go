package doctor_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"teamtalk/core/im"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/doctor"
	"teamtalk/sql/prune"
	"teamtalk/sql/schema"
	"teamtalk/sql/store"
	"teamtalk/sql/store/redisconn"
)

// cppRows are rows of C++ servers, which agree with each other: two conversations, with a sound, a
// group with a member that has left, and files that were fetched or wait.
var cppRows = []string{
	`INSERT INTO IMUser (id, name, nick, password, salt, departId, status, created, updated) VALUES
		(1, 'ann', 'Ann', 'x', '1234', 1, 0, 10, 11), (2, 'bob', 'Bob', 'y', '4321', 1, 0, 10, 12),
		(5, 'eve', 'Eve', 'z', '1111', 0, 3, 10, 13)`,
	`INSERT INTO IMDepart (id, departName, priority, parentId, status, created, updated) VALUES
		(1, 'D', 1, 0, 0, 5, 6)`,
	`INSERT INTO IMRelationShip (id, smallId, bigId, status, created, updated) VALUES
		(1, 1, 2, 0, 20, 29), (9, 1, 5, 0, 40, 40)`,
	`INSERT INTO IMMessage_1 (relateId, fromId, toId, msgId, content, status, type, created,
		updated) VALUES (1, 1, 2, 1, 'one', 0, 1, 21, 21), (1, 2, 1, 2, 'two', 0, 1, 22, 22),
		(1, 1, 2, 3, '7', 0, 2, 23, 23), (9, 5, 1, 1, 'hi', 0, 1, 40, 40)`,
	`INSERT INTO IMAudio (id, fromId, toId, path, size, duration, created) VALUES
		(7, 1, 2, 'http://files.example.com:8700/g0/000/001/s', 5, 2, 23)`,
	`INSERT INTO IMRecentSession (userId, peerId, type, status, created, updated) VALUES
		(1, 2, 1, 0, 20, 29), (2, 1, 1, 0, 20, 29), (1, 5, 1, 1, 40, 40), (5, 1, 1, 0, 40, 40),
		(1, 1, 2, 0, 30, 35), (2, 1, 2, 0, 30, 35)`,
	`INSERT INTO IMGroup (id, name, avatar, creator, type, userCnt, status, version, lastChated,
		updated, created) VALUES (1, 'g', '', 1, 2, 2, 0, 4, 35, 31, 30)`,
	`INSERT INTO IMGroupMember (groupId, userId, status, created, updated) VALUES
		(1, 1, 0, 30, 30), (1, 2, 0, 32, 32), (1, 5, 1, 30, 31)`,
	`INSERT INTO IMGroupMessage_1 (groupId, userId, msgId, content, type, status, created, updated)
		VALUES (1, 1, 1, 'early', 17, 0, 31, 31), (1, 1, 2, 'late', 17, 0, 33, 33),
		(1, 2, 3, 'last', 17, 0, 35, 35)`,
	`INSERT INTO IMTransmitFile (fromId, toId, fileName, size, taskId, status, created, updated)
		VALUES (1, 2, 'f', 3, '6F0C3B5E-0000-4000-8000-000000000001', 1, 50, 50)`,
}

// cppKeys are commands that write what C++ servers keep in Redis.
const cppKeys = `HSET unread_2 1 2
SET msg_id_1 3
SET msg_id_9 1
SET group_msg_id_1 3
HSET group_member_1 1 30 2 32
HSET 1_im_group_msg count 3
HSET 1_1_im_user_group count 2
HSET 2_1_im_user_group count 3
SET device_1 ios:token
HSET group_set_1 2_1 1 1_1 0
SET last_update_group 36`

// cppWard is a database of C++ servers that teamtalk migrate has changed, and that was not
// finalized.
func cppWard(t *testing.T) *ward {
	t.Helper()
	if testing.Short() {
		t.Skip("starts MariaDB")
	}
	server := dbtest.Redis(t)
	server.FlushAll()
	w := &ward{o: store.Options{Master: dbtest.MariaDB(t).NewDatabase(t), NoRebuild: true,
		Redis: store.Redis{Unread: store.Instance{Addrs: []string{server.Addr()}}}}}
	w.db = dbtest.MariaDB(t).Open(t, w.o.Master)
	tables, err := os.ReadFile("../schema/testdata/cpp.sql")
	check(t, err)
	for _, q := range append(strings.Split(string(tables), ";"), cppRows...) {
		if strings.TrimSpace(q) == "" {
			continue
		}
		_, err := w.db.Exec(q)
		check(t, err)
	}
	w.redis = redisconn.Connect(w.o.Redis.Unread, 2)
	t.Cleanup(func() { w.redis.Close() })
	check(t, schema.Migrate(ctx, w.db, schema.Options{}))
	w.patient = &patient{T: t, exec: w.run, dump: w.all}
	for _, c := range strings.Split(cppKeys, "\n") {
		w.run("redis " + c)
	}
	return w
}

// TestMySQLOfCPP finds nothing in the data of C++ servers, and repairs damage in it before it is
// finalized.
func TestMySQLOfCPP(t *testing.T) {
	w := cppWard(t)
	d, err := doctor.OpenMySQL(ctx, doctor.MySQL{Repair: true, Store: w.o})
	check(t, err)
	w.d = d
	t.Cleanup(func() { check(t, d.Close()) })
	before := w.dump()
	want(t, "healthy", run(t, d, quick))
	if after := w.dump(); after != before {
		t.Errorf("looking has changed the store from\n%s\nto\n%s", before, after)
	}
	o := quick
	o.Repair = true
	want(t, "healthy, with repair", run(t, d, o))
	if after := w.dump(); after != before {
		t.Errorf("repairing nothing has changed the store from\n%s\nto\n%s", before, after)
	}
	for _, x := range cppDamages {
		w.do(x.do)
		names := append(slices.Clone(x.also), x.name)
		all := run(t, d, o)
		want(t, x.name, all, names...)
		if r := all[x.name]; r.Left > 0 || !strings.Contains(r.Examples[0], x.text) {
			t.Errorf("%+v, want %q and the repair", r, x.text)
		}
		want(t, x.name+", repaired", run(t, d, quick))
		if after := w.dump(); after != before {
			t.Errorf("the repair of %s has left\n%s\nnot\n%s", x.name, after, before)
		}
	}
}

// cppDamages are damages of the data of C++ servers whose repair brings back what was there.
var cppDamages = []damage{
	{name: "member-counts", do: []string{"UPDATE IMGroup SET userCnt=7"},
		text: "group 1 has 2 members, and 7 by its row"},
	{name: "member-lists", do: []string{"redis HDEL group_member_1 2"},
		text: "group 1 has 2 members: Redis lacks 1 of them"},
	{name: "unread", do: []string{"redis HSET unread_2 1 70"},
		text: "user 2 has 70 unread messages of user 1: at most 2 can be"},
	{name: "group-unread", do: []string{"redis HSET 2_1_im_user_group count 9"},
		text: "user 2 has read 9 messages of group 1, where 3 were sent"},
}

// TestPruneOfCPP refuses to delete in tables that C++ servers may use. It deletes when they are
// finalized, with the rows that C++ servers have stored twice.
func TestPruneOfCPP(t *testing.T) {
	w := cppWard(t)
	for _, q := range []string{
		"INSERT INTO IMRelationShip (id, smallId, bigId, status, created, updated) VALUES " +
			"(10, 1, 2, 0, 20, 25)",
		"INSERT INTO IMMessage_2 (relateId, fromId, toId, msgId, content, status, type, created, " +
			"updated) VALUES (10, 1, 2, 1, 'other', 0, 1, 24, 24)",
		"redis SET msg_id_10 1",
	} {
		w.run(q)
	}
	pruned := func() (prune.Report, error) {
		s, err := store.Open(ctx, w.o)
		check(t, err)
		defer func() { check(t, s.Close()) }()
		return prune.Run(ctx, s, prune.Options{Before: 41, Apply: true})
	}
	before := w.dump()
	if r, err := pruned(); im.KindOf(err) != im.Invalid || r != (prune.Report{}) ||
		!strings.Contains(err.Error(), "run teamtalk migrate finalize first") {
		t.Errorf("before finalize: %+v, %v", r, err)
	}
	if after := w.dump(); after != before {
		t.Errorf("the refusal has changed the store from\n%s\nto\n%s", before, after)
	}
	raise, done, err := store.CounterRaiser(ctx, w.o.Redis)
	check(t, err)
	check(t, schema.Finalize(ctx, w.db, schema.Options{RaiseCounter: raise}))
	done()
	d, err := doctor.OpenMySQL(ctx, doctor.MySQL{Repair: true, Store: w.o})
	check(t, err)
	defer func() { check(t, d.Close()) }()
	run(t, d, quick)
	r, err := pruned()
	// The last message of each conversation stays.
	check(t, err)
	if r.Texts.Messages != 2 || r.Sounds.Messages != 1 || r.GroupTexts.Messages != 2 {
		t.Errorf("finalized: %+v", r)
	}
	want(t, "pruned", run(t, d, quick))
}
