package embedded

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/arrivals"
	"teamtalk/sql/embedded/faults"
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
		err := s.run(ctx, transaction{}, func(w *writer) error {
			if err := w.makeRoom(len(todo)); err != nil {
				return err
			}
			return s.appendAll(w, todo)
		})
		if faults.AboutTheRow(err) {
			s.metrics.bisects.Inc()
			// No message that waits may be written in a savepoint that is rolled back.
			err = s.transact(ctx, func(w *writer) error { return s.appendEach(w, todo) })
		}
		if s.refused.Store(faults.ByDisk(err)); err == nil {
			s.startRound() // here, because Close waits for calls
		}
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
	conversations, groups := make(map[uint64]*relation), make(map[uint32]*group)
	now := uint32(s.time().Unix())
	first := len(w.fresh)
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
	}
	// If the transaction is rolled back, the caches are emptied.
	for key, c := range conversations {
		w.relations.Add(key, *c)
	}
	for id, g := range groups {
		w.groups.Add(id, *g)
	}
	if err := w.arriveAll(first); err != nil || s.lock != nil {
		return err
	}
	// The server does not know of messages that another process lets wait.
	w.flushFresh()
	return w.settle(arrivals.All, math.MaxInt)
}

// addToUser stores p in the conversation of its two users. It sets p.err when the
// recipient does not exist or has departed.
func (w *writer) addToUser(known map[uint64]*relation, p *pending, now uint32) error {
	if err := w.checkRecipient(p); err != nil || p.err != nil {
		return err
	}
	c, err := w.conversation(known, p, now)
	if err != nil {
		return err
	}
	if err := w.add(c.id, c.last, p, now); err != nil || p.err != nil || p.duplicate {
		return err
	}
	c.last = p.id
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
		fresh, rows := len(w.fresh), len(w.batches)
		err := s.appendAll(w, todo[i:i+1])
		if err != nil && !faults.AboutTheRow(err) {
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
			w.fresh, w.batches = w.fresh[:fresh], w.batches[:rows]
			if w.beside {
				w.giveBack()
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

// conversation returns the conversation of p: from this transaction, from the cache, from the
// messages that wait, from the database, or a new one.
func (w *writer) conversation(known map[uint64]*relation, p *pending,
	now uint32) (*relation, error) {
	key := im.ConversationKey(p.small, p.big)
	if c := known[key]; c != nil {
		return c, nil
	}
	c := &relation{}
	known[key] = c
	var ok bool
	if *c, ok = w.relations.Get(key); ok {
		return c, nil
	}
	var err error
	if c.id, c.last, ok = w.waiting.Pair(key); !ok {
		err = w.getRelation.QueryRow(p.small, p.big).Scan(&c.id, &c.last)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		c.last = w.lastOf(c.id, c.last)
		return c, err
	}
	result, err := w.newRelation.Exec(p.small, p.big, now)
	if err != nil {
		return nil, err
	}
	c.id, err = result.LastInsertId()
	return c, err
}

// messageKey returns the id of a row of IMMessage, or of IMGroupMessage for a group.
func messageKey(relation int64, id uint32) int64 { return relation<<32 | int64(id) }

// add gives p the id after last in a conversation or group, see arrivals.Message.Chat, or marks
// it as a duplicate. It sets p.err when no id is left.
func (w *writer) add(chat int64, last uint32, p *pending, now uint32) error {
	if len(p.m.ClientID) > 0 {
		if err := w.findClientID(chat, p, now); err != nil || p.duplicate {
			return err
		}
	} else if p.m.SentAs != 0 && p.m.ResentWithin != 0 {
		if err := w.recognise(chat, last, p); err != nil || p.duplicate {
			return err
		}
	}
	if last == math.MaxUint32 {
		p.err = im.Errorf(im.Invalid, "no message id is left in this conversation")
		return nil
	}
	m := p.m
	p.id = last + 1
	w.fresh = append(w.fresh, arrivals.Message{Chat: chat, ID: p.id, From: m.From, To: m.To,
		Type: m.Type, Created: m.Created, At: now, SentAs: m.SentAs, ClientID: m.ClientID,
		Data: m.Data, Audio: m.Audio})
	w.resends.note(chat, p)
	return nil
}

// findClientID sets p.id, p.duplicate and p.created when a message had the client_msg_id of p
// within the last ClientIDTTL.
func (w *writer) findClientID(chat int64, p *pending, now uint32) error {
	first, err := w.named(chat, p.m)
	if err == nil && first.ID != 0 && int64(first.At)+im.ClientIDTTL > int64(now) {
		p.id, p.duplicate, p.created = first.ID, true, first.At
	}
	return err
}

// named returns the message with the client_msg_id of m in a conversation; the id is 0 if there is
// none.
func (w *writer) named(chat int64, m *im.Message) (n arrivals.Named, err error) {
	for f := range w.freshOf(chat) {
		if f.From == m.From && bytes.Equal(f.ClientID, m.ClientID) {
			return arrivals.Named{ID: f.ID, At: f.At}, nil
		}
	}
	if n, ok := w.waiting.Named(arrivals.Name(chat, m.From, m.ClientID)); ok {
		return n, nil
	}
	err = w.getClientID.QueryRow(chat, m.From, m.ClientID).Scan(&n.ID, &n.At)
	if errors.Is(err, sql.ErrNoRows) {
		return n, nil
	}
	return n, err
}

// keepClientID stores the client_msg_id of a message. A row that has it is replaced, because it has
// expired, and rows must be in the order of time.
func (w *writer) keepClientID(m *arrivals.Message) error {
	for {
		result, err := w.putClientID.Exec(m.Chat, m.From, m.ClientID, m.ID, m.At)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 1 {
			return err
		}
		if _, err := w.dropClientID.Exec(m.Chat, m.From, m.ClientID); err != nil {
			return err
		}
	}
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
