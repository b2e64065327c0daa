package doctor

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"teamtalk/core/im"
	"teamtalk/sql/embedded"
)

// Embedded names an embedded store and its files.
type Embedded struct {
	Dir   string
	Files Files
	Log   *slog.Logger // nil: no logs
}

// lite is an embedded store with a connection that reads.
type lite struct {
	store *embedded.Store
	db    *sql.DB
}

// OpenEmbedded opens the store in a folder beside its server, if one runs. Opening
// changes nothing, unless the schema is that of an older program, and no server runs:
// then it updates the schema. The error has kind NotFound when the folder has no store.
func OpenEmbedded(ctx context.Context, o Embedded) (*Doctor, error) {
	file := filepath.Join(o.Dir, embedded.FileName)
	if _, err := os.Stat(file); err != nil {
		return nil, im.WithKind(im.NotFound, "no store to look at", err)
	}
	s, err := embedded.Open(ctx, embedded.Options{Dir: o.Dir, Admin: true, Log: o.Log})
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+
		"?_query_only=1&_busy_timeout=5000")
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	db.SetMaxOpenConns(1)
	l := &lite{store: s, db: db}
	e := &entries{db: db, store: s, creator: l.setCreator, orphan: l.dropMember}
	o.Files.db, o.Files.store = db, s
	// Messages that are put back count in the checks after it.
	checks := append(l.damage(), &rejects{lite: l, file: file})
	checks = append(checks, e.checks()...)
	checks = append(checks, l.checks()...)
	checks = append(checks, o.Files.checks(l.soundless())...)
	return &Doctor{checks: checks, repairs: true, close: closeAll(s.Close, db.Close)}, nil
}

// exec runs a statement as a transaction of the store's writer.
func (l *lite) exec(ctx context.Context, query string, args ...any) error {
	return l.store.Raw(ctx, func(conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, query, args...)
		return err
	})
}

// mends returns a repair that runs a statement with the columns of a finding.
func (l *lite) mends(query string, columns ...int) func(context.Context, Finding) error {
	return func(ctx context.Context, f Finding) error {
		args := make([]any, len(columns))
		for i, c := range columns {
			args[i] = int64(number(f.values[c]))
		}
		return l.exec(ctx, query, args...)
	}
}

func (l *lite) setCreator(ctx context.Context, group, from, to uint32) error {
	return l.exec(ctx, "update IMGroup set creator = ?, version = version + 1, "+
		"updated = max(updated, ?) where id = ? and creator = ?", to, l.store.Now().Unix(), group,
		from)
}

func (l *lite) dropMember(ctx context.Context, group, user uint32) error {
	return l.exec(ctx, "delete from IMGroupMember where groupId = ?1 and userId = ?2 "+
		"and not exists (select 1 from IMGroup where id = ?1)", group, user)
}

// damage is the check of the database file itself.
func (l *lite) damage() []Check {
	return []Check{&table{
		about: About{
			Name:     "database",
			Compares: "the tables of the file with their indexes (quick_check of SQLite)",
		},
		db: l.db, subjects: "select 1 where ? < 1 limit ?",
		look: "select %s, quick_check from pragma_quick_check where quick_check <> 'ok'",
		text: "the file is damaged (subject %[1]s): %[2]s; restore a backup",
	}}
}

// last is the highest message id in a table of messages, of the thread with the id t.id.
const last = "coalesce((select x.id & 4294967295 from %s as x where x.id > t.id << 32 " +
	"and x.id <= (t.id << 32) + 4294967295 order by x.id desc limit 1), 0)"

// checks are the checks of conversations.
func (l *lite) checks() []Check {
	return []Check{
		l.ids("message-ids", "conversation", "IMRelationShip", "IMMessage"),
		l.ids("group-message-ids", "group", "IMGroup", "IMGroupMessage"),
		l.relations(), l.threads("messages", "IMRelationShip", "IMMessage", "conversation"),
		l.threads("group-messages", "IMGroup", "IMGroupMessage", "group"),
		l.unread(), l.positions(),
	}
}

// ids compares the last id that was given in each conversation with its messages.
func (l *lite) ids(name, what, threads, messages string) Check {
	return &table{
		about: About{
			Name:     name,
			Compares: "the last message id that was given in each " + what + " with its messages",
			Repair:   "the last id is raised to the highest one; it is never lowered",
		},
		db: l.db, subjects: rowIDs(threads),
		look: "select id, lastMsgId, highest from (select t.id, t.lastMsgId, " +
			strings.Replace(last, "%s", messages, 1) + " as highest from " + threads +
			" as t where t.id in (%s)) where lastMsgId < highest order by id",
		text: what + " %[1]s: the last id that was given is %[2]s, but message %[3]s exists",
		keys: 1,
		mend: l.mends("update "+threads+" set lastMsgId = max(lastMsgId, ?2) where id = ?1", 0, 2),
	}
}

// relations compares the rows of conversations with users.
func (l *lite) relations() Check {
	return &table{
		about: About{
			Name:     "relations",
			Compares: "conversations with their two users",
		},
		db: l.db, subjects: rowIDs("IMRelationShip"),
		look: "select r.id, r.smallId, r.bigId from IMRelationShip as r " +
			"left join IMUser as a on a.id = r.smallId left join IMUser as b on b.id = r.bigId " +
			"where r.id in (%s) and (a.id is null or b.id is null or r.smallId >= r.bigId) " +
			"order by r.id",
		text: "conversation %[1]s is between the users %[2]s and %[3]s: one does not exist, or " +
			"they are not in this order",
	}
}

// threads looks for messages whose conversation does not exist.
func (l *lite) threads(name, threads, messages, what string) Check {
	return &table{
		about: About{
			Name:     name,
			Compares: "messages with the rows of their " + what + "s",
		},
		// each step jumps to the next thread in the tree
		db: l.db, subjects: "with recursive t(id) as (" +
			"select min(id) >> 32 from " + messages + " where id >= (?1 + 1) << 32 union all " +
			"select (select min(m.id) >> 32 from " + messages + " as m " +
			"where m.id >= (t.id + 1) << 32) from t where t.id is not null) " +
			"select id from t where id is not null limit ?2",
		look: "select column1, (select count(*) from " + messages + " as m " +
			"where m.id >= column1 << 32 and m.id < (column1 + 1) << 32) " +
			"from (select value as column1 from json_each('[%s]')) " +
			"where column1 not in (select id from " + threads + ")",
		text: what + " %[1]s has %[2]s messages and no row: no user sees them",
		keys: 1,
	}
}

// unread compares the unread counts of both sides of conversations with the messages of
// the other user. Deleted messages may be in a count.
func (l *lite) unread() Check {
	sent := func(from string) string {
		return "(select count(*) from IMMessage as m where m.id > r.id << 32 " +
			"and m.id <= (r.id << 32) + 4294967295 and m.fromId = r." + from + ")"
	}
	side := func(user, peer, count string) string {
		return "select r.id, r." + user + ", r." + count + ", " + sent(peer) + " as n, r." + peer +
			" from IMRelationShip as r where r.id in (%[1]s) and r." + count + " <> 0 " +
			"and (r." + count + " > n or r." + count + " < 0)"
	}
	lowered := func(count, peer string) string {
		return count + " = max(0, min(" + count + ", " + sent(peer) + "))"
	}
	return &table{
		about: About{
			Name:     "unread",
			Compares: "unread counts of conversations with the messages of the other user",
			Repair:   "a count above the number of messages is lowered to it",
		},
		db: l.db, subjects: rowIDs("IMRelationShip"),
		look: side("smallId", "bigId", "unreadSmall") + " union all " +
			side("bigId", "smallId", "unreadBig") + " order by 1",
		text: "user %[2]s has %[3]s unread messages of user %[5]s, of %[4]s",
		keys: 2,
		mend: l.mends("update IMRelationShip as r set "+lowered("unreadSmall", "bigId")+", "+
			lowered("unreadBig", "smallId")+" where r.id = ?", 0),
	}
}

// positions compares the positions of members in groups with the last message of the
// group.
func (l *lite) positions() Check {
	const wrong = "(m.joinMsgId > g.lastMsgId or m.readMsgId > g.lastMsgId " +
		"or m.removeMsgId > g.lastMsgId or m.readMsgId < m.joinMsgId)"
	return &table{
		about: About{
			Name: "member-positions",
			Compares: "the messages at which members joined, read, and removed the group from " +
				"their lists with the last message id of the group",
			Repair: "positions after the last message move to it; a member has read what was " +
				"there when it joined",
		},
		db: l.db, subjects: rowIDs("IMGroup"),
		look: "select m.groupId, m.userId, m.joinMsgId, m.readMsgId, m.removeMsgId, g.lastMsgId " +
			"from IMGroupMember as m join IMGroup as g on g.id = m.groupId " +
			"where m.groupId in (%s) and " + wrong + " order by m.groupId, m.userId",
		text: "user %[2]s in group %[1]s joined at message %[3]s, has read up to %[4]s, removed " +
			"the group at %[5]s, and the last message is %[6]s",
		keys: 2,
		mend: l.mends("update IMGroupMember as m set joinMsgId = min(joinMsgId, g.lastMsgId), "+
			"readMsgId = min(max(readMsgId, joinMsgId), g.lastMsgId), "+
			"removeMsgId = min(removeMsgId, g.lastMsgId) from IMGroup as g "+
			"where g.id = m.groupId and m.groupId = ? and m.userId = ?", 0, 1),
	}
}

// soundless looks for audio messages without their sound's row.
func (l *lite) soundless() []Check {
	one := func(name, what, threads, messages string, kind int) Check {
		return &table{
			about: About{
				Name:     name,
				Compares: "audio messages of each " + what + " with the rows of sounds",
			},
			db: l.db, subjects: rowIDs(threads),
			look: "select t.id, m.id & 4294967295 from " + threads + " as t join " + messages +
				" as m on m.id > t.id << 32 and m.id <= (t.id << 32) + 4294967295 " +
				"where t.id in (%s) and m.type = " + join([]uint32{uint32(kind)}) +
				" and m.status = 0 and not exists (select 1 from IMAudio as a " +
				"where a.id = cast(cast(m.content as text) as integer)) order by m.id",
			text: "message %[2]s of " + what + " %[1]s is a sound without a row: it is listed " +
				"without a sound",
		}
	}
	return []Check{one("sound-messages", "conversation", "IMRelationShip", "IMMessage", 2),
		one("group-sound-messages", "group", "IMGroup", "IMGroupMessage", 18)}
}
