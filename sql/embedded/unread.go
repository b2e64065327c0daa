package embedded

import (
	"context"
	"sync"
)

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

// unreadKey is a side of a conversation.
type unreadKey struct{ user, peer uint32 }

// ClearUnread sets user's unread count for peer to zero. Many calls find it there already, and write nothing. When ctx ends while
// the call waits for its turn, the count may be cleared all the same.
func (s *Store) ClearUnread(ctx context.Context, user, peer uint32) error {
	unread := 0
	err := s.rows(ctx, "has unread", s.read.hasUnread, func(row scanner) error { return row.Scan(&unread) },
		min(user, peer), max(user, peer), user)
	if err != nil || unread == 0 {
		return err
	}
	return s.call("clear unread", func() error {
		b := s.joinClears(unreadKey{user, peer})
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
func (s *Store) joinClears(k unreadKey) *clearBatch {
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

func (s *Store) runClears(b *clearBatch) {
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
			if _, err := w.clearUnread.Exec(min(k.user, k.peer), max(k.user, k.peer), k.user); err != nil {
				return err
			}
		}
		return nil
	})
	if !taken { // the transaction did not begin
		take()
	}
}
