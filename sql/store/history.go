package store

import (
	"context"
	"fmt"

	"teamtalk/core/im"
)

// history is the part that reads messages.
type history struct {
	*databases
	conversations *conversations
	members       *members
}

// History returns messages between two users, newest first; see im.MessageStore. It reads
// from the slave, or from the master after a recent message of this process to one of
// them.
func (s *history) History(ctx context.Context, user, peer, begin uint32,
	count int) ([]im.Message, error) {
	if err := ctx.Err(); err != nil || count <= 0 {
		return nil, s.dbError("read history", err)
	}
	db := s.reader(user, peer)
	c, err := s.conversations.conversationOf(ctx, db, user, peer)
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

// MessagesByID returns messages between two users; see im.MessageStore. It reads as
// History does.
func (s *history) MessagesByID(ctx context.Context, user, peer uint32,
	ids []uint32) ([]im.Message, error) {
	if err := ctx.Err(); err != nil || len(ids) == 0 {
		return nil, s.dbError("read messages", err)
	}
	db := s.reader(user, peer)
	c, err := s.conversations.conversationOf(ctx, db, user, peer)
	if c == nil || err != nil {
		return nil, err
	}
	list, err := messagesByID(ctx, db, c.thread, ids)
	if err != nil {
		return nil, s.dbError("read messages", err)
	}
	return plain(list), nil
}

// LatestID returns the id of the newest message between two users, 0 when they have none;
// see im.MessageStore. It reads as History does.
func (s *history) LatestID(ctx context.Context, user, peer uint32) (uint32, error) {
	if err := ctx.Err(); err != nil {
		return 0, s.dbError("read the latest message id", err)
	}
	db := s.reader(user, peer)
	c, err := s.conversations.conversationOf(ctx, db, user, peer)
	if c == nil || err != nil {
		return 0, err
	}
	var id uint32
	query := fmt.Sprintf("SELECT COALESCE(MAX(msgId), 0) FROM %s WHERE relateId=%d AND status=0",
		c.thread.table(), c.thread.id)
	if err := db.QueryRowContext(ctx, query).Scan(&id); err != nil {
		return 0, s.dbError("read the latest message id", err)
	}
	return id, nil
}
