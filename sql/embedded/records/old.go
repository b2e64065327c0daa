// Package records reads and deletes rows of the embedded store for administrators: old messages,
// see im.Pruner, and all of a user, see im.Exporter.
package records

import (
	"context"
	"database/sql"
	"encoding/json"
	"strconv"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Exec runs a statement in a transaction.
type Exec func(query string, args ...any) error

// Database is what the part needs of the store.
type Database interface {
	// Query runs a read and calls scan for each row. op names it.
	Query(ctx context.Context, op, query string, scan func(*sql.Rows) error, args ...any) error
	// Change runs do in a transaction.
	Change(ctx context.Context, op string, do func(Exec) error) error
}

// Records is the part. Any goroutine.
type Records struct{ db Database }

// New makes the part.
func New(db Database) *Records { return &Records{db} }

// page is the number of conversations or groups that OldThreads looks at.
const page = 200

// place is where the messages of a kind of thread are: the table of messages, and that of the
// threads with the columns of the users.
type place struct{ messages, threads, users string }

var (
	between = place{"IMMessage", "IMRelationShip", "smallId, bigId"}
	inGroup = place{"IMGroupMessage", "IMGroup", "0 as smallId, 0 as bigId"}
)

func placeOf(group bool) place {
	if group {
		return inGroup
	}
	return between
}

// ids is the condition for the messages of a thread c with ids from 1.
const ids = "id > (c.id << 32) and id <= (c.id << 32) + 4294967295 and status = 0 "

// OldThreads returns conversations or groups with old messages; see im.Pruner.
func (s *Records) OldThreads(ctx context.Context, group bool, after, before uint32) (
	list []im.OldThread, last uint32, err error) {
	p := placeOf(group)
	from := "coalesce((select id & 4294967295 from " + p.messages + " where " + ids
	query := "select c.id, c.smallId, c.bigId, " +
		from + "and created >= ?2 order by id limit 1), 0), " +
		from + "order by id desc limit 1), 0), " +
		from + "order by id limit 1), 0) " +
		"from (select id, " + p.users + " from " + p.threads +
		" where id > ?1 order by id limit ?3) c order by c.id"
	looked := 0
	err = s.db.Query(ctx, "old threads", query, func(row *sql.Rows) error {
		t := im.OldThread{Group: group}
		var young, newest, oldest uint32
		if err := row.Scan(&t.ID, &t.Users[0], &t.Users[1], &young, &newest, &oldest); err != nil {
			return err
		}
		looked, last = looked+1, t.ID
		if t.Keep(young, newest, oldest) {
			list = append(list, t)
		}
		return nil
	}, after, before, page)
	if looked < page {
		last = 0
	}
	return list, last, err
}

// key returns the id of the row of a message.
func key(t im.OldThread, id uint32) int64 { return int64(t.ID)<<32 | int64(id) }

// OldPart returns the next messages of t; see im.Pruner.
func (s *Records) OldPart(ctx context.Context, t im.OldThread, after uint32,
	limit int) (p im.OldPart, err error) {
	query := `select m.id & 4294967295, m.type, m.status, length(m.content),
		case when m.type in (2, 18) then cast(m.content as text) else '' end,
		coalesce(a.path, ''), coalesce(a.size, 0) from ` + placeOf(t.Group).messages + ` m
		left join IMAudio a on a.id = case when m.type in (2, 18) then
			cast(cast(m.content as text) as integer) end
		where m.id > ?1 and m.id <= ?2 order by m.id limit ?3`
	err = s.db.Query(ctx, "old messages", query, func(row *sql.Rows) error {
		var kind pb.MsgType
		var status int
		var content, path string
		var length, size int64
		if err := row.Scan(&p.Last, &kind, &status, &length, &content, &path, &size); err != nil {
			return err
		}
		audio := kind == pb.MsgType_MSG_TYPE_SINGLE_AUDIO || kind == pb.MsgType_MSG_TYPE_GROUP_AUDIO
		switch {
		case audio:
			p.Sounds.Add(im.OldCount{Messages: 1, Bytes: size})
			if id, err := strconv.ParseUint(content, 10, 32); err == nil {
				p.SoundID = append(p.SoundID, uint32(id))
			}
			if path != "" {
				p.Paths = append(p.Paths, path)
			}
		case status == 0:
			p.Texts.Add(im.OldCount{Messages: 1, Bytes: length})
		}
		return nil
	}, key(t, after), key(t, t.Upto), limit)
	return p, err
}

// skipBetween lowers both counts of the conversation ?1 to the numbers of messages above id ?2.
const skipBetween = `update IMRelationShip set
	unreadSmall = min(unreadSmall, (select count(*) from IMMessage m where m.id > ?2
		and m.id <= (?1 << 32) + lastMsgId and m.fromId = bigId and m.status = 0)),
	unreadBig = min(unreadBig, (select count(*) from IMMessage m where m.id > ?2
		and m.id <= (?1 << 32) + lastMsgId and m.fromId = smallId and m.status = 0))
	where id = ?1 and unreadSmall + unreadBig > 0`

// SkipOld lowers the unread counts in t; see im.Pruner.
func (s *Records) SkipOld(ctx context.Context, t im.OldThread) error {
	return s.db.Change(ctx, "skip old messages", func(exec Exec) error {
		if t.Group {
			return exec("update IMGroupMember set readMsgId = ?2 where groupId = ?1 "+
				"and readMsgId < ?2", t.ID, t.Upto)
		}
		return exec(skipBetween, t.ID, key(t, t.Upto))
	})
}

// DeleteOld deletes messages; see im.Pruner.
func (s *Records) DeleteOld(ctx context.Context, t im.OldThread, p im.OldPart) error {
	sounds, err := json.Marshal(p.SoundID)
	if err != nil {
		return err
	}
	return s.db.Change(ctx, "delete old messages", func(exec Exec) error {
		if len(p.SoundID) > 0 {
			if err := exec("delete from IMAudio where id in (select value from json_each(?))",
				string(sounds)); err != nil {
				return err
			}
		}
		return exec("delete from "+placeOf(t.Group).messages+" where id > ? and id <= ?",
			key(t, 0), key(t, min(p.Last, t.Upto)))
	})
}
