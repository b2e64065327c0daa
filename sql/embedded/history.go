package embedded

import (
	"context"
	"database/sql"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/arrivals"
)

// history is the part that reads messages.
type history struct{ *database }

// scanMessage reads the columns for dest and then messageColumns, into a message between
// user and peer, or in the group peer.
func scanMessage(row scanner, user, peer *uint32, dest ...any) (m im.Message, err error) {
	var path *string
	var size, duration *uint32
	dest = append(dest, &m.ID, &m.From, &m.Type, &m.Created, &m.Data, &path, &size, &duration)
	if err := row.Scan(dest...); err != nil {
		return im.Message{}, err
	}
	if isAudio(m.Type) {
		m.Data = nil // it was the id of the sound
		if path != nil {
			m.Audio = &im.Audio{Path: *path, Size: *size, Duration: *duration}
		}
	}
	if m.Type.IsGroup() {
		m.To = *peer
		return m, nil
	}
	if m.To = *peer; m.From == *peer {
		m.To = *user
	}
	return m, nil
}

// between runs a read of a conversation's messages.
func (s *history) between(ctx context.Context, op string, stmt *sql.Stmt, user, peer uint32,
	args ...any) ([]im.Message, error) {
	return s.messageRows(ctx, op, arrivals.Pair(user, peer), stmt, user, peer,
		append([]any{min(user, peer), max(user, peer)}, args...)...)
}

// messageRows runs a read of messages between user and peer, or in the group peer.
func (s *history) messageRows(ctx context.Context, op string, scope arrivals.Scope,
	stmt *sql.Stmt, user, peer uint32, args ...any) ([]im.Message, error) {
	var messages []im.Message
	err := s.rows(ctx, op, scope, stmt, func(row scanner) error {
		m, err := scanMessage(row, &user, &peer)
		messages = append(messages, m)
		return err
	}, args...)
	if err != nil {
		return nil, err
	}
	return messages, nil
}

// History returns messages, newest first; see im.MessageStore.
func (s *history) History(ctx context.Context, user, peer, begin uint32,
	count int) ([]im.Message, error) {
	if begin == 0 {
		begin-- // the highest possible id
	}
	return s.between(ctx, "history", s.read.history, user, peer, begin, max(count, 0))
}

// MessagesByID returns messages in order of id; see im.MessageStore.
func (s *history) MessagesByID(ctx context.Context, user, peer uint32,
	ids []uint32) ([]im.Message, error) {
	return s.between(ctx, "messages by id", s.read.messagesByID, user, peer, jsonArray(ids))
}

// LatestID returns the newest id of a conversation; see im.MessageStore.
func (s *history) LatestID(ctx context.Context, user, peer uint32) (id uint32, err error) {
	err = s.rows(ctx, "latest id", arrivals.Pair(user, peer), s.read.latestID,
		func(row scanner) error {
			return row.Scan(&id)
		}, min(user, peer), max(user, peer))
	return id, err
}

// inGroup runs a read of a group's messages.
func (s *history) inGroup(ctx context.Context, op string, stmt *sql.Stmt, user, group uint32,
	args ...any) ([]im.Message, error) {
	return s.messageRows(ctx, op, arrivals.Groups(group), stmt, user, group,
		append([]any{group, user}, args...)...)
}

// GroupHistory returns messages, newest first; see im.GroupStore.
func (s *history) GroupHistory(ctx context.Context, user, group, begin uint32,
	count int) ([]im.Message, error) {
	if begin == 0 {
		begin-- // the highest possible id
	}
	return s.inGroup(ctx, "group history", s.read.groupHistory, user, group, begin, max(count, 0))
}

// GroupMessagesByID returns messages in order of id; see im.GroupStore.
func (s *history) GroupMessagesByID(ctx context.Context, user, group uint32,
	ids []uint32) ([]im.Message, error) {
	return s.inGroup(ctx, "group messages by id", s.read.groupMessagesByID, user, group,
		jsonArray(ids))
}

// GroupLatestID returns the newest id of a group; see im.GroupStore.
func (s *history) GroupLatestID(ctx context.Context, user, group uint32) (id uint32, err error) {
	err = s.rows(ctx, "group latest id", arrivals.Groups(group), s.read.groupLatestID,
		func(row scanner) error { return row.Scan(&id) }, group, user)
	return id, err
}
