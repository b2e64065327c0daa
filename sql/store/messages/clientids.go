package messages

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/database"
)

// clientKey identifies a client_msg_id, which belongs to its sender and recipient.
type clientKey struct {
	from, to uint32
	toType   pb.SessionType
	id       string
	sentAs   uint32 // of a message without a client_msg_id: id is its content
}

func (it *item) clientKey() clientKey {
	return clientKey{from: it.m.From, to: it.m.To, toType: it.sessionType(),
		id: string(it.m.ClientID)}
}

// clientIDLimit returns the creation time up to which client_msg_ids have expired.
func (s *Messages) clientIDLimit() int64 { return s.db.Time().Unix() - im.ClientIDTTL }

// findSent marks the messages whose client_msg_id is stored, and has not expired, as
// duplicates.
func (s *Messages) findSent(ctx context.Context, items []*item) error {
	var named []*item
	for _, it := range items {
		if len(it.m.ClientID) > 0 {
			named = append(named, it)
		}
	}
	if len(named) == 0 {
		return nil
	}
	type sent struct{ id, created uint32 }
	found := map[clientKey]sent{}
	err := database.InChunks(named, database.Chunk, func(part []*item) error {
		var q strings.Builder
		q.WriteString("SELECT fromId, toId, toType, clientMsgId, msgId, created " +
			"FROM IMClientMsgId WHERE ")
		for i, it := range part {
			if i > 0 {
				q.WriteString(" OR ")
			}
			fmt.Fprintf(&q, "(fromId=%d AND toId=%d AND clientMsgId=x'%x' AND toType=%d)",
				it.m.From, it.m.To, it.m.ClientID, it.sessionType())
		}
		rows, err := s.db.Master.QueryContext(ctx, q.String())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var k clientKey
			var v sent
			if err := rows.Scan(&k.from, &k.to, &k.toType, &k.id, &v.id, &v.created); err != nil {
				return err
			}
			found[k] = v
		}
		return rows.Err()
	})
	if err != nil {
		return s.db.SQLError("look up client message ids", err)
	}
	limit := s.clientIDLimit()
	for _, it := range named {
		v, ok := found[it.clientKey()]
		it.stale = ok && int64(v.created) <= limit
		if ok && !it.stale {
			it.m.ID, it.m.Duplicate, it.m.FirstCreated = v.id, true, v.created
		}
	}
	return nil
}

// splitRepeated removes from items, and returns, the messages that repeat an earlier one:
// its client_msg_id, or how its client numbered it.
func splitRepeated(items *[]*item) []*item {
	resent := slices.ContainsFunc(*items, func(it *item) bool { return mayBeResent(it.m) })
	var repeated []*item
	var seen map[clientKey]*item
	*items = slices.DeleteFunc(*items, func(it *item) bool {
		var k clientKey
		switch {
		case len(it.m.ClientID) > 0:
			k = it.clientKey()
		case resent && it.m.SentAs != 0:
			k = it.sentKey()
		default:
			return false
		}
		if seen == nil {
			seen = map[clientKey]*item{}
		}
		if first := seen[k]; first != nil && (k.sentAs == 0 || mayBeResent(it.m)) {
			it.first = first
			repeated = append(repeated, it)
			return true
		}
		seen[k] = it
		return false
	})
	return repeated
}

// answerRepeated gives each repetition the id of the first message, and returns the
// repetitions whose first message was not stored.
func answerRepeated(repeated []*item) []*item {
	return slices.DeleteFunc(repeated, func(it *item) bool {
		if it.first.m.Err != nil {
			return false
		}
		it.m.ID, it.m.Duplicate = it.first.m.ID, true
		it.m.FirstCreated = it.first.m.Created
		if it.first.m.Duplicate {
			it.m.FirstCreated = it.first.m.FirstCreated
		}
		return true
	})
}

// writeClientIDs stores the client_msg_ids of items.
func (s *Messages) writeClientIDs(ctx context.Context, tx database.Execer, items []*item) error {
	var named []*item
	stale := false
	for _, it := range items {
		if len(it.m.ClientID) > 0 {
			named = append(named, it)
			stale = stale || it.stale
		}
	}
	if len(named) == 0 {
		return nil
	}
	slices.SortFunc(named, func(a, b *item) int {
		return cmp.Or(cmp.Compare(a.m.From, b.m.From), cmp.Compare(a.m.To, b.m.To),
			slices.Compare(a.m.ClientID, b.m.ClientID),
			cmp.Compare(a.sessionType(), b.sessionType()))
	})
	if stale {
		if err := s.removeStale(ctx, tx, named); err != nil {
			return err
		}
	}
	now := s.db.Time().Unix()
	b := []byte("INSERT INTO IMClientMsgId " +
		"(fromId,toId,toType,relateId,msgId,created,clientMsgId) VALUES ")
	for i, it := range named {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "(%d,%d,%d,%d,%d,%d,x'%x')", it.m.From, it.m.To, it.sessionType(),
			it.c.Thread.ID, it.id, now, it.m.ClientID)
	}
	return tx.Add(ctx, b)
}

// removeStale deletes the expired rows whose client_msg_ids are about to be stored again.
func (s *Messages) removeStale(ctx context.Context, tx database.Execer, named []*item) error {
	for _, it := range named {
		if !it.stale {
			continue
		}
		err := tx.Add(ctx, fmt.Appendf(nil, "DELETE FROM IMClientMsgId "+
			"WHERE fromId=%d AND toId=%d AND clientMsgId=x'%x' AND toType=%d AND created<=%d",
			it.m.From, it.m.To, it.m.ClientID, it.sessionType(), s.clientIDLimit()))
		if err != nil {
			return err
		}
	}
	return nil
}

// ForgetClientIDs deletes expired client_msg_ids, at most 1,000 per statement.
func (s *Messages) ForgetClientIDs(ctx context.Context) error {
	for {
		res, err := s.db.Master.ExecContext(ctx, fmt.Sprintf("DELETE FROM IMClientMsgId "+
			"WHERE created<=%d LIMIT 1000", s.clientIDLimit()))
		if database.Transient(err) {
			return nil // another process, which works at the same times, has removed some
		}
		if err != nil {
			return s.db.SQLError("remove old client message ids", err)
		}
		if n, err := res.RowsAffected(); err != nil || n < 1000 {
			return err
		}
	}
}
