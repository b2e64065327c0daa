package doctor_test

import (
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/doctor"
	"teamtalk/sql/schema"
	"teamtalk/sql/store"
	"teamtalk/sql/store/redisconn"
)

// template is a database with the tables of this program.
var template = dbtest.NewTemplate(func(tb testing.TB, dsn string) {
	db := dbtest.MariaDB(tb).Open(tb, dsn)
	check(tb, schema.Migrate(ctx, db, schema.Options{}))
})

// ward is a store on MySQL and Redis that a server has open, with a doctor beside it.
type ward struct {
	*patient
	s     *store.Store
	o     store.Options
	db    *sql.DB
	redis redis.UniversalClient
}

// newWard makes and fills a store.
func newWard(t *testing.T) *ward {
	t.Helper()
	if testing.Short() {
		t.Skip("starts MariaDB")
	}
	server := dbtest.Redis(t)
	server.FlushAll()
	dsn := template.NewDatabase(t)
	f := files(t)
	o := store.Options{Master: dsn, Redis: store.Redis{
		Unread: store.Instance{Addrs: []string{server.Addr()}}}, NoRebuild: true}
	s, err := store.Open(ctx, o)
	check(t, err)
	t.Cleanup(func() { s.Close() })
	fill(t, s, f)
	w := &ward{s: s, o: o, db: dbtest.MariaDB(t).Open(t, dsn)}
	w.redis = redisconn.Connect(o.Redis.Unread, 2)
	t.Cleanup(func() { w.redis.Close() })
	d, err := doctor.OpenMySQL(ctx, doctor.MySQL{Store: o, Files: f, Repair: true})
	check(t, err)
	t.Cleanup(func() { check(t, d.Close()) })
	// This also stores the read marks that wait. They began before the texts.
	_, err = s.RebuildUnread(ctx)
	check(t, err)
	w.patient = &patient{T: t, d: d, files: f, exec: w.run, dump: w.all}
	w.run("UPDATE IMReadMark SET msgId=1 WHERE userId=0")
	return w
}

// run runs a statement of SQL, or a command of Redis.
func (w *ward) run(q string) {
	w.Helper()
	if command, ok := strings.CutPrefix(q, "redis "); ok {
		var args []any
		for _, word := range strings.Fields(command) {
			args = append(args, word)
		}
		check(w, w.redis.Do(ctx, args...).Err())
		return
	}
	_, err := w.db.Exec(q)
	check(w, err)
}

// passing are the tables and keys that servers change all the time.
var passing = map[string]bool{"IMLease": true, "IMUnreadKept": true, "IMUnreadOutbox": true}

// all returns everything in the databases, without what servers change all the time.
func (w *ward) all() (text string) {
	w.Helper()
	tables, err := rowsOf(w.db, "SHOW TABLES")
	check(w, err)
	for _, name := range tables {
		if passing[name] {
			continue
		}
		rows, err := rowsOf(w.db, "SELECT * FROM "+name)
		check(w, err)
		text += name + ": " + strings.Join(rows, "; ") + "\n"
	}
	keys, err := w.redis.Keys(ctx, "*").Result()
	check(w, err)
	slices.Sort(keys)
	for _, k := range keys {
		if strings.HasPrefix(k, "unread_mark_") || k == "last_update_group" {
			continue
		}
		kind, err := w.redis.Type(ctx, k).Result()
		check(w, err)
		value := ""
		switch kind {
		case "hash":
			fields, err := w.redis.HGetAll(ctx, k).Result()
			check(w, err)
			for _, f := range slices.Sorted(maps.Keys(fields)) {
				value += f + "=" + fields[f] + " "
			}
		case "string":
			value, err = w.redis.Get(ctx, k).Result()
			check(w, err)
		}
		text += k + " " + kind + " " + value + "\n"
	}
	return text
}

// mysqlDamages are those of MySQL and Redis.
var mysqlDamages = []damage{
	{name: "members", do: []string{"INSERT INTO IMGroupMember (groupId, userId, status, created, " +
		"updated) VALUES (1, 99, 0, 1, 1), (88, 2, 0, 1, 1)",
		"UPDATE IMGroup SET userCnt=5 WHERE id=1"}, also: []string{"member-lists"},
		text: "user 99 is a member of group 1: the user does not exist"},
	{name: "member-counts", do: []string{"UPDATE IMGroup SET userCnt=70 WHERE id=1"},
		text: "group 1 has 4 members, and 70 by its row"},
	{name: "member-lists", do: []string{"redis HDEL group_member_1 3",
		"redis HSET group_member_1 66 1"},
		text: "group 1 has 4 members: Redis lacks 1 of them, and lists 1 other users"},
	{name: "group-versions", do: []string{"redis HSET 6_2_im_user_group joined 700"},
		text: "group 2 has version 3, and a member joined at version 700"},
	{name: "message-ids", do: []string{"redis SET msg_id_1 2", "redis DEL msg_id_2",
		"redis SET msg_id_3 x"},
		text: `conversation 1: the counter msg_id_1 is "2", but message 7 exists`},
	{name: "group-message-ids", do: []string{"redis SET group_msg_id_2 1"},
		text: `group 2: the counter group_msg_id_2 is "1", but message 4 exists`},
	{name: "relations", do: []string{"UPDATE IMRelationShip SET bigId=99 WHERE id=1"},
		also: []string{"sessions", "unread"},
		undo: []string{"UPDATE IMRelationShip SET bigId=2 WHERE id=1",
			"UPDATE IMRecentSession SET status=0 WHERE userId=2 AND peerId=1",
			"redis HSET unread_2 1 2"},
		text: "conversation 1 of the users 1 and 99: the second user does not exist"},
	{name: "messages", do: []string{"DELETE FROM IMRelationShip WHERE id=2"},
		also: []string{"sessions", "unread"},
		undo: []string{"UPDATE IMRecentSession SET status=0 WHERE userId IN (3, 4)"},
		text: "conversation 2 has 41 messages of the users 3 and 4 and no row"},
	{name: "sessions", do: []string{"INSERT INTO IMRecentSession (userId, peerId, type, status) " +
		"VALUES (1, 6, 1, 0), (1, 99, 1, 0), (3, 2, 2, 0), (3, 88, 2, 0)"},
		text: "in the list of user 1 is about 6, a user, without a conversation"},
	{name: "missing-sessions", do: []string{"DELETE FROM IMRecentSession WHERE userId=2 " +
		"AND peerId=1 AND type=1"},
		text: "conversation 1 is missing in the list of user 2, with user 1"},
	{name: "missing-group-sessions", do: []string{"DELETE FROM IMRecentSession WHERE userId=3 " +
		"AND type=2", "redis SET last_update_group 4000000000"},
		text: "group 1 is missing in the list of its member 3"},
	{name: "unread", do: []string{"redis HSET unread_2 1 70", "redis HDEL unread_6 5",
		"redis HSET unread_6 77 1"},
		text: "user 2 has 70 unread messages of user 1: at most 5 can be"},
	{name: "group-unread", do: []string{"redis HSET 3_1_im_user_group count 0",
		"redis HSET 4_1_im_user_group count 700", "redis HSET 6_2_im_user_group count -70"},
		text: "user 4 has read 700 messages of group 1, where 10 were sent"},
	{name: "sound-messages", do: []string{"UPDATE IMAudio SET id=70 WHERE id=1"},
		undo: []string{"UPDATE IMAudio SET id=1 WHERE id=70"}, text: "message 1 of conversation 3"},
	{name: "group-sound-messages", do: []string{"UPDATE IMAudio SET id=70 WHERE id=2"},
		undo: []string{"UPDATE IMAudio SET id=2 WHERE id=70"}, text: "message 10 of group 1"},
}

func now() uint32 { return uint32(time.Now().Unix()) }

func TestMySQL(t *testing.T) {
	w := newWard(t)
	looks, err := doctor.OpenMySQL(ctx, doctor.MySQL{Store: w.o, Files: w.files})
	check(t, err)
	want(t, "without repairs", run(t, looks, quick))
	if err := looks.Run(ctx, doctor.Options{Repair: true}, nil); im.KindOf(err) != im.Invalid {
		t.Errorf("a repair by a doctor without repairs: %v", err)
	}
	check(t, looks.Close())
	want(t, "healthy", run(t, w.d, quick))
	w.suffer(damages)
	w.suffer(mysqlDamages)
}

// TestMySQLLost empties Redis, as one that restarts without its file. Everything that can
// be made again is.
func TestMySQLLost(t *testing.T) {
	w := newWard(t)
	before := w.unread()
	w.run("redis FLUSHALL")
	o := quick
	o.Repair = true
	all := run(t, w.d, o)
	for _, name := range []string{"message-ids", "group-message-ids", "member-lists", "unread"} {
		if r := all[name]; r.Found == 0 || r.Left > 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	want(t, "repaired", run(t, w.d, quick))
	if after := w.unread(); after != before {
		t.Errorf("unread counts were %s, and are %s", before, after)
	}
	say(t, w.s, now(), 1, 2, 1)
	list, err := w.s.History(ctx, 1, 2, 0, 1)
	check(t, err)
	if len(list) != 1 || list[0].ID != 8 {
		t.Errorf("the next message is %+v", list)
	}
}

// TestMySQLOtherFileServers: of several file servers only the files of this one are compared.
func TestMySQLOtherFileServers(t *testing.T) {
	w := newWard(t)
	w.do([]string{"rm file", "add file"})
	f := w.files
	f.Whole = false
	d, err := doctor.OpenMySQL(ctx, doctor.MySQL{Store: w.o, Files: f})
	check(t, err)
	defer func() { check(t, d.Close()) }()
	all := run(t, d, quick)
	want(t, "files of others", all)
	for _, name := range []string{"file-rows", "spool-files"} {
		if all[name].Note == "" {
			t.Errorf("%s says nothing about files of others", name)
		}
	}
	mine := im.SealTask(uuid.NewString(), "127.0.0.1", 8600)
	addToSpool(t, f, mine)
	w.run("INSERT INTO IMTransmitFile (fromId, toId, taskId, status, created, updated) VALUES " +
		"(1, 2, '" + im.SealTask(uuid.NewString(), "127.0.0.1", 8600) + "', 0, 1, 1)")
	want(t, "files of this one", run(t, d, quick), "file-rows", "spool-files")
}

// unread returns the unread counts of all users in conversations with users.
func (w *ward) unread() (text string) {
	for u := range uint32(6) {
		list, _, err := w.s.UnreadCounts(ctx, u+1, 100)
		check(w, err)
		for _, c := range list {
			if c.Type == pb.SessionType_SESSION_TYPE_SINGLE {
				text += fmt.Sprintf("%d<%d: %d; ", u+1, c.Peer, c.Count)
			}
		}
	}
	return text
}

// TestMySQLBusy repairs while a server stores messages, and its users read and join
// groups. The data that does not agree is repaired, nothing else is found, and no message
// is lost.
func TestMySQLBusy(t *testing.T) {
	w := newWard(t)
	guests := make([]im.Account, 16)
	for i := range guests {
		guests[i].Name = fmt.Sprint("guest", i)
	}
	added, err := w.s.CreateUsers(ctx, guests)
	check(t, err)
	var writers sync.WaitGroup
	var stop atomic.Bool
	stored := map[uint32]*int{2: new(7), 4: new(41), 6: new(1)} // by the receiver
	for user, n := range stored {
		writers.Go(func() {
			t := worker{t}
			for ; !stop.Load(); *n += 8 {
				say(t, w.s, now(), user-1, user, 8)
				check(t, w.s.ClearUnread(ctx, user, user-1))
			}
		})
	}
	writers.Go(func() {
		t := worker{t}
		for i := 0; !stop.Load(); i++ {
			if i < len(added) {
				_, err := w.s.ChangeMembers(ctx, im.MemberEdit{Group: 1, Users: added[i : i+1],
					Type: pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD})
				check(t, err)
			}
			sayTo(t, w.s, now(), 1, 1, 2)
			check(t, w.s.ClearGroupUnread(ctx, 2, 1))
		}
	})
	w.run("redis SET msg_id_2 3")
	w.run("redis HSET unread_1 2 900")
	w.run("UPDATE IMGroup SET userCnt=70 WHERE id=2")
	o := doctor.Options{Repair: true, Settle: 1500 * time.Millisecond} // read marks take a second
	all := run(t, w.d, o)
	stop.Store(true)
	writers.Wait()
	delete(all, "message-ids") // the next message of users 3 and 4 may have raised it before
	want(t, "busy", all, "unread", "member-counts")
	for name, r := range all {
		if r.Left > 0 || r.Found > 1 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	want(t, "at the end", run(t, w.d, o))
	for user, n := range stored {
		list, err := w.s.History(ctx, user-1, user, 0, 1<<20)
		check(t, err)
		ids := map[uint32]bool{}
		for _, m := range list {
			ids[m.ID] = true
		}
		if len(list) != *n || len(ids) != *n {
			t.Errorf("%d messages with user %d have %d ids, want %d", len(list), user, len(ids), *n)
		}
	}
}

// TestMySQLBeforeFinalize: counts that are too low are not looked for, since C++
// db_proxies store no marks, and a row that another pair has is a duplicate for finalize.
func TestMySQLBeforeFinalize(t *testing.T) {
	w := newWard(t)
	for _, q := range []string{"ALTER TABLE IMRelationShip DROP INDEX uniq_smallId_bigId",
		"INSERT INTO IMRelationShip (smallId, bigId, status) VALUES (1, 2, 0)",
		"redis HDEL unread_6 5", "redis SET msg_id_1 2"} {
		w.run(q)
	}
	d, err := doctor.OpenMySQL(ctx, doctor.MySQL{Repair: true, Store: w.o})
	check(t, err)
	defer func() { check(t, d.Close()) }()
	o := quick
	o.Repair = true
	all := run(t, d, o)
	want(t, "before finalize", all, "relations", "message-ids")
	if r := all["relations"]; !strings.Contains(r.Examples[0], "migrate finalize") || r.Left != 1 {
		t.Errorf("%+v", r)
	}
	if all["unread"].Note == "" {
		t.Error("the check of unread counts says nothing about counts that are too low")
	}
	if n, err := w.redis.Get(ctx, "msg_id_1").Int(); err != nil || n != 7+1024 {
		t.Errorf("the counter is %d, %v", n, err)
	}
}
