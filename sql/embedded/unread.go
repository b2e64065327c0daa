package embedded

import (
	"context"
	"database/sql"
	"sync"

	"teamtalk/core/im"
)

// unread is the part that reads and clears unread counts.
type unread struct {
	*database
	clears clears
}

// clears gathers calls of ClearUnread into transactions. People read what they are sent, so these calls are about as many as
// messages; one transaction each would leave the writer little time for messages.
type clears struct {
	mu   sync.Mutex
	next *clearBatch // waits for the writer; nil when none does
}

// clearBatch is what one transaction will clear.
type clearBatch struct {
	unread []unreadKey // guarded by clears.mu until the transaction takes the batch
	done   chan struct{}
	err    error // set before done is closed
}

// unreadKey is a side of a conversation, or a member of a group.
type unreadKey struct {
	user, peer uint32
	group      bool
}

// ClearUnread sets user's unread count for peer to zero. Many calls find it there already, and write nothing. When ctx ends while
// the call waits for its turn, the count may be cleared all the same.
func (s *unread) ClearUnread(ctx context.Context, user, peer uint32) error {
	return s.clear(ctx, unreadKey{user: user, peer: peer}, s.read.hasUnread, min(user, peer), max(user, peer), user)
}

// ClearGroupUnread says that user has read everything in a group. Calls of it and of ClearUnread share transactions.
func (s *unread) ClearGroupUnread(ctx context.Context, user, group uint32) error {
	return s.clear(ctx, unreadKey{user, group, true}, s.read.hasGroupUnread, group, user)
}

// clear sets what is unread of k to zero, unless has, with args, finds it so.
func (s *unread) clear(ctx context.Context, k unreadKey, has *sql.Stmt, args ...any) error {
	unread := 0
	err := s.rows(ctx, "has unread", has, func(row scanner) error { return row.Scan(&unread) }, args...)
	if err != nil || unread == 0 {
		return err
	}
	return s.call("clear unread", func() error {
		b := s.joinClears(k)
		select {
		case <-b.done:
			return b.err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// joinClears adds k to the batch that waits for the writer; the first of a batch starts it. It runs apart from any caller, whose context
// may end before the others'.
func (s *unread) joinClears(k unreadKey) *clearBatch {
	s.clears.mu.Lock()
	defer s.clears.mu.Unlock()
	b := s.clears.next
	if b == nil {
		b = &clearBatch{done: make(chan struct{})}
		s.clears.next = b
		s.background.Go(func() { s.runClears(b) })
	}
	b.unread = append(b.unread, k)
	return b
}

func (s *unread) runClears(b *clearBatch) {
	defer close(b.done)
	taken := false
	take := func() {
		s.clears.mu.Lock()
		defer s.clears.mu.Unlock()
		s.clears.next, taken = nil, true
	}
	b.err = s.transact(context.Background(), func(w *writer) error {
		take() // from here on calls make the next batch
		for _, k := range b.unread {
			if err := w.clear(k); err != nil {
				return err
			}
		}
		return nil
	})
	if !taken { // the transaction did not begin
		take()
	}
}

// clear sets what is unread of k to zero.
func (w *writer) clear(k unreadKey) (err error) {
	if k.group {
		_, err = w.clearGroupUnread.Exec(k.peer, k.user)
	} else {
		_, err = w.clearUnread.Exec(min(k.user, k.peer), max(k.user, k.peer), k.user)
	}
	return err
}

// UnreadTotals returns users' unread messages, groups included, as im.MessageStore says.
func (s *unread) UnreadTotals(ctx context.Context, users []uint32) (map[uint32]uint32, error) {
	totals := make(map[uint32]uint32, len(users))
	err := s.rows(ctx, "unread totals", s.read.unreadTotals, func(row scanner) error {
		var user, unread uint32
		err := row.Scan(&user, &unread)
		totals[user] = unread
		return err
	}, jsonArray(users))
	if err != nil {
		return nil, err
	}
	return totals, nil
}

// UnreadCounts returns a user's conversations with unread messages, as im.MessageStore says.
func (s *unread) UnreadCounts(ctx context.Context, user uint32) ([]im.Unread, error) {
	var counts []im.Unread
	err := s.rows(ctx, "unread counts", s.read.unreadCounts, func(row scanner) (err error) {
		var u im.Unread
		u.Latest, err = scanMessage(row, &user, &u.Peer, &u.Type, &u.Peer, &u.Count)
		counts = append(counts, u)
		return err
	}, user)
	if err != nil {
		return nil, err
	}
	return counts, nil
}
