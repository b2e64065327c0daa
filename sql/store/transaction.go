package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/schema"
)

// store commits items that have ids. What the database refuses is cut in two until the message at fault stands alone.
func (s *Store) store(ctx context.Context, sl *slot, items []*item) {
	for try := 1; len(items) > 0; try++ {
		err := s.commit(ctx, sl, items)
		if err == nil {
			s.done(ctx, sl, items)
			return
		}
		if try < transactionTries && ctx.Err() == nil {
			var again bool
			if items, again = s.mend(ctx, items, err, try); again {
				continue
			}
		}
		if everyone(err) || len(items) == 1 {
			failItems(items, s.dbError("store messages", err))
			return
		}
		s.m.bisects.Inc()
		half := len(items) / 2
		s.store(ctx, sl, items[:half])
		s.store(ctx, sl, items[half:])
		return
	}
}

// mend does something about an error of a transaction that makes it worth to run again, and says so. Items that turn out to be stored already
// leave the list.
func (s *Store) mend(ctx context.Context, items []*item, err error, try int) ([]*item, bool) {
	if transient(err) {
		s.m.retries.Inc()
		return items, pause(ctx, try) == nil
	}
	switch duplicateKey(err) {
	case "uniq_relateId_msgId":
		// Redis gave ids that are taken: it lost its counters without our noticing.
		for _, it := range items {
			it.c.mu.Lock()
			it.c.verified = 0
			it.c.mu.Unlock()
		}
		if err := s.number(ctx, items); err != nil {
			failItems(items, err)
			return nil, true
		}
		return items, true
	case "PRIMARY":
		// A client_msg_id that another process stored since we looked.
		if err := s.findSent(ctx, items); err != nil {
			failItems(items, err)
			return nil, true
		}
		left := slices.DeleteFunc(slices.Clone(items), func(it *item) bool { return it.m.Duplicate })
		return left, len(left) < len(items)
	}
	return items, false
}

// done notes what is known after a commit, and has the unread counts applied.
func (s *Store) done(ctx context.Context, sl *slot, items []*item) {
	for _, it := range items {
		it.m.ID = it.id
		s.wroteTo(it.m.From, it.m.To)
		it.c.mu.Lock()
		it.c.second = max(it.c.second, it.m.Created)
		it.c.mu.Unlock()
	}
	s.settle(ctx, sl, countsOf(items))
}

// commit stores items in one transaction: their rows, session rows, client_msg_ids and what is owed to the unread counts.
func (s *Store) commit(ctx context.Context, sl *slot, items []*item) error {
	touched := touchedSessions(items)
	if err := s.findSessions(ctx, touched); err != nil {
		return err
	}
	conn, err := s.master.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	fresh := slices.ContainsFunc(touched, func(t *touch) bool { return t.rows[0] == 0 || t.rows[1] == 0 })
	if fresh && !s.finalized {
		// No unique key keeps out a second session row: the lock does, until the commit.
		if err := s.lock(ctx, conn, "create"); err != nil {
			return err
		}
		defer s.unlock(conn, "create")
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	sl.seq++
	counts := countsOf(items)
	if err := s.write(ctx, tx, sl, items, touched, counts); err != nil {
		tx.Rollback() // when it fails the connection is gone, and the transaction with it
		return err
	}
	return s.finish(ctx, conn, tx, sl, counts)
}

// finish commits. When the connection is lost over it, the outcome is looked up.
func (s *Store) finish(ctx context.Context, conn *sql.Conn, tx *sql.Tx, sl *slot, counts []count) error {
	commit := tx.Commit
	if s.o.hooks.commit != nil {
		commit = func() error { return s.o.hooks.commit(tx) }
	}
	err := commit()
	if err == nil || mysqlError(err) != nil && !lostConnection(err) {
		return err
	}
	conn.Raw(func(any) error { return errDiscard })
	conn.Close() // the look needs a connection, and there may be only one
	committed, lookErr := s.committed(ctx, sl, counts)
	if lookErr != nil {
		// Not known: the counts stay with the row, if there is one.
		s.retire(sl)
		return im.WithKind(im.Unavailable, "connection lost while committing", errors.Join(errOutcome, err, lookErr))
	}
	if committed {
		return nil
	}
	return err
}

// outcomeTimeout is how long the outcome of a commit is looked for.
const outcomeTimeout = 20 * time.Second

// committed reports whether a slot's last transaction is committed, by its row in the outbox. The row is read with a lock: if the transaction is still
// open on a connection that the server has not noticed to be gone, that waits for its end.
func (s *Store) committed(ctx context.Context, sl *slot, counts []count) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeTimeout)
	defer cancel()
	for try := 1; ; try++ {
		var seq uint64
		err := s.master.QueryRowContext(ctx, fmt.Sprintf("SELECT seq FROM IMUnreadOutbox WHERE owner=x'%x' FOR UPDATE", sl.owner[:])).Scan(&seq)
		switch {
		case err == nil:
			return seq >= sl.seq, nil
		case err == sql.ErrNoRows:
			// Never written, or already recovered by another process, which leaves its mark.
			return s.applied(ctx, sl.owner, sl.seq, counts)
		case !transient(err):
			return false, err
		}
		if err := pause(ctx, try); err != nil {
			return false, err
		}
	}
}

// write sends the transaction's statements, each over sorted keys.
func (s *Store) write(ctx context.Context, tx *sql.Tx, sl *slot, items []*item, touched []*touch, counts []count) error {
	if err := s.writeMessages(ctx, tx, sl, items); err != nil {
		return err
	}
	if err := s.writeClientIDs(ctx, tx, items); err != nil {
		return err
	}
	if err := s.writeSessions(ctx, tx, touched); err != nil {
		return err
	}
	b := append(sl.buf[:0], "INSERT INTO IMUnreadOutbox (owner, seq, payload, created) VALUES ("...)
	b = appendHex(b, sl.owner[:])
	b = append(b, ',')
	b = strconv.AppendUint(b, sl.seq, 10)
	b = append(b, ',')
	b = appendHex(b, appendCounts(nil, counts))
	b = append(b, ",UNIX_TIMESTAMP()) ON DUPLICATE KEY UPDATE seq=VALUES(seq), payload=VALUES(payload), created=VALUES(created)"...)
	sl.buf = b
	_, err := tx.ExecContext(ctx, string(b))
	return err
}

// statementBytes is how much content one INSERT carries at most: with escapes well below the smallest usual max_allowed_packet (4 MiB).
const statementBytes = 1 << 20

// writeMessages inserts the rows, one statement a table.
func (s *Store) writeMessages(ctx context.Context, tx *sql.Tx, sl *slot, items []*item) error {
	var byTable [schema.Tables][]*item
	for _, it := range items {
		n := table(it.c.relate)
		byTable[n] = append(byTable[n], it)
	}
	for n, rows := range byTable {
		slices.SortFunc(rows, func(a, b *item) int { return cmp.Or(cmp.Compare(a.c.relate, b.c.relate), cmp.Compare(a.id, b.id)) })
		for len(rows) > 0 {
			some := 0
			for size := 0; some < len(rows) && size < statementBytes; some++ {
				size += len(rows[some].m.Data)
			}
			if err := insertMessages(ctx, tx, sl, n, rows[:some]); err != nil {
				return err
			}
			rows = rows[some:]
		}
	}
	return nil
}

// insertMessages inserts rows into one table. Numbers are written into the statement; only the content is left to the driver to quote.
func insertMessages(ctx context.Context, tx *sql.Tx, sl *slot, n int, rows []*item) error {
	b := append(sl.buf[:0], "INSERT INTO IMMessage_"...)
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, " (relateId,fromId,toId,msgId,type,status,created,updated,content) VALUES "...)
	args := make([]any, len(rows))
	for i, it := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '(')
		for _, v := range [...]uint32{it.c.relate, it.m.From, it.m.To, it.id, uint32(it.m.Type), 0, it.m.Created, it.m.Created} {
			b = strconv.AppendUint(b, uint64(v), 10)
			b = append(b, ',')
		}
		b = append(b, "?)"...)
		args[i] = string(it.m.Data)
	}
	sl.buf = b
	_, err := tx.ExecContext(ctx, string(b), args...)
	return err
}

// writeClientIDs remembers client_msg_ids.
func (s *Store) writeClientIDs(ctx context.Context, tx *sql.Tx, items []*item) error {
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
		return cmp.Or(cmp.Compare(a.m.From, b.m.From), cmp.Compare(a.m.To, b.m.To), slices.Compare(a.m.ClientID, b.m.ClientID))
	})
	if stale {
		if err := s.removeStale(ctx, tx, named); err != nil {
			return err
		}
	}
	now := s.now().Unix()
	b := []byte("INSERT INTO IMClientMsgId (fromId,toId,relateId,msgId,created,clientMsgId) VALUES ")
	for i, it := range named {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "(%d,%d,%d,%d,%d,x'%x')", it.m.From, it.m.To, it.c.relate, it.id, now, it.m.ClientID)
	}
	_, err := tx.ExecContext(ctx, string(b))
	return err
}

// removeStale makes room for client_msg_ids that are there, but too old to count.
func (s *Store) removeStale(ctx context.Context, tx *sql.Tx, named []*item) error {
	for _, it := range named {
		if !it.stale {
			continue
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("DELETE FROM IMClientMsgId WHERE fromId=%d AND toId=%d AND clientMsgId=x'%x' AND created<=%d",
			it.m.From, it.m.To, it.m.ClientID, s.clientIDLimit()))
		if err != nil {
			return err
		}
	}
	return nil
}
