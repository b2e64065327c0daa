// Package sessions keeps the users' lists of conversations.
package sessions

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/history"
	"teamtalk/sql/store/members"
	"teamtalk/sql/store/unread"
)

// Sessions is the part that stores the users' lists of conversations.
type Sessions struct {
	db      *database.DB
	ids     *conversation.IDs
	members *members.Reader
	history *history.History
	unread  *unread.Counts
	rows    *Rows

	synced   syncedGroups
	syncs    *prometheus.CounterVec
	syncRows prometheus.Counter
	syncTime prometheus.Histogram
}

// New makes the part.
func New(db *database.DB, ids *conversation.IDs, members *members.Reader, history *history.History,
	unread *unread.Counts, rows *Rows) *Sessions {
	return &Sessions{db: db, ids: ids, members: members, history: history, unread: unread,
		rows: rows,
		syncs: db.Metrics.CounterVec("session_syncs",
			"Runs of the synchronisation of group members' sessions: done, failed, or passed "+
				"because another process ran it.", "what"),
		syncRows: db.Metrics.Counter("session_sync_rows",
			"Sessions of group members that the synchronisation wrote."),
		syncTime: db.Metrics.Histogram("session_sync_seconds",
			"Time of a run of the synchronisation.", prometheus.ExponentialBuckets(0.001, 2, 16)),
	}
}

// RemoveSession removes a conversation from a user's list; see im.MessageStore. It clears
// the count first, so that a message that arrives meanwhile stays counted.
func (s *Sessions) RemoveSession(ctx context.Context, user, peer uint32, t pb.SessionType) error {
	group := t == pb.SessionType_SESSION_TYPE_GROUP
	ids, err := s.listedRows(ctx, user, peer, t)
	if err != nil {
		return s.db.SQLError("look up session", err)
	}
	if len(ids) == 0 {
		return errNoSession(user, peer)
	}
	last := uint32(0)
	if group {
		of := conversation.Thread{Group: true, ID: peer}
		highest, err := s.ids.Highest(ctx, s.db.Master, []conversation.Thread{of})
		if err != nil {
			return err
		}
		last = highest[of]
		if err := s.unread.ClearGroup(ctx, user, peer); err != nil {
			return err
		}
	} else if err := s.unread.ClearUnread(ctx, user, peer); err != nil {
		return err
	}
	var found int64
	err = s.db.Retry(ctx, func() error {
		res, err := s.db.Master.ExecContext(ctx, fmt.Sprintf("UPDATE IMRecentSession "+
			"SET status=1, removedMsgId=%d WHERE id IN (%s) AND status=0", last,
			database.Join(ids)))
		if err == nil {
			found, err = res.RowsAffected()
		}
		return err
	})
	if err != nil {
		return s.db.SQLError("remove session", err)
	}
	s.rows.Forget(user, peer, group)
	if found == 0 {
		return errNoSession(user, peer)
	}
	return nil
}

// errNoSession returns the error for a conversation that a user's list does not have.
func errNoSession(user, peer uint32) error {
	return im.Errorf(im.NotFound, "the list of user %d has no conversation with %d", user, peer)
}

// listedRows returns the ids of the listed rows of one side. Before finalize it may have
// several.
func (s *Sessions) listedRows(ctx context.Context, user, peer uint32,
	t pb.SessionType) ([]uint32, error) {
	return database.Numbers(ctx, s.db.Master, fmt.Sprintf("SELECT id FROM IMRecentSession "+
		"WHERE userId=%d AND peerId=%d AND type=%d AND status=0 ORDER BY id", user, peer, t))
}
