package schema

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"

	"teamtalk/core/im"
)

// relation is a row of IMRelationShip, with the number of its messages.
type relation struct {
	id, status, created, updated uint32
	messages                     int
}

// stored is the part of a message that concerns its id.
type stored struct {
	table   string
	id      uint32 // primary key
	relate  uint32
	msgID   uint32
	created uint32
	newID   uint32 // the msgId that it gets
}

// messageTable returns the table of a relation's messages.
func messageTable(relate uint32) string { return fmt.Sprintf("IMMessage_%d", relate%Tables) }

// mergeRelations leaves one row for each pair of users, which gets all messages of the
// pair.
func (r *run) mergeRelations(ctx context.Context) error {
	list, err := r.pairsOf(ctx,
		"SELECT smallId, bigId, 0 FROM IMRelationShip GROUP BY smallId, bigId HAVING COUNT(*)>1 "+
			"ORDER BY smallId, bigId")
	if err != nil {
		return fmt.Errorf("look for duplicate relations: %w", err)
	}
	for _, pair := range list {
		var moved, renumbered int
		err := r.inTx(ctx, func(tx *sql.Tx) error {
			var err error
			moved, renumbered, err = r.mergePair(ctx, tx, pair[0], pair[1])
			return err
		})
		if err != nil {
			return fmt.Errorf("merge relations of users %d and %d: %w", pair[0], pair[1], err)
		}
		r.say("relation of users %d and %d: merged; %d messages moved, %d of them with a new id",
			pair[0], pair[1], moved, renumbered)
	}
	return nil
}

// mergePair moves the messages of a pair's other relations to the relation that is kept.
//
// It keeps the relation with most messages, so that the fewest messages move. A moved
// message keeps its msgId if the id is free. Otherwise it gets an id after the
// conversation's last, in order of time. Clients identify messages by id: with a new id
// for a message that a client has, the client would show it twice, and with the id of
// another message it would hide one. The time of a message does not change, so clients
// that sort by time show it in its place.
func (r *run) mergePair(ctx context.Context, tx *sql.Tx, small, big uint32) (moved, renumbered int,
	err error) {
	rels, err := relationsOf(ctx, tx, small, big)
	if err != nil || len(rels) < 2 {
		return 0, 0, err
	}
	keep := slices.MaxFunc(rels, func(a, b relation) int {
		return cmp.Or(cmp.Compare(a.messages, b.messages), cmp.Compare(b.status, a.status),
			cmp.Compare(a.updated, b.updated), cmp.Compare(a.id, b.id))
	})
	present, err := storedUnder(ctx, tx, messageTable(keep.id), "relateId", keep.id)
	if err != nil {
		return 0, 0, err
	}
	taken := make(map[uint32]bool, len(present))
	for _, m := range present {
		taken[m.msgID] = true
	}
	var moving []stored
	for _, rel := range rels {
		if rel.id == keep.id {
			continue
		}
		ms, err := storedUnder(ctx, tx, messageTable(rel.id), "relateId", rel.id)
		if err != nil {
			return 0, 0, err
		}
		moving = append(moving, ms...)
	}
	highest, renumbered, err := assign(taken, moving)
	if err != nil {
		return 0, 0, err
	}
	if err := r.raise(ctx, Conversation{ID: keep.id}, highest); err != nil {
		return 0, 0, err
	}
	for _, m := range moving {
		if err := move(ctx, tx, m, keep.id); err != nil {
			return 0, 0, fmt.Errorf("move message %d of %s: %w", m.id, m.table, err)
		}
	}
	return len(moving), renumbered, dropRelations(ctx, tx, keep, rels)
}

// relationsOf returns a pair's relations, and locks them.
func relationsOf(ctx context.Context, tx *sql.Tx, small, big uint32) ([]relation, error) {
	rows, err := tx.QueryContext(ctx,
		"SELECT id, COALESCE(status, 0), created, updated FROM IMRelationShip WHERE smallId=? "+
			"AND bigId=? ORDER BY id FOR UPDATE", small, big)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var rels []relation
	for rows.Next() {
		var rel relation
		if err := rows.Scan(&rel.id, &rel.status, &rel.created, &rel.updated); err != nil {
			return nil, err
		}
		rels = append(rels, rel)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	rows.Close()
	for i := range rels {
		query := "SELECT COUNT(*) FROM " + messageTable(rels[i].id) + " WHERE relateId=?"
		if err := tx.QueryRowContext(ctx, query, rels[i].id).Scan(&rels[i].messages); err != nil {
			return nil, err
		}
	}
	return rels, nil
}

// dropRelations deletes the rows that are merged into keep. keep is not removed if any of
// them was not, and gets the oldest creation time.
func dropRelations(ctx context.Context, tx *sql.Tx, keep relation, rels []relation) error {
	var gone []string
	for _, rel := range rels {
		keep.status = min(keep.status, rel.status)
		keep.created = min(keep.created, rel.created)
		keep.updated = max(keep.updated, rel.updated)
		if rel.id != keep.id {
			gone = append(gone, fmt.Sprint(rel.id))
		}
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM IMRelationShip WHERE id IN ("+
		strings.Join(gone, ",")+")"); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx,
		"UPDATE IMRelationShip SET status=?, created=?, updated=? WHERE id=?", keep.status,
		keep.created, keep.updated, keep.id)
	return err
}

// storedUnder returns the messages of a conversation, and locks them. It includes deleted
// messages, which have ids as well.
func storedUnder(ctx context.Context, tx *sql.Tx, table, column string, id uint32) ([]stored,
	error) {
	rows, err := tx.QueryContext(ctx, "SELECT id, msgId, created FROM "+table+" WHERE "+column+
		"=? FOR UPDATE", id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []stored
	for rows.Next() {
		m := stored{table: table, relate: id}
		if err := rows.Scan(&m.id, &m.msgID, &m.created); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, rows.Err()
}

// assign gives every message a unique id. A message keeps its own id if the id is free,
// the earliest message first. Otherwise it gets an id after the highest, in order of
// time. assign returns the highest id then in use.
func assign(taken map[uint32]bool, ms []stored) (highest uint32, renumbered int, err error) {
	slices.SortFunc(ms, func(a, b stored) int {
		return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.msgID, b.msgID),
			cmp.Compare(a.table, b.table), cmp.Compare(a.id, b.id))
	})
	var late []*stored
	for i := range ms {
		m := &ms[i]
		m.newID = m.msgID
		if taken[m.msgID] {
			late = append(late, m)
		}
		taken[m.msgID] = true
	}
	for id := range taken {
		highest = max(highest, id)
	}
	if uint64(highest)+uint64(len(late)) > math.MaxUint32 {
		return 0, 0, im.Errorf(im.Invalid, "no message ids are left above %d", highest)
	}
	for _, m := range late {
		highest++
		m.newID = highest
	}
	return highest, len(late), nil
}

// move moves a message to another relation, into that relation's table, and updates its
// row of IMClientMsgId.
func move(ctx context.Context, tx *sql.Tx, m stored, relate uint32) error {
	_, err := tx.ExecContext(ctx,
		"UPDATE IMClientMsgId SET relateId=?, msgId=? WHERE relateId=? AND msgId=? AND toType=1",
		relate, m.newID, m.relate, m.msgID)
	if err != nil {
		return err
	}
	table := messageTable(relate)
	if table == m.table {
		_, err := tx.ExecContext(ctx, "UPDATE "+table+" SET relateId=?, msgId=? WHERE id=?", relate,
			m.newID, m.id)
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO "+table+
		" (relateId, fromId, toId, msgId, content, type, status, updated, created) "+
		"SELECT ?, fromId, toId, ?, content, type, status, updated, created FROM "+m.table+
		" WHERE id=?", relate, m.newID, m.id)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM "+m.table+" WHERE id=?", m.id)
	return err
}

// splitMessageIDs gives each message of a table a msgId that is unique in its
// conversation. Of several messages with one id the earliest keeps it. Such ids are given
// after Redis has lost a counter, so the later messages are newer, and get ids after the
// conversation's last.
func (r *run) splitMessageIDs(ctx context.Context, table string) error {
	column, group := "relateId", strings.HasPrefix(table, "IMGroupMessage_")
	if group {
		column = "groupId"
	}
	list, err := r.pairsOf(ctx,
		fmt.Sprintf(
			"SELECT DISTINCT %[1]s, 0, 0 FROM (SELECT %[1]s FROM %[2]s GROUP BY %[1]s, msgId "+
				"HAVING COUNT(*)>1) AS d ORDER BY %[1]s", column, table))
	if err != nil {
		return fmt.Errorf("look for duplicate message ids in %s: %w", table, err)
	}
	for _, c := range list {
		var renumbered int
		err := r.inTx(ctx, func(tx *sql.Tx) error {
			var err error
			renumbered, err = r.splitConversation(ctx, tx, table, column,
				Conversation{Group: group, ID: c[0]})
			return err
		})
		if err != nil {
			return fmt.Errorf("give new message ids in %s to %s %d: %w", table, column, c[0], err)
		}
		r.say("%s: %s %d: %d messages get a new id", table, column, c[0], renumbered)
	}
	return nil
}

// splitConversation gives unique ids to the messages of one conversation.
func (r *run) splitConversation(ctx context.Context, tx *sql.Tx, table, column string,
	c Conversation) (int, error) {
	ms, err := storedUnder(ctx, tx, table, column, c.ID)
	if err != nil {
		return 0, err
	}
	highest, renumbered, err := assign(map[uint32]bool{}, ms)
	if err != nil {
		return 0, err
	}
	if err := r.raise(ctx, c, highest); err != nil {
		return 0, err
	}
	for _, m := range ms {
		if m.newID == m.msgID {
			continue
		}
		if _, err := tx.ExecContext(ctx, "UPDATE "+table+" SET msgId=? WHERE id=?", m.newID,
			m.id); err != nil {
			return 0, err
		}
	}
	if c.Group {
		// Messages from before a member joined may have got ids after joinMsgId.
		_, err = tx.ExecContext(ctx, "UPDATE IMGroupMember SET joinedAt=0 WHERE groupId=?", c.ID)
	}
	return renumbered, err
}

// raise raises a conversation's counter to highest. It precedes the commit: a counter
// above the messages is harmless, and one below them gives ids twice.
func (r *run) raise(ctx context.Context, c Conversation, highest uint32) error {
	if r.o.RaiseCounter == nil {
		return nil
	}
	if err := r.o.RaiseCounter(ctx, c, highest); err != nil {
		return fmt.Errorf("raise the counter: %w", err)
	}
	return nil
}
