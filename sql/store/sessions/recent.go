package sessions

import (
	"context"
	"fmt"
	"slices"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/members"
)

// RecentSessions returns the user's conversations; see im.MessageStore.
func (s *Sessions) RecentSessions(ctx context.Context, user, since uint32,
	limit int) ([]im.RecentSession, error) {
	if err := ctx.Err(); err != nil || limit <= 0 {
		return nil, s.db.SQLError("read sessions", err)
	}
	joined, err := s.members.JoinedGroups(ctx, []uint32{user})
	if err != nil {
		return nil, err
	}
	var list []im.RecentSession
	err = s.db.Read(ctx, func(db database.Querier) (err error) {
		list, err = sessionRows(ctx, db, user, since, limit, joined)
		return err
	})
	if err != nil || len(list) == 0 {
		return nil, s.db.SQLError("read sessions", err)
	}
	keys := make([]conversation.Peer, len(list))
	for i, r := range list {
		keys[i] = conversation.Peer{ID: r.Peer, Kind: r.Type}
	}
	newest, err := s.history.Latest(ctx, user, keys, joined)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Latest = newest[keys[i]]
	}
	// A session without a visible message (all deleted, or from before joining) has
	// nothing to show. C++ servers leave it out too.
	return slices.DeleteFunc(list, func(r im.RecentSession) bool { return r.Latest.ID == 0 }), nil
}

// sessionRows reads the listed sessions of a user, with groups only those of joined.
// Before finalize a side may have several rows; each conversation appears once.
func sessionRows(ctx context.Context, db database.Querier, user, since uint32, limit int,
	joined []members.JoinedGroup) ([]im.RecentSession, error) {
	kinds := fmt.Sprintf("type=%d", pb.SessionType_SESSION_TYPE_SINGLE)
	if len(joined) > 0 {
		groups := make([]uint32, len(joined))
		for i, j := range joined {
			groups[i] = j.Group
		}
		kinds = fmt.Sprintf("(%s OR type=%d AND peerId IN (%s))", kinds,
			pb.SessionType_SESSION_TYPE_GROUP, database.Join(groups))
	}
	rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT peerId, type, MAX(updated) AS u "+
		"FROM IMRecentSession WHERE userId=%d AND status=0 AND updated>=%d AND %s "+
		"GROUP BY peerId, type ORDER BY u DESC, type, peerId LIMIT %d", user, since, kinds, limit))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []im.RecentSession
	for rows.Next() {
		var r im.RecentSession
		if err := rows.Scan(&r.Peer, &r.Type, &r.Updated); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}
