// Package sessions keeps the users' lists of conversations.
package sessions

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
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/history"
	"teamtalk/sql/store/members"
	"teamtalk/sql/store/unread"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Session rows are the hot spot of the database: each message between two users concerns
// two of them. They hold whole seconds of the store's clock. So the transaction of the
// first message of a conversation in a second writes them, and further messages in that
// second would not change them. When another process removes a session within that
// second, the first message of the next second lists it again. A message to a group
// writes only the row of its sender. SyncSessions writes the rows of the other members
// (sync.go).

// Sessions is the part that stores the users' lists of conversations.
type Sessions struct {
	db            *database.DB
	conversations *conversation.Cache
	ids           *conversation.IDs
	members       *members.Reader
	history       *history.History
	unread        *unread.Counts

	senders *lru.Cache[uint64,
		*conversation.Side] // session rows of senders to groups, by senderKey
	synced syncedGroups
}

// New makes the part with a cache of the rows of senders to groups.
func New(db *database.DB, conversations *conversation.Cache, ids *conversation.IDs,
	members *members.Reader,
	history *history.History, unread *unread.Counts, size int) (*Sessions, error) {
	senders, err := lru.New[uint64, *conversation.Side](size)
	return &Sessions{db: db, conversations: conversations, ids: ids, members: members,
		history: history, unread: unread, senders: senders}, err
}

// Touch is a session row that a transaction writes.
type Touch struct {
	side       *conversation.Side
	user, peer uint32
	kind       pb.SessionType
	second     uint32 // new value of updated
	row        uint32 // its id; 0: does not exist
	removed    uint32 // of side, before the transaction
}

// compare orders rows for writing.
func (t *Touch) compare(o *Touch) int {
	return cmp.Or(cmp.Compare(t.user, o.user), cmp.Compare(t.peer, o.peer),
		cmp.Compare(t.kind, o.kind))
}

// Wrote records, after the commit, the second up to which the row is written.
func (t *Touch) Wrote() {
	t.side.Wrote(t.second, t.removed)
}

// senderKey returns the key of a group member in Sessions.senders.
func senderKey(user, group uint32) uint64 { return uint64(user)<<32 | uint64(group) }

// senderSide returns the cached state of a member's session row for a group.
func (s *Sessions) senderSide(user, group uint32) *conversation.Side {
	fresh := &conversation.Side{}
	if sd, ok, _ := s.senders.PeekOrAdd(senderKey(user, group), fresh); ok {
		s.senders.Get(senderKey(user, group)) // marks the entry as used
		return sd
	}
	return fresh
}

// Touched returns the session rows of the conversations of messages that are older
// than second, sorted.
func (s *Sessions) Touched(batch iter.Seq2[*im.Message, *conversation.Conversation],
	second uint32) []*Touch {
	by := map[*conversation.Side]*Touch{}
	var list []*Touch
	add := func(sd *conversation.Side, user, peer uint32, kind pb.SessionType) {
		if by[sd] != nil {
			return
		}
		if row, removed, older := sd.Before(second); older {
			by[sd] = &Touch{side: sd, user: user, peer: peer, kind: kind, second: second,
				row: row, removed: removed}
			list = append(list, by[sd])
		}
	}
	// each once, although the cache may evict one meanwhile
	senders := map[uint64]*conversation.Side{}
	for m, c := range batch {
		if m.Type.IsGroup() {
			k := senderKey(m.From, m.To)
			if senders[k] == nil {
				senders[k] = s.senderSide(m.From, m.To)
			}
			add(senders[k], m.From, m.To, pb.SessionType_SESSION_TYPE_GROUP)
			continue
		}
		small, big := c.Users()
		add(c.Sides[0], small, big, pb.SessionType_SESSION_TYPE_SINGLE)
		add(c.Sides[1], big, small, pb.SessionType_SESSION_TYPE_SINGLE)
	}
	slices.SortFunc(list, (*Touch).compare)
	return list
}

// FindRows reads the ids of rows whose ids are unknown.
func (s *Sessions) FindRows(ctx context.Context, touched []*Touch) error {
	return ReadRows(ctx, s.db.Master, MissingRows(touched))
}

// MissingRows returns the touches without a row id.
func MissingRows(list []*Touch) []*Touch {
	return slices.DeleteFunc(slices.Clone(list), func(t *Touch) bool { return t.row != 0 })
}

// ReadRows reads the ids of rows. Before finalize a side may have several rows. Then
// the result is the last one, which C++ servers write.
func ReadRows(ctx context.Context, db database.Querier, list []*Touch) error {
	type key struct {
		user, peer uint32
		kind       pb.SessionType
	}
	return database.InChunks(list, database.Chunk, func(part []*Touch) error {
		by := make(map[key]*Touch, len(part))
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
			t.side.SetRow(t.row)
		}
		return nil
	})
}

// WriteRows updates existing rows and inserts missing ones.
func (s *Sessions) WriteRows(ctx context.Context, tx database.Execer, touched []*Touch) error {
	if err := updateSessions(ctx, tx, touched); err != nil {
		return err
	}
	return s.insertSessions(ctx, tx, MissingRows(touched))
}

// updateSessions updates rows by primary key, so that no other rows are locked. All rows
// of a transaction have the same second.
func updateSessions(ctx context.Context, tx database.Execer, touched []*Touch) error {
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
	return tx.Add(ctx, fmt.Appendf(nil, "UPDATE IMRecentSession "+
		"SET status=0, removedMsgId=0, updated=GREATEST(updated, %d) WHERE id IN (%s)", second,
		database.Join(ids)))
}

// insertSessions inserts rows. With the unique key, a row that another process has
// inserted meanwhile is updated.
func (s *Sessions) insertSessions(ctx context.Context, db database.Execer, list []*Touch) error {
	return database.InChunks(list, 1000, func(part []*Touch) error {
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
		if s.db.Finalized {
			b = append(b, " ON DUPLICATE KEY UPDATE status=0, removedMsgId=0, "+
				"updated=GREATEST(updated, VALUES(updated))"...)
		}
		return db.Add(ctx, b)
	})
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
	s.Forget(user, peer, group)
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

// Forget makes the next message write the session row, whatever its second.
func (s *Sessions) Forget(user, peer uint32, group bool) {
	var sd *conversation.Side
	if group {
		sd, _ = s.senders.Peek(senderKey(user, peer))
	} else {
		sd = s.conversations.SideOf(user, peer)
	}
	if sd != nil {
		sd.Forget()
	}
}
