package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Session rows are the table's hot spot: each message concerns two of them. They count whole seconds, so they are written in the transaction of
// the first message of a conversation's second; the messages that follow within it would change nothing. (A session that another process
// removes within that very second comes back with the first message of the next.)

// touch is a conversation whose session rows a transaction writes.
type touch struct {
	c      *conversation
	second uint32    // new value of updated
	rows   [2]uint32 // ids of the smaller and the bigger user's row; 0: not there
}

// touchedSessions returns the conversations with a message newer than their session rows, sorted.
func touchedSessions(items []*item) []*touch {
	by := map[*conversation]*touch{}
	var list []*touch
	for _, it := range items {
		it.c.mu.Lock()
		second, rows := it.c.second, it.c.rows
		it.c.mu.Unlock()
		if it.m.Created <= second {
			continue
		}
		t := by[it.c]
		if t == nil {
			t = &touch{c: it.c, rows: rows}
			by[it.c] = t
			list = append(list, t)
		}
		t.second = max(t.second, it.m.Created)
	}
	slices.SortFunc(list, func(a, b *touch) int { return cmp.Compare(a.c.key, b.c.key) })
	return list
}

// findSessions fills in ids of rows that are not known.
func (s *Store) findSessions(ctx context.Context, touched []*touch) error {
	unknown := slices.DeleteFunc(slices.Clone(touched), func(t *touch) bool { return t.rows[0] != 0 && t.rows[1] != 0 })
	return readSessions(ctx, s.master, unknown)
}

// readSessions reads the ids of both sides' rows. Before finalize a side may have several: then it is the one that C++ servers write, the
// last.
func readSessions(ctx context.Context, db querier, list []*touch) error {
	return inChunks(list, chunk/2, func(part []*touch) error {
		by := make(map[uint64]*touch, len(part))
		var q strings.Builder
		fmt.Fprintf(&q, "SELECT id, userId, peerId FROM IMRecentSession WHERE type=%d AND (", pb.SessionType_SESSION_TYPE_SINGLE)
		for i, t := range part {
			if i > 0 {
				q.WriteString(" OR ")
			}
			small, big := sides(t.c.key)
			fmt.Fprintf(&q, "(userId=%d AND peerId=%d) OR (userId=%d AND peerId=%d)", small, big, big, small)
			by[t.c.key] = t
		}
		q.WriteByte(')')
		rows, err := db.QueryContext(ctx, q.String())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id, user, peer uint32
			if err := rows.Scan(&id, &user, &peer); err != nil {
				return err
			}
			t, side := by[im.ConversationKey(user, peer)], 0
			if user > peer {
				side = 1
			}
			t.rows[side] = max(t.rows[side], id)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, t := range part {
			t.c.mu.Lock()
			t.c.rows = t.rows
			t.c.mu.Unlock()
		}
		return nil
	})
}

// writeSessions brings both sides' rows up to date, or makes them.
func (s *Store) writeSessions(ctx context.Context, tx *sql.Tx, touched []*touch) error {
	missing := func(t *touch) bool { return t.rows[0] == 0 || t.rows[1] == 0 }
	fresh := slices.DeleteFunc(slices.Clone(touched), func(t *touch) bool { return !missing(t) })
	if len(fresh) > 0 && !s.finalized {
		// Under the lock: whoever made one has committed it.
		if err := readSessions(ctx, tx, fresh); err != nil {
			return err
		}
	}
	if err := updateSessions(ctx, tx, touched); err != nil {
		return err
	}
	return s.insertSessions(ctx, tx, slices.DeleteFunc(fresh, func(t *touch) bool { return !missing(t) }))
}

// updateSessions updates the rows whose ids are known: by primary key, so that nothing else is locked.
func updateSessions(ctx context.Context, tx *sql.Tx, touched []*touch) error {
	bySecond := map[uint32][]uint32{}
	for _, t := range touched {
		for _, id := range t.rows {
			if id != 0 {
				bySecond[t.second] = append(bySecond[t.second], id)
			}
		}
	}
	seconds := make([]uint32, 0, len(bySecond))
	for second := range bySecond {
		seconds = append(seconds, second)
	}
	slices.Sort(seconds)
	for _, second := range seconds {
		ids := bySecond[second]
		slices.Sort(ids)
		_, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE IMRecentSession SET status=0, updated=GREATEST(updated, %d) WHERE id IN (%s)", second, join(ids)))
		if err != nil {
			return err
		}
	}
	return nil
}

// insertSessions makes rows of both sides. One that another process made meanwhile is updated, where the unique key tells.
func (s *Store) insertSessions(ctx context.Context, tx *sql.Tx, list []*touch) error {
	if len(list) == 0 {
		return nil
	}
	type row struct{ user, peer, second uint32 }
	var rows []row
	for _, t := range list {
		small, big := sides(t.c.key)
		if t.rows[0] == 0 {
			rows = append(rows, row{small, big, t.second})
		}
		if t.rows[1] == 0 {
			rows = append(rows, row{big, small, t.second})
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.peer, b.peer)) })
	b := []byte("INSERT INTO IMRecentSession (userId,peerId,type,status,created,updated) VALUES ")
	for i, r := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '(')
		for _, v := range [...]uint32{r.user, r.peer, uint32(pb.SessionType_SESSION_TYPE_SINGLE), 0, r.second} {
			b = strconv.AppendUint(b, uint64(v), 10)
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(r.second), 10)
		b = append(b, ')')
	}
	if s.finalized {
		b = append(b, " ON DUPLICATE KEY UPDATE status=0, updated=GREATEST(updated, VALUES(updated))"...)
	}
	_, err := tx.ExecContext(ctx, string(b))
	return err
}
