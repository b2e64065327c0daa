package sessions

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/proto/pb"
	"teamtalk/sql/schema"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/redisconn"
	"teamtalk/sql/store/use"
)

// A message to a group writes only the session row of its sender. SyncSessions writes the
// rows of the other members, every few seconds, in one process at a time: for the groups
// whose lastChated is at or after the mark last_update_group in Redis. The mark stays
// conversation.ChatMargin behind the clock, because lastChated may be committed later than its
// value. This process remembers the groups that it has synchronised within the margin, and
// skips them.

// syncMark is the key of the time up to which sessions are written.
const syncMark = "last_update_group"

// syncLease is the name of the lease of the process that writes sessions. The rows are
// right whatever the number of processes, so the lease is asked for before each group, and
// not in each statement.
const syncLease = "sync"

// syncTTL is the time for which a process that was killed keeps others from writing
// sessions.
const syncTTL = 15 * time.Second

// SyncPage is the number of groups that are read at once.
const SyncPage = 200

// syncedGroups holds the groups within the margin that this process has synchronised.
type syncedGroups struct {
	mu   sync.Mutex
	done map[uint32]chatted
}

// chatted is the position up to which a group's messages are known.
type chatted struct{ at, msg uint32 }

// has reports whether a group is synchronised up to c.
func (y *syncedGroups) has(group uint32, c chatted) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.done[group] == c && c != chatted{}
}

// add records that a group is synchronised up to c.
func (y *syncedGroups) add(group uint32, c chatted) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.done == nil {
		y.done = map[uint32]chatted{}
	}
	y.done[group] = c
}

// forget drops the groups before the mark.
func (y *syncedGroups) forget(mark uint32) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for g, c := range y.done {
		if c.at < mark {
			delete(y.done, g)
		}
	}
}

// SyncSessions updates the lists of conversations of group members; see im.MessageStore. While
// this process does not use the databases, five of six calls do nothing: processes that store
// messages synchronise them.
func (s *Sessions) SyncSessions(ctx context.Context) (int, error) {
	if !s.db.Uses.Sync.Due() {
		return 0, nil
	}
	n, done, err := s.syncNow(use.Periodic(ctx))
	if !done {
		s.db.Uses.Sync.Use()
	}
	return n, err
}

// syncNow updates the lists. done is false when another process does it, or after an error.
func (s *Sessions) syncNow(ctx context.Context) (n int, done bool, err error) {
	start := time.Now()
	conn, err := s.db.Master.Conn(ctx)
	if err != nil {
		return 0, false, s.db.SQLError("synchronise sessions", err)
	}
	defer conn.Close()
	got, err := s.db.TryLock(ctx, conn, "sync")
	if err != nil {
		return 0, false, s.db.SQLError("synchronise sessions", err)
	}
	if !got {
		s.syncs.WithLabelValues("passed").Inc()
		return 0, false, nil
	}
	defer s.db.Unlock(conn, "sync")
	// The lock holds on one node of a cluster; it also keeps out processes of older versions,
	// which know no lease.
	lease, err := schema.TakeLease(ctx, conn, syncLease, syncTTL)
	if err != nil {
		return 0, false, s.db.SQLError("synchronise sessions", err)
	}
	if lease == nil {
		s.syncs.WithLabelValues("passed").Inc()
		return 0, false, nil
	}
	defer s.endSync(ctx, lease)
	if err := s.db.NoteTime(ctx, conn); err != nil {
		return 0, false, s.db.SQLError("write the time down", err)
	}
	n, err = s.syncGroups(ctx, conn, lease)
	s.syncRows.Add(float64(n))
	s.syncTime.Observe(time.Since(start).Seconds())
	if err != nil {
		s.syncs.WithLabelValues("failed").Inc()
		return n, false, s.db.SQLError("synchronise sessions", err)
	}
	s.syncs.WithLabelValues("done").Inc()
	return n, true, nil
}

// endSync ends the lease, so that the next process need not wait until it has expired.
func (s *Sessions) endSync(ctx context.Context, lease *schema.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), database.LockWait*time.Second)
	defer cancel()
	if err := lease.Release(ctx); err != nil {
		s.db.Log.Debug("lease of the session sync not released", "err", err)
	}
}

// syncGroups synchronises the groups from the mark on, in the order of their last
// messages, and moves the mark after each page.
func (s *Sessions) syncGroups(ctx context.Context, conn *sql.Conn,
	lease *schema.Lease) (total int, err error) {
	mark, err := s.readSyncMark(ctx)
	if err != nil {
		return 0, err
	}
	safe := uint32(max(s.db.Time().Unix()-conversation.ChatMargin, 0))
	ahead := mark > safe // a C++ server leaves no margin, or a clock was ahead
	if ahead {
		mark = safe
	}
	for last := (chattedGroup{at: mark}); ; {
		page, err := chattedGroups(ctx, conn, last)
		if err != nil {
			return total, err
		}
		n, err := s.syncPageOf(ctx, conn, lease, page)
		total += n
		if err != nil {
			return total, err
		}
		end := safe
		if len(page) == SyncPage {
			last = page[len(page)-1]
			end = min(last.at, safe)
		}
		if end > mark || ahead && len(page) < SyncPage {
			if err := s.db.Redis.Sync.Set(ctx, syncMark, strconv.FormatUint(uint64(end), 10),
				0).Err(); err != nil {
				return total, s.db.RedisError("move the mark of synchronised sessions", err)
			}
			mark = end
			s.synced.forget(mark)
		}
		if len(page) < SyncPage {
			return total, nil
		}
	}
}

// readSyncMark returns the mark, 0 when it does not exist.
func (s *Sessions) readSyncMark(ctx context.Context) (uint32, error) {
	v, err := s.db.Redis.Sync.Get(ctx, syncMark).Result()
	if err != nil && err != redis.Nil {
		return 0, s.db.RedisError("read the mark of synchronised sessions", err)
	}
	return uint32(min(redisconn.CountOf(v), 1<<32-1)), nil
}

// chattedGroup is a group with the time of its last message.
type chattedGroup struct{ at, id uint32 }

// chattedGroups returns the groups that follow after in the order of their last messages.
// Groups without messages are left out.
func chattedGroups(ctx context.Context, conn *sql.Conn,
	after chattedGroup) ([]chattedGroup, error) {
	rows, err := conn.QueryContext(ctx, fmt.Sprintf("SELECT lastChated, id FROM IMGroup "+
		"WHERE lastChated>=%[1]d AND lastChated>0 AND (lastChated>%[1]d OR id>%[2]d) AND status=0 "+
		"ORDER BY lastChated, id LIMIT %[3]d", after.at, after.id, SyncPage))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []chattedGroup
	for rows.Next() {
		var g chattedGroup
		if err := rows.Scan(&g.at, &g.id); err != nil {
			return nil, err
		}
		list = append(list, g)
	}
	return list, rows.Err()
}

// syncPageOf writes the sessions of the members of a page of groups.
func (s *Sessions) syncPageOf(ctx context.Context, conn *sql.Conn, lease *schema.Lease,
	page []chattedGroup) (total int, err error) {
	threads := make([]conversation.Thread, len(page))
	for i, g := range page {
		threads[i] = conversation.Thread{Group: true, ID: g.id}
	}
	// Read before the rows: a user that removes a session later has seen at least these
	// messages.
	highest, err := s.ids.Highest(ctx, conn, threads)
	if err != nil {
		return 0, err
	}
	for i, g := range page {
		c := chatted{g.at, highest[threads[i]]}
		if s.synced.has(g.id, c) {
			continue
		}
		if err := lease.Keep(ctx); err != nil {
			return total, err
		}
		var n int
		err := s.db.Retry(ctx, func() (err error) {
			n, err = s.syncGroup(ctx, conn, g.id, c)
			return err
		})
		total += n
		if err != nil {
			return total, err
		}
		s.synced.add(g.id, c)
	}
	return total, nil
}

// syncGroup writes the sessions of a group's members that are missing or older than its
// last message. It lists sessions again that were removed before that message. Members
// that joined after that message are left out.
func (s *Sessions) syncGroup(ctx context.Context, conn *sql.Conn, group uint32,
	c chatted) (int, error) {
	rows, err := conn.QueryContext(ctx, fmt.Sprintf("SELECT m.userId, COALESCE(MAX(r.id), 0) "+
		"FROM IMGroupMember AS m "+
		"LEFT JOIN IMRecentSession AS r ON r.userId=m.userId AND r.peerId=m.groupId AND r.type=%d "+
		"WHERE m.groupId=%d AND m.status=0 "+
		"AND IF(m.joinedAt=GREATEST(m.created, m.updated), m.joinMsgId<%[4]d, "+
		"GREATEST(m.created, m.updated)<=%[3]d) GROUP BY m.userId "+
		"HAVING MAX(r.id) IS NULL OR MAX(r.updated)<%[3]d OR MIN(r.status)<>0",
		pb.SessionType_SESSION_TYPE_GROUP, group, c.at, c.msg))
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var old []uint32
	var fresh []*Touch
	for rows.Next() {
		var user, row uint32
		if err := rows.Scan(&user, &row); err != nil {
			return 0, err
		}
		if row != 0 {
			old = append(old, row)
			continue
		}
		fresh = append(fresh, &Touch{side: &conversation.Side{}, user: user, peer: group,
			kind: pb.SessionType_SESSION_TYPE_GROUP, second: c.at})
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	rows.Close()
	total, err := updateMembers(ctx, conn, old, c)
	if err != nil {
		return total, err
	}
	n, err := s.rows.insertMissing(ctx, conn, fresh)
	return total + n, err
}

// updateMembers updates rows. A removed row is listed again if a message followed the
// removal: a message with a higher id than the last one at the removal. Removals by C++
// servers do not record that id; then a message in a later second than the row counts.
func updateMembers(ctx context.Context, db database.Querier, ids []uint32,
	c chatted) (total int, err error) {
	slices.Sort(ids)
	err = database.InChunks(ids, 1000, func(part []uint32) error {
		res, err := db.ExecContext(ctx, fmt.Sprintf("UPDATE IMRecentSession "+
			"SET status=0, removedMsgId=0, updated=GREATEST(updated, %[2]d) "+
			"WHERE id IN (%[3]s) AND (status=0 AND updated<%[2]d OR status<>0 AND "+
			"IF(removedMsgId>0, removedMsgId<%[1]d, updated<%[2]d))", c.msg, c.at,
			database.Join(part)))
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		total += int(n)
		return err
	})
	return total, err
}
