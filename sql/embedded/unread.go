package embedded

import (
	"context"
	"database/sql"
	"math"
	"sync"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/arrivals"
)

// unread is the part that reads and clears unread counts.
type unread struct {
	*database
	clears clears
}

// clears batches calls of ClearUnread into transactions. These calls are about as many as
// messages, because users read what they receive. A transaction for each would leave the
// writer little time for messages.
type clears struct {
	mu   sync.Mutex
	next *clearBatch // the batch that waits for the writer, or nil
}

// clearBatch is the set of counts that one transaction clears.
type clearBatch struct {
	unread []unreadKey // guarded by clears.mu until the transaction takes the batch
	done   chan struct{}
	err    error // set before done is closed
}

// unreadKey identifies a side of a conversation, or a member of a group.
type unreadKey struct {
	user, peer uint32
	group      bool
}

// scope is the conversation or group of k.
func (k unreadKey) scope() arrivals.Scope {
	if k.group {
		return arrivals.Groups(k.peer)
	}
	return arrivals.Pair(k.user, k.peer)
}

// ClearUnread sets user's unread count for peer to zero. A call that finds zero writes
// nothing. When ctx ends while the call waits for the writer, the count may still be
// cleared.
func (s *unread) ClearUnread(ctx context.Context, user, peer uint32) error {
	return s.clear(ctx, unreadKey{user: user, peer: peer}, s.read.hasUnread, min(user, peer),
		max(user, peer), user)
}

// ClearGroupUnread marks everything in a group as read by user. It shares transactions
// with ClearUnread.
func (s *unread) ClearGroupUnread(ctx context.Context, user, group uint32) error {
	return s.clear(ctx, unreadKey{user, group, true}, s.read.hasGroupUnread, group, user)
}

// clear sets the unread count of k to zero, unless has, with args, reads zero. A conversation with
// messages that wait is not read for that.
func (s *unread) clear(ctx context.Context, k unreadKey, has *sql.Stmt, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.lock == nil || !s.writer.waiting.Has(k.scope()) {
		unread := 0
		err := s.rows(ctx, "has unread", k.scope(), has, func(row scanner) error {
			return row.Scan(&unread)
		}, args...)
		if err != nil || unread == 0 {
			return err
		}
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

// joinClears adds k to the batch that waits for the writer. The first key of a batch
// starts its transaction, which is independent of any caller's context.
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
	b.err = s.run(context.Background(), transaction{}, func(w *writer) error {
		take() // later calls make the next batch
		for _, k := range b.unread {
			if err := w.settle(k.scope(), math.MaxInt); err != nil {
				return err
			}
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

// clear sets the unread count of k to zero.
func (w *writer) clear(k unreadKey) (err error) {
	if k.group {
		_, err = w.clearGroupUnread.Exec(k.peer, k.user)
	} else {
		_, err = w.clearUnread.Exec(min(k.user, k.peer), max(k.user, k.peer), k.user)
	}
	return err
}

// UnreadTotals returns users' numbers of unread messages, groups included; see
// im.MessageStore.
func (s *unread) UnreadTotals(ctx context.Context, users []uint32) (map[uint32]uint32, error) {
	totals := make(map[uint32]uint32, len(users))
	err := s.rows(ctx, "unread totals", arrivals.Users(users...), s.read.unreadTotals,
		func(row scanner) error {
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

// UnreadCounts returns a user's conversations with unread messages; see im.MessageStore.
func (s *unread) UnreadCounts(ctx context.Context, user uint32, limit int) (list []im.Unread,
	total uint32, err error) {
	err = s.rows(ctx, "unread counts", arrivals.Users(user), s.read.unreadCounts,
		func(row scanner) (err error) {
			var u im.Unread
			u.Latest, err = scanMessage(row, &user, &u.Peer, &total, &u.Type, &u.Peer, &u.Count)
			list = append(list, u)
			return err
		}, user, max(limit, 1))
	if err != nil {
		return nil, 0, err
	}
	return list, total, nil
}
