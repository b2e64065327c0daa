package embedded

import (
	"context"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/embedded/arrivals"
)

// sessions is the part that stores the users' lists of conversations.
type sessions struct{ *database }

// RecentSessions returns a user's conversations, newest first; see im.MessageStore.
func (s *sessions) RecentSessions(ctx context.Context, user, since uint32,
	limit int) ([]im.RecentSession, error) {
	var sessions []im.RecentSession
	err := s.rows(ctx, "recent sessions", arrivals.Users(user), s.read.recentSessions,
		func(row scanner) (err error) {
			var r im.RecentSession
			r.Latest, err = scanMessage(row, &user, &r.Peer, &r.Type, &r.Peer, &r.Updated)
			sessions = append(sessions, r)
			return err
		}, user, since, max(limit, 0))
	if err != nil {
		return nil, err
	}
	return sessions, nil
}

const (
	removeSession = `update IMRelationShip set
			statusSmall = case smallId when ?1 then 1 else statusSmall end, unreadSmall =
			case smallId when ?1 then 0 else unreadSmall end,
			statusBig = case bigId when ?1 then 1 else statusBig end, unreadBig = case bigId
			when ?1 then 0 else unreadBig end
		where smallId = min(?1, ?2) and bigId = max(?1, ?2) and case smallId when ?1 then
		statusSmall else statusBig end = 0`

	removeGroupSession = `update IMGroupMember set removeMsgId = g.lastMsgId,
		readMsgId = g.lastMsgId from IMGroup g
		where g.id = ?2 and groupId = ?2 and userId = ?1 and g.lastMsgId > max(joinMsgId,
		removeMsgId)`
)

// RemoveSession removes a conversation from a user's list; see im.MessageStore.
func (s *sessions) RemoveSession(ctx context.Context, user, peer uint32, t pb.SessionType) error {
	text, scope := "", arrivals.None
	switch t {
	case pb.SessionType_SESSION_TYPE_SINGLE:
		text, scope = removeSession, arrivals.Pair(user, peer)
	case pb.SessionType_SESSION_TYPE_GROUP:
		text, scope = removeGroupSession, arrivals.Groups(peer)
	}
	return s.call("remove session", func() error {
		if text == "" {
			return im.Errorf(im.NotFound, "no session is of type %d", t)
		}
		removed := int64(0)
		err := s.run(ctx, transaction{scope: scope}, func(w *writer) error {
			result, err := w.conn.ExecContext(context.Background(), text, user, peer)
			if err != nil {
				return err
			}
			removed, err = result.RowsAffected()
			return err
		})
		if err == nil && removed == 0 {
			return im.Errorf(im.NotFound, "user %d has no session with %d", user, peer)
		}
		return err
	})
}

// SyncSessions does nothing: the session of a member with a group follows from the
// group's last message.
func (s *sessions) SyncSessions(ctx context.Context) (int, error) {
	return 0, s.call("sync sessions", ctx.Err)
}
