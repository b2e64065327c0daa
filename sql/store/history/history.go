// Package history reads messages: those before an id, those with given ids, and the newest of each
// conversation.
package history

import (
	"context"
	"fmt"

	"teamtalk/core/im"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/members"
)

// History is the part that reads messages.
type History struct {
	db            *database.DB
	conversations *conversation.Cache
	members       *members.Reader
}

// New makes the part.
func New(db *database.DB, conversations *conversation.Cache, members *members.Reader) *History {
	return &History{db: db, conversations: conversations, members: members}
}

// readThread runs do with the conversation of two users, if they have one. It calls do
// with the database from which it has read the conversation; see database.DB.Read.
func (s *History) readThread(ctx context.Context, user, peer uint32,
	do func(db database.Querier, t conversation.Thread) error) error {
	return s.db.Read(ctx, func(db database.Querier) error {
		c, err := s.conversations.Of(ctx, db, user, peer)
		if c == nil || err != nil {
			return err
		}
		return do(db, c.Thread)
	})
}

// History returns messages between two users, newest first; see im.MessageStore.
func (s *History) History(ctx context.Context, user, peer, begin uint32,
	count int) ([]im.Message, error) {
	if err := ctx.Err(); err != nil || count <= 0 {
		return nil, s.db.SQLError("read history", err)
	}
	below := ""
	if begin > 0 {
		below = fmt.Sprintf(" AND msgId<=%d", begin)
	}
	var list []threadMessage
	err := s.readThread(ctx, user, peer, func(db database.Querier,
		t conversation.Thread) (err error) {
		list, err = messagesWhere(ctx, db, t, fmt.Sprintf(NewestFirst, below, 0, count))
		return err
	})
	if err != nil {
		return nil, s.db.SQLError("read history", err)
	}
	return plain(list), nil
}

// MessagesByID returns messages between two users; see im.MessageStore.
func (s *History) MessagesByID(ctx context.Context, user, peer uint32,
	ids []uint32) ([]im.Message, error) {
	if err := ctx.Err(); err != nil || len(ids) == 0 {
		return nil, s.db.SQLError("read messages", err)
	}
	var list []threadMessage
	err := s.readThread(ctx, user, peer, func(db database.Querier,
		t conversation.Thread) (err error) {
		list, err = messagesByID(ctx, db, t, ids)
		return err
	})
	if err != nil {
		return nil, s.db.SQLError("read messages", err)
	}
	return plain(list), nil
}

// LatestID returns the id of the newest message between two users, 0 when they have none;
// see im.MessageStore.
func (s *History) LatestID(ctx context.Context, user, peer uint32) (uint32, error) {
	if err := ctx.Err(); err != nil {
		return 0, s.db.SQLError("read the latest message id", err)
	}
	var id uint32
	err := s.readThread(ctx, user, peer, func(db database.Querier, t conversation.Thread) error {
		return db.QueryRowContext(ctx, fmt.Sprintf("SELECT COALESCE(MAX(msgId), 0) FROM %s "+
			"WHERE relateId=%d AND status=0", t.Table(), t.ID)).Scan(&id)
	})
	if err != nil {
		return 0, s.db.SQLError("read the latest message id", err)
	}
	return id, nil
}
