package store

import (
	"context"
	"database/sql"
	"fmt"

	"teamtalk/core/im"
)

// threadMessage is a message and where it is.
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
		if err := rows.Scan(&m.in.group, &m.in.id, &m.ID, &m.From, &m.To, &m.Type, &m.Created, &m.Data); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	rows.Close() // before the next query: a transaction, or a pool of one, has one connection for both
	return list, readAudio(ctx, db, list)
}

// plain takes messages out of their threads.
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

// messagesWhere returns the messages of a thread, deleted ones left out, that a condition selects.
func messagesWhere(ctx context.Context, db querier, t thread, where string) ([]threadMessage, error) {
	return readMessages(ctx, db, fmt.Sprintf("SELECT %s FROM %s WHERE %s=%d AND status=0%s", t.columns(), t.table(), t.column(), t.id, where))
}

// newestFirst reads a thread back from its newest message, or below one, passing over some. The index gives them in that order, so it costs as many rows as are asked
// for, however many there are; one more column in the order, and all of the thread is sorted each time. Before finalize an id may be there twice: which of the
// two comes first is the index's to say.
const newestFirst = "%s ORDER BY msgId DESC LIMIT %d, %d"

// conversationOf returns the conversation of two users, nil when they have none.
func (s *Store) conversationOf(ctx context.Context, db *sql.DB, user, peer uint32) (*conversation, error) {
	key := im.ConversationKey(user, peer)
	found, err := s.find(ctx, db, []uint64{key})
	if err != nil {
		return nil, err
	}
	return found[key], nil
}

// History returns messages between two users, newest first; see im.MessageStore. Read from the slave, unless this process stored to one of them lately.
func (s *Store) History(ctx context.Context, user, peer, begin uint32, count int) ([]im.Message, error) {
	if err := ctx.Err(); err != nil || count <= 0 {
		return nil, s.dbError("read history", err)
	}
	db := s.reader(user, peer)
	c, err := s.conversationOf(ctx, db, user, peer)
	if c == nil || err != nil {
		return nil, err
	}
	below := ""
	if begin > 0 {
		below = fmt.Sprintf(" AND msgId<=%d", begin)
	}
	list, err := messagesWhere(ctx, db, c.thread, fmt.Sprintf(newestFirst, below, 0, count))
	if err != nil {
		return nil, s.dbError("read history", err)
	}
	return plain(list), nil
}

// MessagesByID returns messages between two users; see im.MessageStore. Read where History is.
func (s *Store) MessagesByID(ctx context.Context, user, peer uint32, ids []uint32) ([]im.Message, error) {
	if err := ctx.Err(); err != nil || len(ids) == 0 {
		return nil, s.dbError("read messages", err)
	}
	db := s.reader(user, peer)
	c, err := s.conversationOf(ctx, db, user, peer)
	if c == nil || err != nil {
		return nil, err
	}
	list, err := messagesByID(ctx, db, c.thread, ids)
	if err != nil {
		return nil, s.dbError("read messages", err)
	}
	return plain(list), nil
}

// messagesByID reads messages of a thread by their ids.
func messagesByID(ctx context.Context, db querier, t thread, ids []uint32) ([]threadMessage, error) {
	var list []threadMessage
	err := inChunks(distinct(ids), chunk, func(part []uint32) error {
		some, err := messagesWhere(ctx, db, t, fmt.Sprintf(" AND msgId IN (%s) ORDER BY msgId, id", join(part)))
		list = append(list, some...)
		return err
	})
	return list, err
}

// LatestID returns the id of the newest message between two users, 0 when there is none; see im.MessageStore. Read where History is.
func (s *Store) LatestID(ctx context.Context, user, peer uint32) (uint32, error) {
	if err := ctx.Err(); err != nil {
		return 0, s.dbError("read the latest message id", err)
	}
	db := s.reader(user, peer)
	c, err := s.conversationOf(ctx, db, user, peer)
	if c == nil || err != nil {
		return 0, err
	}
	var id uint32
	query := fmt.Sprintf("SELECT COALESCE(MAX(msgId), 0) FROM %s WHERE relateId=%d AND status=0", c.thread.table(), c.thread.id)
	if err := db.QueryRowContext(ctx, query).Scan(&id); err != nil {
		return 0, s.dbError("read the latest message id", err)
	}
	return id, nil
}
