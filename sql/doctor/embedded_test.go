package doctor_test

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"

	"teamtalk/core/im"
	"teamtalk/sql/doctor"
	"teamtalk/sql/embedded"
)

// openLite makes an embedded store that a server has open, and a doctor beside it.
func openLite(t testing.TB, f doctor.Files) (*embedded.Store, *doctor.Doctor) {
	t.Helper()
	dir := t.TempDir()
	s, err := embedded.Open(ctx, embedded.Options{Dir: dir})
	check(t, err)
	t.Cleanup(func() { s.Close() })
	fill(t, s, f)
	d, err := doctor.OpenEmbedded(ctx, doctor.Embedded{Dir: dir, Files: f})
	check(t, err)
	t.Cleanup(func() { check(t, d.Close()) })
	return s, d
}

// rawLite returns a patient on an embedded store.
func rawLite(t *testing.T, s *embedded.Store, d *doctor.Doctor, f doctor.Files) *patient {
	return &patient{T: t, d: d, files: f,
		exec: func(q string) {
			check(t, s.Raw(ctx, func(conn *sql.Conn) error {
				_, err := conn.ExecContext(ctx, q)
				return err
			}))
		},
		dump: func() (text string) {
			check(t, s.Raw(ctx, func(conn *sql.Conn) error {
				tables, err := rowsOf(conn, "select name from sqlite_master where type = 'table' "+
					"order by name")
				for _, name := range tables {
					var rows []string
					if err == nil {
						rows, err = rowsOf(conn, "select * from "+name)
					}
					text += name + ": " + strings.Join(rows, "; ") + "\n"
				}
				return err
			}))
			return text
		},
	}
}

// rowsOf returns the rows of a query as texts.
func rowsOf(db interface {
	QueryContext(ctx context.Context, q string, args ...any) (*sql.Rows, error)
}, q string) (list []string, err error) {
	rows, err := db.QueryContext(ctx, q)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	for err == nil && rows.Next() {
		values, dest := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		err = rows.Scan(dest...)
		text := make([]string, len(values))
		for i, v := range values {
			text[i] = v.String
		}
		list = append(list, strings.Join(text, "|"))
	}
	return list, err
}

// damages are those of tables that both stores have.
var damages = []damage{
	{name: "departments", do: []string{"UPDATE IMUser SET departId=77 WHERE id=3"},
		text: "user 3 is in department 77, which does not exist"},
	{name: "department-parents", do: []string{"UPDATE IMDepart SET parentId=77 WHERE id=2"},
		text: "department 2 is below department 77"},
	{name: "creators", do: []string{"UPDATE IMGroup SET creator=99 WHERE id=2"},
		text: "group 2 was made by user 99, which does not exist (next in line: user 2"},
	{name: "file-rows", do: []string{"rm file"},
		text: "file " + task + " from user 1 waits for user 2, and is not in the folder"},
	{name: "spool-files", do: []string{"add file"}, text: "from user 1 for user 2 is in no list"},
	{name: "sounds", do: []string{"rm sound"}, undo: []string{"put sound"},
		text: "the file " + soundFile + " does not exist"},
	{name: "avatars", do: []string{"rm small"}, undo: []string{"put small"},
		also: []string{"sounds"}, text: "avatar of user 1: the file " + smallFile},
	{name: "group-avatars", do: []string{"UPDATE IMGroup SET avatar='" + smallURL + "/" +
		strings.Replace(smallFile, "002", "003", 1) + "' WHERE id=1"},
		undo: []string{"UPDATE IMGroup SET avatar='' WHERE id=1"},
		text: "avatar of group 1: the file g0/001/003/"},
}

// liteDamages are those of the embedded store.
var liteDamages = []damage{
	{name: "members", do: []string{"insert into IMGroupMember (groupId, userId, joinMsgId, " +
		"readMsgId, created) values (1, 99, 3, 3, 1), (88, 2, 0, 0, 1)"},
		text: "user 99 is a member of group 1: the user does not exist"},
	{name: "message-ids", do: []string{"update IMRelationShip set lastMsgId = 2 where id = 1"},
		text: "conversation 1: the last id that was given is 2, but message 7 exists"},
	{name: "group-message-ids", do: []string{"update IMGroup set lastMsgId = 1 where id = 2"},
		also: []string{"member-positions"},
		text: "group 2: the last id that was given is 1, but message 4 exists"},
	{name: "relations", do: []string{"update IMRelationShip set bigId = 99 where id = 1"},
		also: nil, undo: []string{"update IMRelationShip set bigId = 2 where id = 1"},
		text: "conversation 1 is between the users 1 and 99"},
	{name: "messages", do: []string{"update IMMessage set id = id + (70 << 32) " +
		"where id >> 32 = 2"}, also: []string{"unread"},
		undo: []string{"update IMMessage set id = id - (70 << 32) where id >> 32 = 72",
			"update IMRelationShip set unreadBig = 40, unreadSmall = 0 where id = 2"},
		text: "conversation 72 has 41 messages and no row"},
	{name: "group-messages", do: []string{"update IMGroupMessage set id = id + (70 << 32) " +
		"where id >> 32 = 2"},
		undo: []string{"update IMGroupMessage set id = id - (70 << 32) where id >> 32 = 72"},
		text: "group 72 has 4 messages and no row"},
	{name: "unread", do: []string{"update IMRelationShip set unreadBig = 70, unreadSmall = -2 " +
		"where id = 1"}, text: "user 1 has -2 unread messages of user 2, of 2"},
	{name: "member-positions", do: []string{"update IMGroupMember set readMsgId = 700 " +
		"where groupId = 1 and userId = 3"},
		text: "user 3 in group 1 joined at message 0, has read up to 700"},
	{name: "sound-messages",
		do:   []string{"update IMAudio set id = 70 where id = " + soundOf("IMMessage")},
		undo: []string{"update IMAudio set id = " + soundOf("IMMessage") + " where id = 70"},
		text: "message 1 of conversation 3"},
	{name: "group-sound-messages",
		do:   []string{"update IMAudio set id = 70 where id = " + soundOf("IMGroupMessage")},
		undo: []string{"update IMAudio set id = " + soundOf("IMGroupMessage") + " where id = 70"},
		text: "message 10 of group 1"},
}

// soundOf is the id of the sound of the only audio message of a table. The store gives ids to
// sounds when it writes them into their tables, in no order of the messages.
func soundOf(table string) string {
	return "(select cast(cast(content as text) as integer) from " + table +
		" where type in (2, 18))"
}

func TestEmbedded(t *testing.T) {
	f := files(t)
	s, d := openLite(t, f)
	want(t, "healthy", run(t, d, quick))
	p := rawLite(t, s, d, f)
	p.suffer(damages)
	p.suffer(liteDamages)
}

// TestEmbeddedInUse refuses to repair the list of waiting files while a file server has
// the folder.
func TestEmbeddedInUse(t *testing.T) {
	f := files(t)
	s, d := openLite(t, f)
	rawLite(t, s, d, f).do([]string{"rm file"})
	server := openSpool(t, f)
	o := quick
	o.Repair = true
	all := run(t, d, o)
	want(t, "beside a file server", all, "file-rows")
	if r := all["file-rows"]; r.Left != 1 || !strings.Contains(r.Refused, "a file server uses") {
		t.Errorf("%+v", r)
	}
	check(t, server.Close())
	if r := run(t, d, o)["file-rows"]; r.Left != 0 || r.Found != 1 || r.Refused != "" {
		t.Errorf("%+v", r)
	}
}

// TestEmbeddedBusy repairs while a server stores messages, in the conversations that are
// damaged. No id is given twice, and no message is lost.
func TestEmbeddedBusy(t *testing.T) {
	f := files(t)
	s, d := openLite(t, f)
	p := rawLite(t, s, d, f)
	var writers sync.WaitGroup
	for _, pair := range [][2]uint32{{1, 2}, {3, 4}, {5, 6}} {
		writers.Go(func() {
			for range 25 {
				say(worker{t}, s, now(), pair[0], pair[1], 4)
			}
		})
	}
	o := quick
	o.Repair = true
	for range 5 {
		p.do([]string{"update IMRelationShip set unreadBig = 70000 where id = 2"})
		if r := run(t, d, o); r["unread"].Found != 1 || r["unread"].Left != 0 {
			t.Errorf("%+v", r["unread"])
		}
	}
	writers.Wait()
	want(t, "at the end", run(t, d, quick))
	for id, n := range map[uint32]int{2: 107, 4: 141} {
		list, err := s.History(ctx, id-1, id, 0, 1000)
		check(t, err)
		if len(list) != n {
			t.Errorf("%d messages with user %d, want %d", len(list), id, n)
		}
	}
	if _, err := doctor.OpenEmbedded(ctx, doctor.Embedded{Dir: t.TempDir()}); im.KindOf(err) !=
		im.NotFound {
		t.Errorf("an empty folder: %v", err)
	}
}

// TestEmbeddedApart lists messages that the tables have rejected, and puts them back once the
// tables accept them.
func TestEmbeddedApart(t *testing.T) {
	f := files(t)
	s, d := openLite(t, f)
	p := rawLite(t, s, d, f)
	for _, table := range []string{"IMMessage", "IMGroupMessage"} {
		p.exec("create trigger reject" + table + " before insert on " + table +
			" begin select raise(abort, 'rejected by the test'); end")
	}
	say(t, s, 1_700_000_000, 5, 6, 1)
	sayTo(t, s, 1_700_000_000, 5, 2, 1)
	p.exec("insert into Arrived (id, list) values (-3, x'78')")
	look := func(when string, repair bool, left int64, texts ...string) {
		t.Helper()
		before := p.dump()
		o := quick
		o.Repair = repair
		r := run(t, d, o)["kept-apart"]
		if strings.Join(r.Examples, "|") != strings.Join(texts, "|") ||
			r.Found != int64(len(texts)) || r.Left != left {
			t.Errorf("%s: %d found, %d left: %q, want %q", when, r.Found, r.Left, r.Examples, texts)
		}
		if !strings.Contains(r.Note, "'delete from Arrived where id = -") {
			t.Errorf("%s: the note is %q", when, r.Note)
		}
		if !repair && p.dump() != before {
			t.Errorf("%s: looking has changed the store", when)
		}
	}
	const one, two, bad = "row -1: from user 5 to user 6, message 2 of conversation 3, of " +
		"2023-11-14 22:13:20: ", "row -2: from user 5 message 5 of group 2, of 2023-11-14 " +
		"22:13:20: ", "row -3 cannot be read, 1 bytes: a batch of messages in the table Arrived " +
		"is damaged"
	const rejected, accepted = "constraint failed: rejected by the test (1811)",
		"the tables accept it now"
	look("rejected", false, 3, one+rejected, two+rejected, bad)
	p.exec("drop trigger rejectIMMessage")
	look("one is accepted", false, 3, one+accepted, two+rejected, bad)
	look("repaired", true, 2, one+accepted, two+rejected, bad)
	p.exec("drop trigger rejectIMGroupMessage")
	look("repaired again", true, 1, two+accepted, bad)
	p.exec("delete from Arrived where id = -3")
	want(t, "given up", run(t, d, quick))
	list, err := s.History(ctx, 6, 5, 0, 1)
	check(t, err)
	inGroup, err := s.GroupHistory(ctx, 5, 2, 0, 1)
	check(t, err)
	if len(list) != 1 || list[0].ID != 2 || len(inGroup) != 1 || inGroup[0].ID != 5 {
		t.Errorf("the last messages are %+v and %+v", list, inGroup)
	}
}
