package store

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"teamtalk/core/im"
	"teamtalk/proto/pb"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Session rows are the hot spot of the database: each message between two users concerns
// two of them. They hold whole seconds of the store's clock. So the transaction of the
// first message of a conversation in a second writes them, and further messages in that
// second would not change them. When another process removes a session within that
// second, the first message of the next second lists it again. A message to a group
// writes only the row of its sender. SyncSessions writes the rows of the other members
// (sync.go).

// sessions is the part that stores the users' lists of conversations.
type sessions struct {
	db            *databases
	conversations *conversations
	ids           *messageIDs
	members       *members
	history       *history
	unread        *unread

	senders *lru.Cache[uint64, *side] // session rows of senders to groups, by senderKey
	synced  syncedGroups
}

// newSessions makes the part with a cache of the rows of senders to groups.
func newSessions(db *databases, conversations *conversations, ids *messageIDs, members *members,
	history *history, unread *unread, size int) (*sessions, error) {
	senders, err := lru.New[uint64, *side](size)
	return &sessions{db: db, conversations: conversations, ids: ids, members: members,
		history: history, unread: unread, senders: senders}, err
}

// touch is a session row that a transaction writes.
type touch struct {
	side       *side
	user, peer uint32
	kind       pb.SessionType
	second     uint32 // new value of updated
	row        uint32 // its id; 0: does not exist
	removed    uint32 // side.removed before the transaction
}

// compare orders rows for writing.
func (t *touch) compare(o *touch) int {
	return cmp.Or(cmp.Compare(t.user, o.user), cmp.Compare(t.peer, o.peer),
		cmp.Compare(t.kind, o.kind))
}

// wrote records, after the commit, the second up to which the row is written.
func (t *touch) wrote() {
	t.side.wrote(t.second, t.removed)
}

// senderKey returns the key of a group member in sessions.senders.
func senderKey(user, group uint32) uint64 { return uint64(user)<<32 | uint64(group) }

// senderSide returns the cached state of a member's session row for a group.
func (s *sessions) senderSide(user, group uint32) *side {
	fresh := &side{}
	if sd, ok, _ := s.senders.PeekOrAdd(senderKey(user, group), fresh); ok {
		s.senders.Get(senderKey(user, group)) // marks the entry as used
		return sd
	}
	return fresh
}

// touchedSessions returns the session rows of the conversations of messages that are older
// than second, sorted.
func (s *sessions) touchedSessions(batch iter.Seq2[*im.Message, *conversation],
	second uint32) []*touch {
	by := map[*side]*touch{}
	var list []*touch
	add := func(sd *side, user, peer uint32, kind pb.SessionType) {
		if by[sd] != nil {
			return
		}
		if row, removed, older := sd.before(second); older {
			by[sd] = &touch{side: sd, user: user, peer: peer, kind: kind, second: second,
				row: row, removed: removed}
			list = append(list, by[sd])
		}
	}
	senders := map[uint64]*side{} // each once, although the cache may evict one meanwhile
	for m, c := range batch {
		if m.Type.IsGroup() {
			k := senderKey(m.From, m.To)
			if senders[k] == nil {
				senders[k] = s.senderSide(m.From, m.To)
			}
			add(senders[k], m.From, m.To, pb.SessionType_SESSION_TYPE_GROUP)
			continue
		}
		small, big := c.users()
		add(c.sides[0], small, big, pb.SessionType_SESSION_TYPE_SINGLE)
		add(c.sides[1], big, small, pb.SessionType_SESSION_TYPE_SINGLE)
	}
	slices.SortFunc(list, (*touch).compare)
	return list
}

// findSessions reads the ids of rows whose ids are unknown.
func (s *sessions) findSessions(ctx context.Context, touched []*touch) error {
	return readSessions(ctx, s.db.master, missingRows(touched))
}

// missingRows returns the touches without a row id.
func missingRows(list []*touch) []*touch {
	return slices.DeleteFunc(slices.Clone(list), func(t *touch) bool { return t.row != 0 })
}

// readSessions reads the ids of rows. Before finalize a side may have several rows. Then
// the result is the last one, which C++ servers write.
func readSessions(ctx context.Context, db querier, list []*touch) error {
	type key struct {
		user, peer uint32
		kind       pb.SessionType
	}
	return inChunks(list, chunk, func(part []*touch) error {
		by := make(map[key]*touch, len(part))
		var q strings.Builder
		q.WriteString("SELECT id, userId, peerId, type FROM IMRecentSession WHERE ")
		for i, t := range part {
			if i > 0 {
				q.WriteString(" OR ")
			}
			fmt.Fprintf(&q, "(userId=%d AND peerId=%d AND type=%d)", t.user, t.peer, t.kind)
			by[key{t.user, t.peer, t.kind}] = t
		}
		rows, err := db.QueryContext(ctx, q.String())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id uint32
			var k key
			if err := rows.Scan(&id, &k.user, &k.peer, &k.kind); err != nil {
				return err
			}
			by[k].row = max(by[k].row, id)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, t := range part {
			t.side.setRow(t.row)
		}
		return nil
	})
}

// writeSessions updates existing rows and inserts missing ones.
func (s *sessions) writeSessions(ctx context.Context, tx execer, touched []*touch) error {
	if err := updateSessions(ctx, tx, touched); err != nil {
		return err
	}
	return s.insertSessions(ctx, tx, missingRows(touched))
}

// updateSessions updates rows by primary key, so that no other rows are locked. All rows
// of a transaction have the same second.
func updateSessions(ctx context.Context, tx execer, touched []*touch) error {
	var second uint32
	var ids []uint32
	for _, t := range touched {
		if t.row != 0 {
			second, ids = t.second, append(ids, t.row)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	return tx.add(ctx, fmt.Appendf(nil, "UPDATE IMRecentSession "+
		"SET status=0, removedMsgId=0, updated=GREATEST(updated, %d) WHERE id IN (%s)", second,
		join(ids)))
}

// insertSessions inserts rows. With the unique key, a row that another process has
// inserted meanwhile is updated.
func (s *sessions) insertSessions(ctx context.Context, db execer, list []*touch) error {
	return inChunks(list, 1000, func(part []*touch) error {
		b := []byte("INSERT INTO IMRecentSession (userId,peerId,type,status,created,updated) " +
			"VALUES ")
		for i, t := range part {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, '(')
			for _, v := range [...]uint32{t.user, t.peer, uint32(t.kind), 0, t.second} {
				b = strconv.AppendUint(b, uint64(v), 10)
				b = append(b, ',')
			}
			b = strconv.AppendUint(b, uint64(t.second), 10)
			b = append(b, ')')
		}
		if s.db.finalized {
			b = append(b, " ON DUPLICATE KEY UPDATE status=0, removedMsgId=0, "+
				"updated=GREATEST(updated, VALUES(updated))"...)
		}
		return db.add(ctx, b)
	})
}

// RemoveSession removes a conversation from a user's list; see im.MessageStore. It clears
// the count first, so that a message that arrives meanwhile stays counted.
func (s *sessions) RemoveSession(ctx context.Context, user, peer uint32, t pb.SessionType) error {
	group := t == pb.SessionType_SESSION_TYPE_GROUP
	ids, err := s.listedRows(ctx, user, peer, t)
	if err != nil {
		return s.db.dbError("look up session", err)
	}
	if len(ids) == 0 {
		return errNoSession(user, peer)
	}
	last := uint32(0)
	if group {
		of := thread{group: true, id: peer}
		highest, err := s.ids.highestIDs(ctx, s.db.master, []thread{of})
		if err != nil {
			return err
		}
		last = highest[of]
		if err := s.unread.clearGroup(ctx, user, peer); err != nil {
			return err
		}
	} else if err := s.unread.ClearUnread(ctx, user, peer); err != nil {
		return err
	}
	var found int64
	err = s.db.retry(ctx, func() error {
		res, err := s.db.master.ExecContext(ctx, fmt.Sprintf("UPDATE IMRecentSession "+
			"SET status=1, removedMsgId=%d WHERE id IN (%s) AND status=0", last, join(ids)))
		if err == nil {
			found, err = res.RowsAffected()
		}
		return err
	})
	if err != nil {
		return s.db.dbError("remove session", err)
	}
	s.forgetSide(user, peer, group)
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
func (s *sessions) listedRows(ctx context.Context, user, peer uint32,
	t pb.SessionType) ([]uint32, error) {
	return numbers(ctx, s.db.master, fmt.Sprintf("SELECT id FROM IMRecentSession "+
		"WHERE userId=%d AND peerId=%d AND type=%d AND status=0 ORDER BY id", user, peer, t))
}

// forgetSide makes the next message write the session row, whatever its second.
func (s *sessions) forgetSide(user, peer uint32, group bool) {
	var sd *side
	if group {
		sd, _ = s.senders.Peek(senderKey(user, peer))
	} else {
		sd = s.conversations.sideOf(user, peer)
	}
	if sd != nil {
		sd.forget()
	}
}
