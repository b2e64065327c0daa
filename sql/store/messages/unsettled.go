package messages

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"teamtalk/core/im"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
)

// The batch with a message may stall: in its commit, before it, or before it has drawn an
// id. The client gets no ack, connects again and repeats the message, and another process
// stores the repeat. findResent does not see the row of a transaction that is not committed.
// Without a client_msg_id no unique key prevents a second row. Two rules do, on finalized
// tables:
//
//   - A batch with a message that may be a repeat (mayBeResent) looks at the ids below those
//     that it drew. An id without a row may belong to a message that is being stored. Its
//     transaction writes rows with status 1 for these ids. If the other transaction is
//     committed first, the unique key rejects this one, which then finds the message.
//     Otherwise the key rejects the other one.
//   - The batch marks the sender in Redis, for the conversation, before it draws ids. A
//     batch that draws later sees the mark, and looks whether the repeat of its message is
//     stored already.
//
// So one of the two batches always recognises the message, whichever draws first. Redis
// keeps a mark for as long as repeats are recognised. If Redis loses it, the second rule
// does not hold for batches that have not drawn their ids by then.
//
// Without repeats nothing is written, and one command to Redis reads the marks.

const (
	// lookBelow is how many ids below its own a batch looks at. A message that stalls is
	// hardly overtaken by more.
	lookBelow = 256
	// settleTries is how often a batch looks whether messages with lower ids are stored,
	// before it closes their ids. Most are being stored by another process, and take
	// milliseconds.
	settleTries = 4
	// statusClosed is the status of a row that takes an id which no message has.
	statusClosed = 1
)

// guard is what is known of the ids below that of a message which may have been stored by
// a batch that is not finished.
type guard struct {
	base    uint32   // the first id that its batch drew in the conversation
	checked bool     // closed is known
	closed  []uint32 // ids below base whose messages must not be stored any more
}

// lookAgain looks, for the messages of numbered that are guarded, whether another batch has
// stored them since findResent, or is storing them. It returns those that are to be stored.
func (s *Messages) lookAgain(ctx context.Context, numbered []*item) []*item {
	var guarded []*item
	for _, it := range numbered {
		if it.guard != nil {
			guarded = append(guarded, it)
		}
	}
	if len(guarded) == 0 {
		return numbered
	}
	// First the ids: a message that is committed after that is found, or its id closed.
	looked, err := s.closeBelow(ctx, guarded)
	if err == nil {
		err = s.findNumbered(ctx, looked)
	}
	if err != nil {
		failItems(numbered, err)
		return nil
	}
	return withoutDuplicates(numbered)
}

// withoutDuplicates returns the messages that are not stored already.
func withoutDuplicates(items []*item) []*item {
	return slices.DeleteFunc(slices.Clone(items), func(it *item) bool { return it.m.Duplicate })
}

// closeBelow finds the ids to be closed for the messages, and returns those messages that
// another batch may have stored since findResent. A message whose id follows the last
// settled one is none of them, unless findResent did not look for it.
func (s *Messages) closeBelow(ctx context.Context, guarded []*item) ([]*item, error) {
	var looked []*item
	first := map[*conversation.Conversation]*item{}
	for _, it := range guarded {
		follows := it.guard.base == it.c.LastSettled()+1
		if !follows || !mayBeResent(it.m) {
			looked = append(looked, it)
		}
		if !follows && first[it.c] == nil {
			first[it.c] = it
		}
	}
	open := make([]*item, 0, len(first))
	for _, it := range looked {
		if first[it.c] == it {
			open = append(open, it)
		}
	}
	for try := 1; len(open) > 0; try++ {
		if err := s.findOpen(ctx, open); err != nil {
			return nil, err
		}
		open = slices.DeleteFunc(open, func(it *item) bool { return !closes(it) })
		if len(open) == 0 || try == settleTries {
			break
		}
		if err := database.Pause(ctx, try-1); err != nil {
			return nil, im.WithKind(im.Unavailable, "store message", err)
		}
	}
	return looked, nil
}

// findOpen sets closed of the guards of items to the ids below base that have no row.
func (s *Messages) findOpen(ctx context.Context, items []*item) error {
	return database.InChunks(items, database.Chunk, func(part []*item) error {
		var q strings.Builder
		from := make([]uint32, len(part))
		for i, it := range part {
			base := it.guard.base
			from[i] = max(it.c.LastSettled()+1, base-min(base-1, lookBelow))
			if i > 0 {
				q.WriteString(" UNION ALL ")
			}
			t := it.c.Thread
			fmt.Fprintf(&q, "SELECT %d, msgId FROM %s WHERE %s=%d AND msgId BETWEEN %d AND %d", i,
				t.Table(), t.Column(), t.ID, from[i], base-1)
		}
		there := make([]map[uint32]bool, len(part))
		err := s.pairs(ctx, q.String(), func(i, id uint32) {
			if there[i] == nil {
				there[i] = map[uint32]bool{}
			}
			there[i][id] = true
		})
		if err != nil {
			return err
		}
		for i, it := range part {
			g := it.guard
			g.closed, g.checked = nil, true
			for id := from[i]; id < g.base; id++ {
				if !there[i][id] {
					g.closed = append(g.closed, id)
				}
			}
		}
		return nil
	})
}

// pairs calls take with each row of a query for two numbers.
func (s *Messages) pairs(ctx context.Context, query string, take func(a, b uint32)) error {
	rows, err := s.db.Master.QueryContext(ctx, query)
	if err != nil {
		return s.db.SQLError("look for message ids", err)
	}
	defer rows.Close()
	for rows.Next() {
		var a, b uint32
		if err := rows.Scan(&a, &b); err != nil {
			return s.db.SQLError("look for message ids", err)
		}
		take(a, b)
	}
	return s.db.SQLError("look for message ids", rows.Err())
}

func closes(it *item) bool { return it.guard != nil && len(it.guard.closed) > 0 }

// apart returns the messages of the conversations in which ids are closed, and the others.
func apart(items []*item) (closing, others []*item) {
	in := map[*conversation.Conversation]bool{}
	for _, it := range items {
		in[it.c] = in[it.c] || closes(it)
	}
	for _, it := range items {
		if in[it.c] {
			closing = append(closing, it)
		} else {
			others = append(others, it)
		}
	}
	return closing, others
}

// withClosed returns items and the rows that close ids.
func withClosed(items []*item) []*item {
	if !slices.ContainsFunc(items, closes) {
		return items
	}
	all := slices.Clone(items)
	for _, it := range items {
		if it.guard == nil {
			continue
		}
		for _, id := range it.guard.closed {
			all = append(all, &item{c: it.c, id: id, status: statusClosed, m: &im.Message{
				From: it.m.From, To: it.m.To, Type: it.m.Type, Created: it.m.Created}})
		}
	}
	return all
}

// settle records, after the commit of items, that they are stored, and up to which id of each
// conversation nothing is being stored.
func settle(items []*item) {
	for _, it := range items {
		if it.guard != nil && it.guard.checked {
			it.c.Settle(it.guard.base - 1)
		}
	}
	for _, it := range items {
		it.c.SettleNext(it.id, it.m)
		it.c.Stored(it.id)
	}
}

// numberAgain prepares items for another try after an id of theirs, or one that they close,
// turned out to have a row. It returns those that are to be stored.
func (s *Messages) numberAgain(ctx context.Context, items []*item) []*item {
	// A repeat has perhaps closed the id of its first message.
	var found []*item
	for _, it := range items {
		if conversation.IsNumbered(it.m) {
			found = append(found, it)
		}
	}
	taken, err := s.taken(ctx, items)
	if err == nil {
		err = s.findNumbered(ctx, found)
	}
	if err != nil {
		failItems(items, err)
		return nil
	}
	items = withoutDuplicates(items)
	if taken {
		// Or Redis gave ids that exist: it lost its counters, and this process did not
		// notice.
		for _, it := range items {
			it.c.Distrust()
		}
		items, _ = s.number(ctx, items)
	}
	return s.lookAgain(ctx, items)
}

// taken reports whether a row has the id of one of items.
func (s *Messages) taken(ctx context.Context, items []*item) (bool, error) {
	is := false
	err := database.InChunks(items, database.Chunk, func(part []*item) error {
		var q strings.Builder
		for i, it := range part {
			if i > 0 {
				q.WriteString(" UNION ALL ")
			}
			t := it.c.Thread
			fmt.Fprintf(&q, "SELECT %d, msgId FROM %s WHERE %s=%d AND msgId=%d", i, t.Table(),
				t.Column(), t.ID, it.id)
		}
		return s.pairs(ctx, q.String(), func(uint32, uint32) { is = true })
	})
	return is, err
}
