package history

import (
	"context"
	"fmt"
	"strconv"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
)

// threadMessage is a message with its thread.
type threadMessage struct {
	in conversation.Thread
	im.Message
}

// readMessages runs a query for Thread.Columns, and reads the sounds of audio messages.
func readMessages(ctx context.Context, db database.Querier, query string) ([]threadMessage, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []threadMessage
	for rows.Next() {
		var m threadMessage
		if err := rows.Scan(&m.in.Group, &m.in.ID, &m.ID, &m.From, &m.To, &m.Type, &m.Created,
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
func messagesWhere(ctx context.Context, db database.Querier, t conversation.Thread,
	where string) ([]threadMessage, error) {
	return readMessages(ctx, db, fmt.Sprintf("SELECT %s FROM %s WHERE %s=%d AND status=0%s",
		t.Columns(), t.Table(), t.Column(), t.ID, where))
}

// NewestFirst selects messages of a thread backwards, from the newest or from an id,
// after an offset. The index gives this order, so the query reads only the rows that it
// returns. With one more column in the order, the database sorts the whole thread each
// time. Before finalize an id may exist twice; the index then decides the order of the
// two.
const NewestFirst = "%s ORDER BY msgId DESC LIMIT %d, %d"

// messagesByID reads messages of a thread by their ids.
func messagesByID(ctx context.Context, db database.Querier, t conversation.Thread,
	ids []uint32) ([]threadMessage, error) {
	var list []threadMessage
	err := database.InChunks(database.Distinct(ids), database.Chunk, func(part []uint32) error {
		some, err := messagesWhere(ctx, db, t, fmt.Sprintf(" AND msgId IN (%s) "+
			"ORDER BY msgId, id", database.Join(part)))
		list = append(list, some...)
		return err
	})
	return list, err
}

// IsAudio reports whether the content of a message is the id of its sound.
func IsAudio(t pb.MsgType) bool {
	return t == pb.MsgType_MSG_TYPE_SINGLE_AUDIO || t == pb.MsgType_MSG_TYPE_GROUP_AUDIO
}

// readAudio replaces the ids in Data of audio messages by their sounds. A message whose
// row is missing has neither.
func readAudio(ctx context.Context, db database.Querier, list []threadMessage) error {
	var ids []uint32
	of := map[uint32][]int{} // messages by the id of their sound
	for i := range list {
		m := &list[i]
		if !IsAudio(m.Type) {
			continue
		}
		id, err := strconv.ParseUint(string(m.Data), 10, 32)
		m.Data = nil
		if err != nil {
			continue
		}
		ids = append(ids, uint32(id))
		of[uint32(id)] = append(of[uint32(id)], i)
	}
	return database.InChunks(ids, database.Chunk, func(part []uint32) error {
		rows, err := db.QueryContext(ctx, "SELECT id, COALESCE(path, ''), size, duration "+
			"FROM IMAudio WHERE id IN ("+database.Join(part)+")")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id uint32
			var a im.Audio
			if err := rows.Scan(&id, &a.Path, &a.Size, &a.Duration); err != nil {
				return err
			}
			for _, i := range of[id] {
				sound := a
				list[i].Audio = &sound
			}
		}
		return rows.Err()
	})
}
