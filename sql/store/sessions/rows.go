package sessions

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Session rows are the hot spot of the database: each message between two users concerns
// two of them. They hold whole seconds of the store's clock. So the transaction of the
// first message of a conversation in a second writes them, and further messages in that
// second would not change them. When another process removes a session within that
// second, the first message of the next second lists it again. A message to a group
// writes only the row of its sender. SyncSessions writes the rows of the other members
// (sync.go).

// Rows is the part that writes session rows in the transactions of messages.
type Rows struct {
	db            *database.DB
	conversations *conversation.Cache

	senders *lru.Cache[uint64, *conversation.Side] // rows of senders to groups, by senderKey
}

// NewRows makes the part with a cache of the rows of senders to groups.
func NewRows(db *database.DB, conversations *conversation.Cache, size int) (*Rows, error) {
	senders, err := lru.New[uint64, *conversation.Side](size)
	return &Rows{db: db, conversations: conversations, senders: senders}, err
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

// senderKey returns the key of a group member in Rows.senders.
func senderKey(user, group uint32) uint64 { return uint64(user)<<32 | uint64(group) }

// senderSide returns the cached state of a member's session row for a group.
func (s *Rows) senderSide(user, group uint32) *conversation.Side {
	fresh := &conversation.Side{}
	if sd, ok, _ := s.senders.PeekOrAdd(senderKey(user, group), fresh); ok {
		s.senders.Get(senderKey(user, group)) // marks the entry as used
		return sd
	}
	return fresh
}

// Touched returns the session rows of the conversations of messages that are older
// than second, sorted.
func (s *Rows) Touched(batch iter.Seq2[*im.Message, *conversation.Conversation],
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

// Find reads the ids of rows whose ids are unknown.
func (s *Rows) Find(ctx context.Context, touched []*Touch) error {
	return ReadIDs(ctx, s.db.Master, Missing(touched))
}

// Missing returns the touches without a row id.
func Missing(list []*Touch) []*Touch {
	return slices.DeleteFunc(slices.Clone(list), func(t *Touch) bool { return t.row != 0 })
}

// ReadIDs reads the ids of rows. Before finalize a side may have several rows. Then
// the result is the last one, which C++ servers write.
func ReadIDs(ctx context.Context, db database.Querier, list []*Touch) error {
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

// Write updates existing rows and inserts missing ones.
func (s *Rows) Write(ctx context.Context, tx database.Execer, touched []*Touch) error {
	if err := updateRows(ctx, tx, touched); err != nil {
		return err
	}
	return s.insert(ctx, tx, Missing(touched))
}

// updateRows updates rows by primary key, so that no other rows are locked. All rows
// of a transaction have the same second.
func updateRows(ctx context.Context, tx database.Execer, touched []*Touch) error {
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

// insert inserts rows. With the unique key, a row that another process has
// inserted meanwhile is updated.
func (s *Rows) insert(ctx context.Context, db database.Execer, list []*Touch) error {
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

// Forget makes the next message write the session row, whatever its second.
func (s *Rows) Forget(user, peer uint32, group bool) {
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

// insertMissing inserts the rows that do not exist. Before finalize no unique key
// prevents second rows; the lock and another look do.
func (s *Rows) insertMissing(ctx context.Context, conn *sql.Conn,
	fresh []*Touch) (total int, err error) {
	slices.SortFunc(fresh, (*Touch).compare)
	err = database.InChunks(fresh, 1000, func(part []*Touch) error {
		if s.db.Finalized {
			total += len(part)
			return s.insert(ctx, database.Direct{Querier: conn}, part)
		}
		return s.db.Exclusively(ctx, conn, "create", func(tx *sql.Tx) error {
			if err := ReadIDs(ctx, tx, part); err != nil {
				return err
			}
			missing := Missing(part)
			total += len(missing)
			return s.insert(ctx, database.Direct{Querier: tx}, missing)
		})
	})
	return total, err
}
