package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/sql/embedded/apart"
	"teamtalk/sql/embedded/arrivals"
	"teamtalk/sql/embedded/faults"
)

// A batch of messages is committed as one row at the end of the table Arrived, which takes few
// pages. The tables by conversation take one page for each conversation, so they are written later,
// for many messages at a time. Until then messages wait in memory too. A read or change that
// concerns a conversation with such messages first writes them.

const (
	// roundOf is the number of waiting messages that begins a round of writing, and roundAfter
	// the longest time that a message waits for one.
	roundOf    = 4096
	roundAfter = 500 * time.Millisecond
	// stepOf is the number of messages that a transaction of a round writes: it takes some
	// milliseconds, for which new messages wait.
	stepOf = 128
	// maxWaiting and maxWaitingBytes bound the waiting messages: beyond, a new batch writes as
	// many of them as it has, and a step.
	maxWaiting      = 32 << 10
	maxWaitingBytes = 64 << 20
	// retryRound is the pause after a round that failed.
	retryRound = time.Second
)

// arrival is the part of the writer that has the messages in the order of arrival.
type arrival struct {
	w   *writer
	log *slog.Logger

	waiting *arrivals.Pending  // messages that are only in the table Arrived
	fresh   []arrivals.Message // those that the transaction adds
	batches []arrived          // the same in the form of the table
	nextID  int64              // of a row of Arrived
	stuck   bool               // waiting messages were to be written, and no commit has followed
	careful bool               // the transaction looks for messages that the database rejects
	apart   int                // messages that the transaction keeps apart, see writeCarefully
	beside  bool               // another process may be the server
}

// arrived is a row of the table Arrived.
type arrived struct {
	id   int64
	list []byte
}

// arriveAll adds the fresh messages from first on to the table Arrived, as one row.
func (a *arrival) arriveAll(first int) error {
	if len(a.fresh) == first {
		return nil
	}
	row := arrived{a.nextID, arrivals.Encode(a.fresh[first:])}
	if _, err := a.w.arrive.Exec(row.id, row.list); err != nil {
		return err
	}
	a.nextID++ // also if the transaction is rolled back
	a.batches = append(a.batches, row)
	return nil
}

// freshOf calls yield with the messages of a conversation that the transaction adds.
func (a *arrival) freshOf(chat int64) iter.Seq[*arrivals.Message] {
	return func(yield func(*arrivals.Message) bool) {
		for i := range a.fresh {
			if m := &a.fresh[i]; m.Chat == chat && !yield(m) {
				return
			}
		}
	}
}

// lastOf returns the id of the last message of a conversation, which is last without those that the
// transaction adds.
func (a *arrival) lastOf(chat int64, last uint32) uint32 {
	for m := range a.freshOf(chat) {
		last = m.ID
	}
	return last
}

// committed lets the messages that the transaction has added wait, and forgets those that it has
// written.
func (a *arrival) committed() {
	a.w.dataVersion = a.w.newVersion
	if a.waiting.Commit() {
		a.stuck = false
	}
	a.flushFresh()
}

// flushFresh lets the messages that the transaction has added wait.
func (a *arrival) flushFresh() {
	for _, row := range a.batches {
		list, err := arrivals.Decode(row.list)
		if err != nil {
			panic(err) // cannot happen: this process has encoded it
		}
		a.waiting.Add(row.id, list)
	}
	a.fresh, a.batches = nil, nil
}

// load reads rows of the table Arrived that this process has not written: those of a process that
// was killed, or of the server when this process is not the server.
func (a *arrival) load() error {
	if a.beside { // no message waits in this process after a transaction
		a.nextID = 1
	}
	rows, err := a.w.arrived.Query(a.nextID)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var row arrived
		if err := rows.Scan(&row.id, &row.list); err != nil {
			return err
		}
		list, err := arrivals.Decode(row.list)
		if err != nil {
			return im.Errorf(im.Internal, "row %d of the table Arrived is damaged. Its messages "+
				"are in no other table: restore a backup, or give them up with sqlite3 %s %q, "+
				"which keeps the row", row.id, FileName, setApart(row.id))
		}
		a.waiting.Add(row.id, list)
		a.nextID = row.id + 1
	}
	return rows.Err()
}

// setApart is the statement that lets no process read a row of Arrived any more.
func setApart(id int64) string {
	return fmt.Sprintf("update Arrived set id = min((select min(id) from Arrived), 0) - 1 "+
		"where id = %d", id)
}

// settleError is an error of settle, and not of the change that the transaction is for.
type settleError struct{ error }

func (e settleError) Unwrap() error { return e.error }

// settle writes up to limit waiting messages of a scope into the tables by conversation.
func (a *arrival) settle(scope arrivals.Scope, limit int) error {
	parts := a.waiting.Take(scope, limit)
	if len(parts) == 0 {
		return nil
	}
	a.stuck = true
	named := 0
	for _, p := range parts {
		n, err := a.write(p)
		if err != nil {
			return settleError{err}
		}
		named += n
	}
	for _, id := range a.waiting.Done() {
		if _, err := a.w.dropArrived.Exec(id); err != nil {
			return settleError{err}
		}
	}
	if named == 0 {
		return nil
	}
	last := parts[len(parts)-1].Messages
	return a.w.forgetClientIDs(2*named, last[len(last)-1].At)
}

// write writes messages of a conversation. Messages that the tables have already are not written
// again: another process may have done it. It returns how many had client_msg_ids.
func (a *arrival) write(p arrivals.Part) (named int, err error) {
	last := a.w.lastOfRelation
	id := p.Chat
	if p.Chat < 0 {
		last, id = a.w.lastOfGroup, -p.Chat
	}
	var have uint32
	err = last.QueryRow(id).Scan(&have)
	gone := errors.Is(err, sql.ErrNoRows)
	if err != nil && !gone {
		return 0, err
	}
	var c counts
	for _, m := range p.Messages {
		if m.ID <= have {
			continue
		}
		written := false
		switch {
		case gone:
			err = a.keepApart(m, apart.ErrGone)
		case a.careful:
			written, err = a.writeCarefully(id, m)
		default:
			written, err = true, a.writeOne(id, m)
		}
		if err != nil {
			return 0, err
		}
		c.add(m)
		if written && len(m.ClientID) > 0 {
			named++
		}
	}
	return named, c.write(a.w, p.Chat)
}

// writeOne inserts a message of a relation or group, and its client_msg_id.
func (a *arrival) writeOne(id int64, m *arrivals.Message) error {
	insert := a.w.insertMessage
	if m.Chat < 0 {
		insert = a.w.insertGroupMessage
	}
	content, err := a.w.content(m)
	if err != nil {
		return err
	}
	if _, err := insert.Exec(messageKey(id, m.ID), m.From, m.Type, m.Created, content,
		m.SentAs); err != nil || len(m.ClientID) == 0 {
		return err
	}
	return a.w.keepClientID(m)
}

// writeCarefully is writeOne, and keeps a message that the database rejects apart. It reports
// whether the message is written.
func (a *arrival) writeCarefully(id int64, m *arrivals.Message) (written bool, err error) {
	if _, err := a.w.savepoint.Exec(); err != nil {
		return false, err
	}
	err = a.writeOne(id, m)
	if written = err == nil; faults.AboutTheRow(err) {
		if _, err := a.w.rollbackTo.Exec(); err != nil {
			return false, err
		}
		err = a.keepApart(m, err)
	}
	if err != nil {
		return false, err
	}
	_, err = a.w.release.Exec()
	return written, err
}

// keepApart keeps a message that cannot be written, for that reason, in a row of Arrived with a
// negative id.
func (a *arrival) keepApart(m *arrivals.Message, reason error) error {
	a.log.Error("the tables reject a message that was accepted: it stays in the table Arrived",
		"chat", m.Chat, "id", m.ID, "user", m.From, "err", reason)
	a.apart++
	list := arrivals.Encode([]arrivals.Message{*m})
	return a.w.exec("insert into Arrived (id, list) select min(coalesce(min(id), 0), 0) - 1, ? "+
		"from Arrived", list)
}

// countOne lets a message count that is put back.
func (a *arrival) countOne(m *arrivals.Message) error {
	var c counts
	c.add(m)
	return c.write(a.w, m.Chat)
}

// counts is what messages of a conversation change in its row.
type counts struct {
	last, at uint32
	unread   [2]uint32         // messages for the smaller and for the larger user
	senders  map[uint32]uint32 // of a group: each sender's last message
}

func (c *counts) add(m *arrivals.Message) {
	c.last, c.at = m.ID, max(c.at, m.At)
	switch {
	case m.Chat < 0:
		if c.senders == nil {
			c.senders = map[uint32]uint32{}
		}
		c.senders[m.From] = m.ID
	case m.To <= m.From:
		c.unread[0]++
	default:
		c.unread[1]++
	}
}

// write changes the rows of the conversation, and of the senders to a group.
func (c *counts) write(w *writer, chat int64) error {
	if c.last == 0 {
		return nil
	}
	if chat > 0 {
		_, err := w.updateRelation.Exec(chat, c.last, c.unread[0], c.unread[1], c.at)
		return err
	}
	if _, err := w.updateGroup.Exec(-chat, c.last, c.at); err != nil {
		return err
	}
	for user, last := range c.senders {
		if _, err := w.updateMember.Exec(-chat, user, last); err != nil {
			return err
		}
	}
	return nil
}

// settled writes the waiting messages of a scope, so that a read sees them.
func (s *database) settled(ctx context.Context, scope arrivals.Scope) error {
	if s.lock == nil { // the server's messages wait in the table
		var any bool
		if err := s.read.anyArrived.QueryRowContext(ctx).Scan(&any); err != nil || !any {
			return err
		}
	} else if !s.writer.waiting.Has(scope) {
		return nil
	}
	err := s.run(ctx, transaction{scope: scope, relaxed: true}, func(*writer) error { return nil })
	// Better without the last messages than not at all; see makeRoom.
	if faults.ByDisk(err) || faults.Busy(err) {
		return nil
	}
	return err
}

// startRound lets a goroutine write waiting messages, unless one runs. It ends when none wait.
func (s *database) startRound() {
	if rows, _ := s.writer.waiting.Len(); rows >= roundOf {
		select {
		case s.hurry <- struct{}{}:
		default:
		}
	}
	if s.rounds.CompareAndSwap(false, true) {
		s.background.Go(s.runRounds)
	}
}

func (s *database) runRounds() {
	var failures failures
	for {
		s.await(roundAfter)
		s.writer.waiting.Begin()
		for s.writer.waiting.Has(arrivals.Round) {
			err := s.run(context.Background(), transaction{scope: arrivals.Round, limit: stepOf,
				relaxed: true}, func(*writer) error { return nil })
			if s.noteRound(err, &failures); err != nil {
				if s.await(retryRound); s.ending() {
					return
				}
			}
		}
		if s.writer.waiting.Has(arrivals.All) {
			continue
		}
		s.rounds.Store(false)
		// A message that came before this was told that a goroutine runs.
		if !s.writer.waiting.Has(arrivals.All) || !s.rounds.CompareAndSwap(false, true) {
			return
		}
	}
}

// failures are those of transactions of rounds, one after the other.
type failures struct {
	n   int
	log obs.Repeated
}

// noteRound counts and logs how a transaction of a round ended.
func (s *database) noteRound(err error, f *failures) {
	if err == nil {
		if f.n > 0 {
			s.log.Info("messages are written by conversation again", "failures", f.n)
		}
		*f = failures{}
		return
	}
	err = faults.Describe(err)
	s.metrics.errors.WithLabelValues(im.KindOf(err).String()).Inc()
	f.n++
	f.log.Warn(s.log, s.now(), "messages stay in the order of arrival for now", err)
}

// await waits for a time, or until many messages wait, or the store is closed.
func (s *database) await(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.hurry:
	case <-s.end:
	}
}

// ending reports whether Close was called.
func (s *database) ending() bool {
	select {
	case <-s.end:
		return true
	default:
		return false
	}
}

// makeRoom writes waiting messages before n others are added, when there are very many, or when
// writing has failed: no message is accepted while that is so.
func (a *arrival) makeRoom(n int) error {
	if rows, bytes := a.waiting.Len(); !a.stuck && rows < maxWaiting && bytes < maxWaitingBytes {
		return nil
	}
	return a.settle(arrivals.All, n+stepOf)
}

// tryAll is tryWrite, and writes waiting messages if that has failed before.
func (a *arrival) tryAll() error {
	if a.stuck {
		if err := a.settle(arrivals.All, stepOf); err != nil {
			return err
		}
	}
	return a.w.tryWrite()
}
