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
// It returns the error when that is one that would meet any message. Once it has met some, the
// later ones of the batch are not tried: in their conversations they would overtake those.
func (s *Store) store(ctx context.Context, sl *slot, items []*item) error {
	for try := 1; len(items) > 0; try++ {
		p := s.planFor(items)
		err := s.commit(ctx, sl, items, p)
		if err == nil {
			s.done(ctx, sl, items, p)
			return nil
		}
		if try < transactionTries && ctx.Err() == nil {
			var again bool
			if items, again = s.mend(ctx, items, err, try); again {
				continue
			}
		}
		if everyone(err) || len(items) == 1 {
			failItems(items, s.dbError("store messages", err))
			if everyone(err) {
				return err
			}
			return nil
		}
		s.m.bisects.Inc()
		half := len(items) / 2
		if err := s.store(ctx, sl, items[:half]); err != nil {
			failItems(items[half:], s.dbError("store messages", err))
			return err
		}
		return s.store(ctx, sl, items[half:])
	}
	return nil
}

// mend does something about an error of a transaction that makes it worth to run again, and says so. Items that turn out to be stored already
// leave the list.
func (s *Store) mend(ctx context.Context, items []*item, err error, try int) ([]*item, bool) {
	if transient(err) {
		s.m.retries.Inc()
		return items, pause(ctx, try) == nil
	}
	switch duplicateKey(err) {
	case "uniq_relateId_msgId", "uniq_groupId_msgId":
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
func (s *Store) done(ctx context.Context, sl *slot, items []*item, p *plan) {
	for _, it := range items {
		it.m.ID = it.id
		if it.m.Type.IsGroup() {
			s.wroteTo(it.m.From)
			s.wroteToGroup(it.m.To)
		} else {
			s.wroteTo(it.m.From, it.m.To)
		}
	}
	for _, t := range p.sessions {
		t.wrote()
	}
	for _, t := range p.chats {
		t.c.mu.Lock()
		t.c.chatted = max(t.c.chatted, t.second)
		t.c.mu.Unlock()
	}
	s.settle(ctx, sl, p.owed)
}

// plan is what a transaction writes besides the messages.
type plan struct {
	sessions []*touch
	chats    []*chat
	owed     dues
}

// chat is a group whose lastChated a transaction writes.
type chat struct {
	c      *conversation
	second uint32
}

// planFor finds out what storing items takes.
func (s *Store) planFor(items []*item) *plan {
	return &plan{sessions: s.touchedSessions(items), chats: touchedGroups(items), owed: duesOf(items)}
}

// touchedGroups returns the groups with a message newer than their lastChated, sorted.
func touchedGroups(items []*item) []*chat {
	by := map[*conversation]*chat{}
	var list []*chat
	for _, it := range items {
		if !it.m.Type.IsGroup() {
			continue
		}
		if t := by[it.c]; t != nil {
			t.second = max(t.second, it.m.Created)
			continue
		}
		it.c.mu.Lock()
		newer := it.m.Created > it.c.chatted
		it.c.mu.Unlock()
		if newer {
			by[it.c] = &chat{it.c, it.m.Created}
			list = append(list, by[it.c])
		}
	}
	slices.SortFunc(list, func(a, b *chat) int { return cmp.Compare(a.c.thread.id, b.c.thread.id) })
	return list
}

// writeChats brings groups' lastChated up to date: by primary key, as little as session rows.
func writeChats(ctx context.Context, tx execer, list []*chat) error {
	bySecond := map[uint32][]uint32{}
	for _, t := range list {
		bySecond[t.second] = append(bySecond[t.second], t.c.thread.id)
	}
	return eachSecond(bySecond, func(second uint32, ids string) error {
		return tx.add(ctx, fmt.Appendf(nil, "UPDATE IMGroup SET lastChated=GREATEST(lastChated, %d) WHERE id IN (%s)", second, ids))
	})
}

// commit stores items in one transaction: their rows, session rows, client_msg_ids and what is owed to the unread counts.
func (s *Store) commit(ctx context.Context, sl *slot, items []*item, p *plan) error {
	if err := s.findSessions(ctx, p.sessions); err != nil {
		return err
	}
	conn, err := s.master.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	whole := false
	defer func() {
		if !whole { // a panic: the next transaction on this connection would commit what is open on it
			discard(conn)
		}
	}()
	err = s.commitWith(ctx, conn, sl, items, p)
	whole = true
	return err
}

// commitWith is commit with a connection.
func (s *Store) commitWith(ctx context.Context, conn *sql.Conn, sl *slot, items []*item, p *plan) error {
	if fresh := missingRows(p.sessions); len(fresh) > 0 && !s.finalized {
		// No unique key keeps out a second session row: the lock does, until the commit. Whoever made one before has committed it.
		if err := s.lock(ctx, conn, "create"); err != nil {
			return err
		}
		defer s.unlock(conn, "create")
		if err := readSessions(ctx, conn, fresh); err != nil {
			return err
		}
	}
	sl.seq++
	if err := s.write(ctx, conn, sl, items, p); err != nil {
		rollBack(ctx, conn)
		return err
	}
	commit := commitOn
	if s.o.hooks.commit != nil {
		commit = s.o.hooks.commit
	}
	return s.finish(ctx, conn, sl, p.owed, func() error {
		err := commit(ctx, conn)
		if mysqlError(err) != nil && !lostConnection(err) {
			rollBack(ctx, conn) // as a rule the server has; nothing of it may stay with the connection
		}
		return err
	})
}

// rollBack ends a connection's transaction. When that fails the connection is not used again, and the transaction ends with it.
func rollBack(ctx context.Context, conn *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockWait*time.Second)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		discard(conn)
	}
}

// discard sees to it that a connection is closed instead of kept. The server ends what is open on it.
func discard(conn *sql.Conn) { conn.Raw(func(any) error { return errDiscard }) }

// finish commits. When the connection is lost over it, the outcome is looked up.
func (s *Store) finish(ctx context.Context, conn *sql.Conn, sl *slot, owed dues, commit func() error) error {
	err := commit()
	if err == nil || mysqlError(err) != nil && !lostConnection(err) {
		return err
	}
	discard(conn)
	conn.Close() // the look needs a connection, and there may be only one
	committed, lookErr := s.committed(ctx, sl, owed)
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

// commitOn commits a connection's transaction.
func commitOn(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "COMMIT")
	return err
}

// outcomeTimeout is how long the outcome of a commit is looked for.
const outcomeTimeout = 20 * time.Second

// committed reports whether a slot's last transaction is committed, by its row in the outbox. The row is read with a lock: if the transaction is still
// open on a connection that the server has not noticed to be gone, that waits for its end.
func (s *Store) committed(ctx context.Context, sl *slot, owed dues) (bool, error) {
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
			return s.applied(ctx, sl.owner, sl.seq, owed)
		case !transient(err):
			return false, err
		}
		if err := pause(ctx, try); err != nil {
			return false, err
		}
	}
}

// write begins a transaction and sends its statements, each over sorted keys: as one script, but for what has an answer that is needed.
func (s *Store) write(ctx context.Context, conn *sql.Conn, sl *slot, items []*item, p *plan) error {
	sc := &script{conn: conn, b: sl.script[:0]}
	defer func() { sl.script = kept(sc.b) }()
	if err := sc.add(ctx, []byte("START TRANSACTION")); err != nil {
		return err
	}
	if err := writeAudio(ctx, sc, items); err != nil {
		return err
	}
	if err := s.writeMessages(ctx, sc, sl, items); err != nil {
		return err
	}
	if err := s.writeClientIDs(ctx, sc, items); err != nil {
		return err
	}
	if err := writeChats(ctx, sc, p.chats); err != nil {
		return err
	}
	if err := s.writeSessions(ctx, sc, p.sessions); err != nil {
		return err
	}
	if err := writeOwed(ctx, sc, sl, p.owed); err != nil {
		return err
	}
	return sc.flush(ctx)
}

// script collects statements whose results nobody needs, so that they go to the server, and are answered, in one round trip: each of them would cost a
// batch two changes between processes, twice. The COMMIT is none of them: a connection that breaks before it was sent has committed nothing for sure.
type script struct {
	conn *sql.Conn
	b    []byte
}

// keptBytes is how much memory a slot keeps for a statement, and for a script: more than batches of usual texts need.
const keptBytes = 256 << 10

// kept empties a buffer for the next batch, unless one batch of long texts has made it larger than is to be kept all day.
func kept(b []byte) []byte {
	if cap(b) > keptBytes {
		return nil
	}
	return b[:0]
}

// execer runs statements, or takes them to run them later.
type execer interface {
	add(ctx context.Context, statement []byte) error
}

// add adds a statement, and sends what is there when that is enough for one packet.
func (sc *script) add(ctx context.Context, statement []byte) error {
	if len(sc.b)+len(statement) > statementBytes {
		if err := sc.flush(ctx); err != nil {
			return err
		}
	}
	if len(sc.b) > 0 {
		sc.b = append(sc.b, ';')
	}
	sc.b = append(sc.b, statement...)
	return nil
}

// flush sends what is there. The error is that of the first statement that failed; those behind it were not run.
func (sc *script) flush(ctx context.Context) error {
	if len(sc.b) == 0 {
		return nil
	}
	_, err := sc.conn.ExecContext(ctx, string(sc.b))
	sc.b = sc.b[:0]
	return err
}

// atOnce is an execer that runs each statement when it is added.
type atOnce struct{ querier }

func (o atOnce) add(ctx context.Context, statement []byte) error {
	_, err := o.ExecContext(ctx, string(statement))
	return err
}

// writeOwed puts what is owed to Redis into the outbox.
func writeOwed(ctx context.Context, tx execer, sl *slot, owed dues) error {
	b := append(sl.buf[:0], "INSERT INTO IMUnreadOutbox (owner, seq, payload, created) VALUES ("...)
	b = appendHex(b, sl.owner[:])
	b = append(b, ',')
	b = strconv.AppendUint(b, sl.seq, 10)
	b = append(b, ',')
	b = appendHex(b, appendDues(nil, owed))
	b = append(b, ",UNIX_TIMESTAMP()) ON DUPLICATE KEY UPDATE seq=VALUES(seq), payload=VALUES(payload), created=VALUES(created)"...)
	sl.buf = kept(b)
	return tx.add(ctx, b)
}

// statementBytes is how much content one INSERT carries at most: with escapes well below the smallest usual max_allowed_packet (4 MiB).
const statementBytes = 1 << 20

// writeMessages inserts the rows, one statement a table.
func (s *Store) writeMessages(ctx context.Context, tx execer, sl *slot, items []*item) error {
	var byTable [2 * schema.Tables][]*item
	for _, it := range items {
		n := it.c.thread.slot()
		byTable[n] = append(byTable[n], it)
	}
	for _, rows := range byTable {
		slices.SortFunc(rows, func(a, b *item) int {
			return cmp.Or(cmp.Compare(a.c.thread.id, b.c.thread.id), cmp.Compare(a.id, b.id))
		})
		for len(rows) > 0 {
			some := 0
			for size := 0; some < len(rows) && size < statementBytes; some++ {
				size += len(rows[some].m.Data)
			}
			if err := insertMessages(ctx, tx, sl, rows[:some]); err != nil {
				return err
			}
			rows = rows[some:]
		}
	}
	return nil
}

// insertMessages inserts rows into one table.
func insertMessages(ctx context.Context, tx execer, sl *slot, rows []*item) error {
	t := rows[0].c.thread
	columns := " (relateId,fromId,toId,msgId,type,status,created,updated,content) VALUES "
	if t.group {
		columns = " (groupId,userId,msgId,type,status,created,updated,content) VALUES "
	}
	b := append(sl.buf[:0], "INSERT INTO "...)
	b = append(b, t.table()...)
	b = append(b, columns...)
	for i, it := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '(')
		number := func(v uint32) {
			b = strconv.AppendUint(b, uint64(v), 10)
			b = append(b, ',')
		}
		number(it.c.thread.id)
		number(it.m.From)
		if !t.group {
			number(it.m.To)
		}
		for _, v := range [...]uint32{it.id, uint32(it.m.Type), 0, it.m.Created, it.m.Created} {
			number(v)
		}
		if it.audio != 0 { // where the sound is
			b = append(b, '\'')
			b = strconv.AppendUint(b, uint64(it.audio), 10)
			b = append(b, '\'')
		} else {
			b = appendText(b, it.m.Data)
		}
		b = append(b, ')')
	}
	sl.buf = kept(b)
	return tx.add(ctx, b)
}

// appendText writes a text, which is UTF-8, as SQL has it with the sql_mode and character set that openMySQL sets.
func appendText(b, text []byte) []byte {
	b = append(b, '\'')
	from := 0
	for i, c := range text {
		switch c {
		case 0:
			c = '0'
		case '\\', '\'':
		default:
			continue
		}
		b = append(b, text[from:i]...)
		b = append(b, '\\', c)
		from = i + 1
	}
	b = append(b, text[from:]...)
	return append(b, '\'')
}

// writeClientIDs remembers client_msg_ids.
func (s *Store) writeClientIDs(ctx context.Context, tx execer, items []*item) error {
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
		return cmp.Or(cmp.Compare(a.m.From, b.m.From), cmp.Compare(a.m.To, b.m.To), slices.Compare(a.m.ClientID, b.m.ClientID),
			cmp.Compare(a.sessionType(), b.sessionType()))
	})
	if stale {
		if err := s.removeStale(ctx, tx, named); err != nil {
			return err
		}
	}
	now := s.now().Unix()
	b := []byte("INSERT INTO IMClientMsgId (fromId,toId,toType,relateId,msgId,created,clientMsgId) VALUES ")
	for i, it := range named {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "(%d,%d,%d,%d,%d,%d,x'%x')", it.m.From, it.m.To, it.sessionType(), it.c.thread.id, it.id, now, it.m.ClientID)
	}
	return tx.add(ctx, b)
}

// removeStale makes room for client_msg_ids that are there, but too old to count.
func (s *Store) removeStale(ctx context.Context, tx execer, named []*item) error {
	for _, it := range named {
		if !it.stale {
			continue
		}
		err := tx.add(ctx, fmt.Appendf(nil, "DELETE FROM IMClientMsgId WHERE fromId=%d AND toId=%d AND clientMsgId=x'%x' AND toType=%d AND created<=%d",
			it.m.From, it.m.To, it.m.ClientID, it.sessionType(), s.clientIDLimit()))
		if err != nil {
			return err
		}
	}
	return nil
}
