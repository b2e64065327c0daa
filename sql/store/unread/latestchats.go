package unread

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"teamtalk/proto/pb"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
)

// latestChats returns those limit conversations of a user that had messages last, in any
// order. Only with more than limit conversations it reads the times of their messages, which
// may be a few seconds old.
func (s *Counts) latestChats(ctx context.Context, user uint32, keys []conversation.Peer,
	limit int) ([]conversation.Peer, error) {
	if len(keys) <= limit {
		return keys, nil
	}
	ids := map[pb.SessionType][]uint32{}
	for _, k := range keys {
		ids[k.Kind] = append(ids[k.Kind], k.ID)
	}
	at := make(map[conversation.Peer]uint32, len(keys))
	err := s.db.Read(ctx, func(db database.Querier) error {
		for kind, query := range map[pb.SessionType]string{
			pb.SessionType_SESSION_TYPE_SINGLE: fmt.Sprintf("SELECT peerId, updated "+
				"FROM IMRecentSession WHERE userId=%d AND type=%d AND peerId", user,
				pb.SessionType_SESSION_TYPE_SINGLE),
			pb.SessionType_SESSION_TYPE_GROUP: "SELECT id, lastChated FROM IMGroup WHERE id",
		} {
			slices.Sort(ids[kind])
			err := database.InChunks(ids[kind], 1000, func(part []uint32) error {
				return readTimes(ctx, db, query+" IN ("+database.Join(part)+")",
					func(id, time uint32) {
						k := conversation.Peer{ID: id, Kind: kind}
						at[k] = max(at[k], time)
					})
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, s.db.SQLError("read times of conversations", err)
	}
	slices.SortFunc(keys, func(a, b conversation.Peer) int {
		return cmp.Or(cmp.Compare(at[b], at[a]), a.Compare(b))
	})
	return keys[:limit], nil
}

// readTimes calls do with the rows of a query for an id and a time.
func readTimes(ctx context.Context, db database.Querier, query string,
	do func(id, time uint32)) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, time uint32
		if err := rows.Scan(&id, &time); err != nil {
			return err
		}
		do(id, time)
	}
	return rows.Err()
}
