package store

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strconv"

	"teamtalk/core/im"
	"teamtalk/sql/schema"
)

// threadMessage is a message with its thread.
type threadMessage struct {
	in thread
	im.Message
}

// readMessages runs a query for thread.columns, and reads the sounds of audio messages.
func readMessages(ctx context.Context, db querier, query string) ([]threadMessage, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []threadMessage
	for rows.Next() {
		var m threadMessage
		if err := rows.Scan(&m.in.group, &m.in.id, &m.ID, &m.From, &m.To, &m.Type, &m.Created,
			&m.Data); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	rows.Close() // a transaction, or a pool of one, has one connection for this and the next query
	return list, readAudio(ctx, db, list)
}

// plain returns the messages without their threads.
func plain(list []threadMessage) []im.Message {
	if len(list) == 0 {
		return nil
	}
	messages := make([]im.Message, len(list))
	for i := range list {
		messages[i] = list[i].Message
	}
	return messages
}

// messagesWhere returns the messages of a thread that a condition selects, without
// deleted ones.
func messagesWhere(ctx context.Context, db querier, t thread,
	where string) ([]threadMessage, error) {
	return readMessages(ctx, db, fmt.Sprintf("SELECT %s FROM %s WHERE %s=%d AND status=0%s",
		t.columns(), t.table(), t.column(), t.id, where))
}

// newestFirst selects messages of a thread backwards, from the newest or from an id,
// after an offset. The index gives this order, so the query reads only the rows that it
// returns. With one more column in the order, the database sorts the whole thread each
// time. Before finalize an id may exist twice; the index then decides the order of the
// two.
const newestFirst = "%s ORDER BY msgId DESC LIMIT %d, %d"

// messagesByID reads messages of a thread by their ids.
func messagesByID(ctx context.Context, db querier, t thread,
	ids []uint32) ([]threadMessage, error) {
	var list []threadMessage
	err := inChunks(distinct(ids), chunk, func(part []uint32) error {
		some, err := messagesWhere(ctx, db, t, fmt.Sprintf(" AND msgId IN (%s) "+
			"ORDER BY msgId, id", join(part)))
		list = append(list, some...)
		return err
	})
	return list, err
}

// thread identifies where messages are stored and numbered: under a relation or a group.
type thread struct {
	group bool
	id    uint32 // IMRelationShip.id, or IMGroup.id
}

// table returns the table of the thread's messages.
func (t thread) table() string {
	if t.group {
		return fmt.Sprintf("IMGroupMessage_%d", t.id%schema.Tables)
	}
	return fmt.Sprintf("IMMessage_%d", t.id%schema.Tables)
}

// slot numbers the tables of messages: first those of relations, then those of groups.
func (t thread) slot() uint32 { return t.id%schema.Tables + t.kind()*schema.Tables }

// kind is 1 for a group and 0 for a relation. Queries return it.
func (t thread) kind() uint32 {
	if t.group {
		return 1
	}
	return 0
}

// column returns the column that holds the thread's id in the table of messages.
func (t thread) column() string {
	if t.group {
		return "groupId"
	}
	return "relateId"
}

// columns returns the columns of a message in the order in which readMessages scans them.
func (t thread) columns() string {
	if t.group {
		return "1, groupId, msgId, userId, groupId, type, created, content"
	}
	return "0, relateId, msgId, fromId, toId, type, created, content"
}

// counter returns the key of the thread's message ids in Redis.
func (t thread) counter() string {
	if t.group {
		return "group_msg_id_" + strconv.FormatUint(uint64(t.id), 10)
	}
	return "msg_id_" + strconv.FormatUint(uint64(t.id), 10)
}

// LogValue names the thread in logs.
func (t thread) LogValue() slog.Value { return slog.StringValue(t.counter()) }

// compareThreads orders threads. All transactions take threads in this order, so that
// they do not wait for each other in a circle.
func compareThreads(a, b thread) int {
	if a.group != b.group {
		if b.group {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.id, b.id)
}
