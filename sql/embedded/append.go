package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"teamtalk/core/im"
)

// messages is the part that stores messages.
type messages struct{ *database }

// pending is a message of a batch before the outcome is final. The outcome is then copied
// to the im.Message.
type pending struct {
	m          *im.Message
	small, big uint32 // users of the conversation; unused for a group
	id         uint32
	duplicate  bool
	created    uint32 // of the first message, for a duplicate
	err        error

	groupVersion uint32 // version at which its sender was found to be a member
}

// conversation is the state of a relation during a transaction.
type conversation struct {
	relation
	small, big uint32
	unread     [2]uint32 // messages added: for small, for big
	updated    uint32
}

// AppendMessages stores a batch in one transaction; see im.MessageStore. If the database
// rejects one of the messages, the batch is stored again with a savepoint before each
// message.
func (s *messages) AppendMessages(ctx context.Context, batch []*im.Message) {
	if len(batch) == 0 {
		return
	}
	start := time.Now()
	todo := make([]pending, 0, len(batch))
	for _, m := range batch {
		m.ID, m.Duplicate, m.FirstCreated, m.GroupVersion, m.Previous = 0, false, 0, 0, 0
		if m.Err = im.CheckMessage(m); m.Err == nil {
			todo = append(todo, pending{m: m, small: min(m.From, m.To), big: max(m.From, m.To)})
		}
	}
	err := s.call("append", func() error {
		if len(todo) == 0 {
			return nil
		}
		err := s.transact(ctx, func(w *writer) error { return s.appendAll(w, todo) })
		if aboutTheRow(err) {
			s.metrics.bisects.Inc()
			err = s.transact(ctx, func(w *writer) error { return s.appendEach(w, todo) })
		}
		s.refused.Store(byDisk(err))
		return err
	})
	for i := range todo {
		p := &todo[i]
		switch {
		case err != nil:
			p.m.Err = err
		case p.err != nil:
			p.m.Err = fmt.Errorf("embedded: append: %w", p.err)
		default:
			p.m.ID, p.m.Duplicate, p.m.GroupVersion = p.id, p.duplicate, p.groupVersion
			p.m.FirstCreated = p.created
		}
	}
	s.metrics.seconds.Observe(time.Since(start).Seconds())
	s.count(batch)
}

// appendAll stores messages in the transaction of w. Messages that get an err, and
// duplicates, are not stored. It returns the error of the first statement that fails; the
// outcomes in todo are then void.
func (s *messages) appendAll(w *writer, todo []pending) error {
	conversations, groups := make(map[uint64]*conversation), make(map[uint32]*groupChat)
	now := uint32(s.time().Unix())
	named := 0
	for i := range todo {
		p := &todo[i]
		p.id, p.duplicate, p.created, p.err, p.groupVersion = 0, false, 0, nil, 0
		var err error
		if p.m.Type.IsGroup() {
			err = w.addToGroup(groups, p, now)
		} else {
			err = w.addToUser(conversations, p, now)
		}
		if err != nil {
			return err
		}
		if p.err == nil && len(p.m.ClientID) > 0 {
			named++
		}
	}
	if err := w.updateConversations(conversations); err != nil {
		return err
	}
	if err := w.updateGroups(groups); err != nil {
		return err
	}
	if named > 0 {
		return w.forgetClientIDs(2*named, now)
	}
	return nil
}

// addToUser stores p in the conversation of its two users. It sets p.err when the
// recipient does not exist or has departed.
func (w *writer) addToUser(known map[uint64]*conversation, p *pending, now uint32) error {
	if err := w.checkRecipient(p); err != nil || p.err != nil {
		return err
	}
	c, err := w.conversation(known, p, now)
	if err != nil {
		return err
	}
	return w.add(c, p, now)
}

// updateConversations writes what the messages of a transaction change in their
// conversations.
func (w *writer) updateConversations(conversations map[uint64]*conversation) error {
	for key, c := range conversations {
		if c.unread[0]+c.unread[1] == 0 { // only duplicates
			continue
		}
		if _, err := w.updateRelation.Exec(c.id, c.last, c.unread[0], c.unread[1],
			c.updated); err != nil {
			return err
		}
		w.relations.Add(key, c.relation) // if the transaction is rolled back, the cache is emptied
	}
	return nil
}

// forgetClientIDs deletes up to n client_msg_ids older than ClientIDTTL, oldest first. n
// is twice the number that the transaction adds. So their number shrinks to those of one
// day, and no transaction deletes a large number.
func (w *writer) forgetClientIDs(n int, now uint32) error {
	if int64(w.oldestClientID)+im.ClientIDTTL > int64(now) {
		return nil
	}
	if _, err := w.forget.Exec(n, int64(now)-im.ClientIDTTL); err != nil {
		return err
	}
	return w.getOldest.QueryRow().Scan(&w.oldestClientID) // the row just added exists
}

// appendEach stores messages one by one, each in a savepoint, so that a message that the
// database rejects fails alone.
func (s *messages) appendEach(w *writer, todo []pending) error {
	for i := range todo {
		if _, err := w.savepoint.Exec(); err != nil {
			return err
		}
		err := s.appendAll(w, todo[i:i+1])
		if err != nil && !aboutTheRow(err) {
			return err
		}
		if err != nil {
			p := &todo[i]
			s.log.Warn("the database rejected a message", "user", p.m.From,
				"peer", p.m.To, "err", err)
			p.err = im.WithKind(im.Internal, "the database rejected the message", err)
			if _, err := w.rollbackTo.Exec(); err != nil {
				return err
			}
			w.forgetAll()
		}
		if _, err := w.release.Exec(); err != nil {
			return err
		}
	}
	return nil
}

// checkRecipient sets p.err when the recipient does not exist or has departed.
func (w *writer) checkRecipient(p *pending) error {
	to := p.m.To
	if w.recipients.Contains(to) {
		return nil
	}
	var can bool
	err := w.canReceive.QueryRow(to).Scan(&can)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		p.err = im.Errorf(im.Invalid, "recipient %d does not exist", to)
	case err != nil:
		return err
	case !can:
		p.err = im.Errorf(im.Invalid, "recipient %d has departed", to)
	default:
		w.recipients.Add(to, struct{}{})
	}
	return nil
}

// conversation returns the conversation of p: from this transaction, from the cache, from
// the database, or a new one.
func (w *writer) conversation(known map[uint64]*conversation, p *pending,
	now uint32) (*conversation, error) {
	key := im.ConversationKey(p.small, p.big)
	if c := known[key]; c != nil {
		return c, nil
	}
	c := &conversation{small: p.small, big: p.big}
	known[key] = c
	if r, ok := w.relations.Get(key); ok {
		c.relation = r
		return c, nil
	}
	err := w.getRelation.QueryRow(p.small, p.big).Scan(&c.id, &c.last)
	if !errors.Is(err, sql.ErrNoRows) {
		return c, err
	}
	result, err := w.newRelation.Exec(p.small, p.big, now)
	if err != nil {
		return nil, err
	}
	c.id, err = result.LastInsertId()
	return c, err
}

// add gives p the next id of c and inserts it, or marks it as a duplicate.
func (w *writer) add(c *conversation, p *pending, now uint32) error {
	if err := w.insert(w.insertMessage, c.id, c.id, c.last, p, now); err != nil || p.duplicate {
		return err
	}
	c.last = p.id
	if p.m.To == c.small {
		c.unread[0]++
	} else {
		c.unread[1]++
	}
	c.updated = now
	return nil
}

// messageKey returns the id of a row of IMMessage, or of IMGroupMessage for a group.
func messageKey(relation int64, id uint32) int64 { return relation<<32 | int64(id) }

// insert stores p with stmt under the id after last in a relation or group, or marks it
// as a duplicate. names is the relateId in ClientMessage, and the key in memory.
func (w *writer) insert(stmt *sql.Stmt, relation, names int64, last uint32, p *pending,
	now uint32) error {
	if len(p.m.ClientID) > 0 {
		if err := w.claimClientID(names, last+1, p, now); err != nil || p.duplicate {
			return err
		}
	} else if p.m.SentAs != 0 && p.m.ResentWithin != 0 {
		if err := w.resends.recognise(relation, names, last, p); err != nil || p.duplicate {
			return err
		}
	}
	content, err := w.content(p.m)
	if err != nil {
		return err
	}
	p.id = last + 1
	if _, err := stmt.Exec(messageKey(relation, p.id), p.m.From, p.m.Type, p.m.Created, content,
		p.m.SentAs); err != nil {
		return err
	}
	w.resends.note(names, p)
	return nil
}

// claimClientID stores the client_msg_id of p for the message id next. If a message had
// it within the last ClientIDTTL, it sets p.id, p.duplicate and p.created instead.
func (w *writer) claimClientID(names int64, next uint32, p *pending, now uint32) error {
	result, err := w.putClientID.Exec(names, p.m.From, p.m.ClientID, next, now)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	var since uint32
	if err := w.getClientID.QueryRow(names, p.m.From, p.m.ClientID).Scan(&p.id,
		&since); err != nil {
		return err
	}
	if int64(since)+im.ClientIDTTL > int64(now) {
		p.duplicate, p.created = true, since
		return nil
	}
	// The row is replaced, because rows must be in the order of time.
	if _, err := w.dropClientID.Exec(names, p.m.From, p.m.ClientID); err != nil {
		return err
	}
	_, err = w.putClientID.Exec(names, p.m.From, p.m.ClientID, next, now)
	return err
}

// count counts the outcomes of a batch in the metrics.
func (s *messages) count(batch []*im.Message) {
	stored, duplicate := 0, 0
	for _, m := range batch {
		switch {
		case m.Err != nil:
			s.metrics.failed.WithLabelValues(im.KindOf(m.Err).String()).Inc()
		case m.Duplicate:
			duplicate++
		default:
			stored++
		}
	}
	s.metrics.batches.Inc()
	s.metrics.batchSize.Observe(float64(len(batch)))
	s.metrics.rows.Add(float64(stored))
	s.metrics.duplicates.Add(float64(duplicate))
}
