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
	list, joined, err := s.listed(ctx, user, since, limit)
	if err != nil || len(list) == 0 {
		return nil, err
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

// listed returns the listed sessions of a user, newest first, and its groups among them. C++
// servers leave the session of a group that the user is not in: it is left out. So rows are
// read in pages.
func (s *Sessions) listed(ctx context.Context, user, since uint32, limit int) (
	list []im.RecentSession, joined []members.JoinedGroup, err error) {
	var last im.RecentSession
	for len(list) < limit {
		var page []im.RecentSession
		err := s.db.Read(ctx, func(db database.Querier) (err error) {
			page, err = sessionRows(ctx, db, user, since, limit, last)
			return err
		})
		if err != nil {
			return nil, nil, s.db.SQLError("read sessions", err)
		}
		var groups []uint32
		for _, r := range page {
			if r.Type == pb.SessionType_SESSION_TYPE_GROUP {
				groups = append(groups, r.Peer)
			}
		}
		in, err := s.members.JoinedAmong(ctx, user, groups)
		if err != nil {
			return nil, nil, err
		}
		joined = append(joined, in...)
		member := make(map[uint32]bool, len(in))
		for _, j := range in {
			member[j.Group] = true
		}
		for _, r := range page {
			group := r.Type == pb.SessionType_SESSION_TYPE_GROUP
			if len(list) < limit && (!group || member[r.Peer]) {
				list = append(list, r)
			}
		}
		if len(page) < limit {
			break
		}
		last = page[len(page)-1]
	}
	return list, joined, nil
}

// sessionRows reads a page of the listed sessions of a user: the first one, or that after a
// session. Before finalize a side may have several rows; each conversation appears once.
func sessionRows(ctx context.Context, db database.Querier, user, since uint32, limit int,
	last im.RecentSession) ([]im.RecentSession, error) {
	after := ""
	if last.Peer != 0 {
		after = fmt.Sprintf(" HAVING u<%d OR u=%[1]d AND (type>%d OR type=%[2]d AND peerId>%d)",
			last.Updated, last.Type, last.Peer)
	}
	rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT peerId, type, MAX(updated) AS u "+
		"FROM IMRecentSession WHERE userId=%d AND status=0 AND updated>=%d AND type IN (%d,%d) "+
		"GROUP BY peerId, type%s ORDER BY u DESC, type, peerId LIMIT %d", user, since,
		pb.SessionType_SESSION_TYPE_SINGLE, pb.SessionType_SESSION_TYPE_GROUP, after, limit))
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
