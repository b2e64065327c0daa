package store

import (
	"context"
	"fmt"

	"teamtalk/core/im"
)

// history is the part that reads messages.
type history struct {
	db            *databases
	conversations *conversations
	members       *members
}

// newHistory makes the part.
func newHistory(db *databases, conversations *conversations, members *members) *history {
	return &history{db: db, conversations: conversations, members: members}
}

// readThread runs do with the conversation of two users, if they have one. It calls do
// with the database from which it has read the conversation; see databases.read.
func (s *history) readThread(ctx context.Context, user, peer uint32,
	do func(db querier, t thread) error) error {
	return s.db.read(ctx, func(db querier) error {
		c, err := s.conversations.conversationOf(ctx, db, user, peer)
		if c == nil || err != nil {
			return err
		}
		return do(db, c.thread)
	})
}

// History returns messages between two users, newest first; see im.MessageStore.
func (s *history) History(ctx context.Context, user, peer, begin uint32,
	count int) ([]im.Message, error) {
	if err := ctx.Err(); err != nil || count <= 0 {
		return nil, s.db.dbError("read history", err)
	}
	below := ""
	if begin > 0 {
		below = fmt.Sprintf(" AND msgId<=%d", begin)
	}
	var list []threadMessage
	err := s.readThread(ctx, user, peer, func(db querier, t thread) (err error) {
		list, err = messagesWhere(ctx, db, t, fmt.Sprintf(newestFirst, below, 0, count))
		return err
	})
	if err != nil {
		return nil, s.db.dbError("read history", err)
	}
	return plain(list), nil
}

// MessagesByID returns messages between two users; see im.MessageStore.
func (s *history) MessagesByID(ctx context.Context, user, peer uint32,
	ids []uint32) ([]im.Message, error) {
	if err := ctx.Err(); err != nil || len(ids) == 0 {
		return nil, s.db.dbError("read messages", err)
	}
	var list []threadMessage
	err := s.readThread(ctx, user, peer, func(db querier, t thread) (err error) {
		list, err = messagesByID(ctx, db, t, ids)
		return err
	})
	if err != nil {
		return nil, s.db.dbError("read messages", err)
	}
	return plain(list), nil
}

// LatestID returns the id of the newest message between two users, 0 when they have none;
// see im.MessageStore.
func (s *history) LatestID(ctx context.Context, user, peer uint32) (uint32, error) {
	if err := ctx.Err(); err != nil {
		return 0, s.db.dbError("read the latest message id", err)
	}
	var id uint32
	err := s.readThread(ctx, user, peer, func(db querier, t thread) error {
		return db.QueryRowContext(ctx, fmt.Sprintf("SELECT COALESCE(MAX(msgId), 0) FROM %s "+
			"WHERE relateId=%d AND status=0", t.table(), t.id)).Scan(&id)
	})
	if err != nil {
		return 0, s.db.dbError("read the latest message id", err)
	}
	return id, nil
}
