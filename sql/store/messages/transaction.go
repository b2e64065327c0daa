package messages

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"teamtalk/core/im"
	"teamtalk/sql/schema"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/outbox"
	"teamtalk/sql/store/sessions"
)

// store commits items that have ids. When the database rejects a message, store halves
// the list until that message stands alone. It returns an error that any other message
// would meet too. After such an error the later messages of the batch are not tried: they
// would overtake the failed ones of their conversation.
func (s *Messages) store(ctx context.Context, sl *outbox.Slot, items []*item) error {
	for try := 1; len(items) > 0; try++ {
		p := s.planFor(items)
		err := s.commit(ctx, sl, items, p)
		if err == nil {
			s.done(ctx, sl, items, p)
			return nil
		}
		if try < database.TransactionTries && ctx.Err() == nil {
			var again bool
			if items, again = s.mend(ctx, items, err, try); again {
				continue
			}
		}
		if database.Everyone(err) || len(items) == 1 {
			failItems(items, s.db.SQLError("store messages", err))
			if database.Everyone(err) {
				return err
			}
			return nil
		}
		s.metrics.bisects.Inc()
		half := len(items) / 2
		if err := s.store(ctx, sl, items[:half]); err != nil {
			failItems(items[half:], s.db.SQLError("store messages", err))
			return err
		}
		return s.store(ctx, sl, items[half:])
	}
	return nil
}

// mend prepares items for another try after an error of their transaction, and reports
// whether another try makes sense. Items that turn out to be stored leave the list.
func (s *Messages) mend(ctx context.Context, items []*item, err error, try int) ([]*item, bool) {
	if database.Transient(err) {
		s.db.Metrics.Retries.Inc()
		return items, database.Pause(ctx, try) == nil
	}
	switch database.DuplicateKey(err) {
	case "uniq_relateId_msgId", "uniq_groupId_msgId":
		return s.numberAgain(ctx, items), true
	case "PRIMARY":
		// Another process has stored a client_msg_id since findSent.
		if err := s.findSent(ctx, items); err != nil {
			failItems(items, err)
			return nil, true
		}
		left := slices.DeleteFunc(slices.Clone(items), func(it *item) bool {
			return it.m.Duplicate
		})
		return left, len(left) < len(items)
	}
	return items, false
}

// done records the state after a commit and applies the unread counts.
func (s *Messages) done(ctx context.Context, sl *outbox.Slot, items []*item, p *plan) {
	for _, it := range items {
		it.m.ID = it.id
	}
	settle(items)
	for _, t := range p.sessions {
		t.Wrote()
	}
	for _, t := range p.chats {
		t.c.SetChatted(t.second)
	}
	s.findPrevious(ctx, items)
	where := s.questionsOf(ctx, items)
	s.parts.Outbox.Settle(ctx, sl, p.owed, where.add())
	where.answer()
}

// plan is the part of a transaction besides the messages.
type plan struct {
	sessions []*sessions.Touch
	chats    []*chat
	owed     outbox.Dues
	begun    bool // the transaction is open, because it creates session rows
}

// chat is a group whose lastChated a transaction updates.
type chat struct {
	c      *conversation.Conversation
	second uint32
}

// planFor returns what the transaction of items writes besides the messages.
func (s *Messages) planFor(items []*item) *plan {
	now := uint32(s.db.Time().Unix())
	return &plan{sessions: s.parts.Rows.Touched(conversationsOf(items), now),
		chats: touchedGroups(items, now), owed: duesOf(items)}
}

// conversationsOf returns the messages of items with their conversations.
func conversationsOf(items []*item) iter.Seq2[*im.Message, *conversation.Conversation] {
	return func(yield func(*im.Message, *conversation.Conversation) bool) {
		for _, it := range items {
			if !yield(it.m, it.c) {
				return
			}
		}
	}
}

// touchedGroups returns the groups of items whose lastChated is before second, sorted.
func touchedGroups(items []*item, second uint32) []*chat {
	by := map[*conversation.Conversation]*chat{}
	var list []*chat
	for _, it := range items {
		if !it.m.Type.IsGroup() {
			continue
		}
		if by[it.c] != nil {
			continue
		}
		if it.c.ChattedBefore(second) {
			by[it.c] = &chat{it.c, second}
			list = append(list, by[it.c])
		}
	}
	slices.SortFunc(list, func(a, b *chat) int { return cmp.Compare(a.c.Thread.ID, b.c.Thread.ID) })
	return list
}

// writeChats updates lastChated of groups. It selects rows by primary key, so that no
// other rows are locked. All of them have the same second.
func writeChats(ctx context.Context, tx database.Execer, list []*chat) error {
	if len(list) == 0 {
		return nil
	}
	ids := make([]uint32, len(list))
	for i, t := range list {
		ids[i] = t.c.Thread.ID
	}
	return tx.Add(ctx, fmt.Appendf(nil, "UPDATE IMGroup "+
		"SET lastChated=GREATEST(lastChated, %d) WHERE id IN (%s)", list[0].second,
		database.Join(ids)))
}

// commit stores items in one transaction: their rows, session rows, client_msg_ids and
// the outbox row of the unread counts.
func (s *Messages) commit(ctx context.Context, sl *outbox.Slot, items []*item, p *plan) error {
	if err := s.parts.Rows.Find(ctx, p.sessions); err != nil {
		return err
	}
	conn, err := s.db.Master.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	whole := false
	defer func() {
		// after a panic the next transaction on this connection would commit the open one
		if !whole {
			database.Discard(conn)
		}
	}()
	err = s.commitWith(ctx, conn, sl, items, p)
	whole = true
	return err
}

// commitWith runs the transaction of commit on conn.
func (s *Messages) commitWith(ctx context.Context, conn *sql.Conn, sl *outbox.Slot, items []*item,
	p *plan) error {
	if fresh := sessions.Missing(p.sessions); len(fresh) > 0 && !s.db.Finalized {
		// No unique key prevents a second session row; this lock does, until the commit.
		// A process that made a row before has committed it.
		if err := s.db.Lock(ctx, conn, "create"); err != nil {
			return err
		}
		defer s.db.Unlock(conn, "create")
		if err := beginCreating(ctx, conn, fresh); err != nil {
			database.RollBack(ctx, conn)
			return err
		}
		p.begun = true
	}
	s.parts.Outbox.Begin(sl)
	sc := database.NewScript(conn, p.begun, sl.Proof(), sl.Script)
	defer func() { sl.Script = sc.Buffer() }()
	err := s.write(ctx, sc, sl, items, p)
	hooks := s.db.Hooks
	joined := sc.Joins() && hooks.BeforeCommit == nil && hooks.Commit == nil
	if err == nil && !joined {
		err = sc.Flush(ctx)
	}
	if err != nil {
		database.RollBack(ctx, conn)
		return err
	}
	return s.parts.Outbox.Finish(ctx, conn, sl, p.owed, storedMessage(items[0]), func() error {
		if hooks.BeforeCommit != nil {
			hooks.BeforeCommit(ctx, conn)
		}
		commit := sc.Commit
		if hooks.Commit != nil {
			commit = func(ctx context.Context) error { return hooks.Commit(ctx, conn) }
		}
		err := commit(ctx)
		if database.ServerError(err) != nil && !database.LostConnection(err) {
			database.RollBack(ctx, conn) // no part of it may stay on the connection
		}
		return err
	})
}

// beginCreating begins a transaction that creates session rows, and looks for rows that
// exist by now.
func beginCreating(ctx context.Context, conn *sql.Conn, fresh []*sessions.Touch) error {
	if _, err := conn.ExecContext(ctx, "START TRANSACTION"); err != nil {
		return err
	}
	if err := database.Claim(ctx, conn, "create"); err != nil {
		return err
	}
	return sessions.ReadIDs(ctx, conn, fresh)
}

// write adds a transaction without its end to a script: statements over sorted keys. Those
// whose result is needed, and what the script has no room for, are sent at once.
func (s *Messages) write(ctx context.Context, sc *database.Script, sl *outbox.Slot, items []*item,
	p *plan) error {
	if !p.begun {
		if err := sc.Add(ctx, []byte("START TRANSACTION")); err != nil {
			return err
		}
	}
	// First, because it proves later that the transaction is still open.
	if err := outbox.Write(ctx, sc, sl, p.owed); err != nil {
		return err
	}
	if err := writeAudio(ctx, sc, items); err != nil {
		return err
	}
	if err := s.writeMessages(ctx, sc, sl, withClosed(items)); err != nil {
		return err
	}
	if err := s.writeClientIDs(ctx, sc, items); err != nil {
		return err
	}
	if err := writeChats(ctx, sc, p.chats); err != nil {
		return err
	}
	return s.parts.Rows.Write(ctx, sc, p.sessions)
}

// writeMessages inserts the rows, with one statement per table.
func (s *Messages) writeMessages(ctx context.Context, tx database.Execer, sl *outbox.Slot,
	items []*item) error {
	var byTable [2 * schema.Tables][]*item
	for _, it := range items {
		n := it.c.Thread.Slot()
		byTable[n] = append(byTable[n], it)
	}
	for _, rows := range byTable {
		slices.SortFunc(rows, func(a, b *item) int {
			return cmp.Or(cmp.Compare(a.c.Thread.ID, b.c.Thread.ID), cmp.Compare(a.id, b.id))
		})
		for len(rows) > 0 {
			some := 0
			for size := 0; some < len(rows) && size < database.StatementBytes; some++ {
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
func insertMessages(ctx context.Context, tx database.Execer, sl *outbox.Slot, rows []*item) error {
	t := rows[0].c.Thread
	columns := " (relateId,fromId,toId,msgId,type,status,created,updated,sentAs,content) VALUES "
	if t.Group {
		columns = " (groupId,userId,msgId,type,status,created,updated,sentAs,content) VALUES "
	}
	b := append(sl.Buf[:0], "INSERT INTO "...)
	b = append(b, t.Table()...)
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
		number(it.c.Thread.ID)
		number(it.m.From)
		if !t.Group {
			number(it.m.To)
		}
		for _, v := range [...]uint32{it.id, uint32(it.m.Type), it.status, it.m.Created,
			it.m.Created, it.m.SentAs} {
			number(v)
		}
		if it.audio != 0 { // the row of the sound
			b = append(b, '\'')
			b = strconv.AppendUint(b, uint64(it.audio), 10)
			b = append(b, '\'')
		} else {
			b = database.AppendText(b, it.m.Data)
		}
		b = append(b, ')')
	}
	sl.Buf = database.Emptied(b)
	return tx.Add(ctx, b)
}

// storedMessage returns the look-up of a message of a batch. A batch is stored whole, so
// one of its messages tells. Its id may be that of another message, after Redis lost its
// counters, so the sender, the time and the content count too.
func storedMessage(it *item) outbox.Stored {
	return func(ctx context.Context, db database.Querier) (bool, error) {
		t := it.c.Thread
		where := fmt.Sprintf("relateId=%d AND fromId=%d", t.ID, it.m.From)
		if t.Group {
			where = fmt.Sprintf("groupId=%d AND userId=%d", t.ID, it.m.From)
		}
		content := it.m.Data
		if it.audio != 0 { // the row of the sound
			content = fmt.Append(nil, it.audio)
		}
		var n int
		err := db.QueryRowContext(ctx, fmt.Sprintf("SELECT COUNT(*) FROM %s WHERE %s "+
			"AND msgId=%d AND created=%d AND CAST(content AS BINARY)=x'%x'", t.Table(), where,
			it.id, it.m.Created, content)).Scan(&n)
		return n > 0, err
	}
}
