package passwords

import (
	"context"
	"sync"
	"time"

	"teamtalk/core/im"
)

// A row is moved after a login with the right password, when the login is answered. One
// row at a time is moved, and the time for it is a fifth of one core at most: moving may
// take days, and must not slow down the logins of a storm. A row that could not be moved
// is moved at a later login.

const (
	// maxMoves bounds the rows that wait to be moved.
	maxMoves = 4096
	// movePause is the pause after a move, in durations of the move.
	movePause = 4
	// moveAge is how long a row must not have changed. A message server notices within
	// seconds that a password was changed, and ends the sessions from before. It cannot tell
	// a row that was changed and then moved from one that was only moved, so there must be
	// enough time between the two.
	moveAge = 5 * time.Minute
)

// moves holds the rows that wait to be moved.
type moves struct {
	mu      sync.Mutex
	waiting []move
	queued  map[uint32]bool // users that wait
	running bool
}

// move is a row that is to be moved.
type move struct {
	user   uint32
	stored im.StoredPassword
	sent   string
}

// Passed notes a login whose password was right. The row is moved in the background when
// the policy demands it.
func (c *Checker) Passed(a *im.Account, sent string) {
	stored := a.Stored()
	if !c.opt.Policy.Improves(stored) || !stored.IsKDF() && c.isFresh(a) {
		return
	}
	m := &c.moves
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.queued[a.ID] {
		return
	}
	if len(m.waiting) >= maxMoves {
		c.metrics.moves.WithLabelValues("dropped").Inc()
		return
	}
	m.queued[a.ID] = true
	m.waiting = append(m.waiting, move{a.ID, stored, sent})
	if !m.running {
		m.running = true
		go c.runMoves()
	}
}

// isFresh reports whether a row changed a short time ago, or in the future of the store's
// clock.
func (c *Checker) isFresh(a *im.Account) bool {
	return c.opt.StoreNow().Sub(time.Unix(int64(a.Updated), 0)) < moveAge
}

// runMoves moves the waiting rows.
func (c *Checker) runMoves() {
	for {
		next, ok := c.nextMove()
		if !ok {
			return
		}
		begun := c.opt.Now()
		c.move(next)
		pause := time.NewTimer(movePause * max(0, c.opt.Now().Sub(begun)))
		select {
		case <-pause.C:
		case <-c.opt.Stopped:
		}
		pause.Stop()
	}
}

// nextMove returns the row that waits longest; false: none waits, or this server stops.
func (c *Checker) nextMove() (next move, ok bool) {
	m := &c.moves
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-c.opt.Stopped:
		m.waiting = nil
	default:
	}
	if len(m.waiting) == 0 {
		m.waiting, m.running = nil, false
		return move{}, false
	}
	next = m.waiting[0]
	m.waiting[0] = move{}
	m.waiting = m.waiting[1:]
	return next, true
}

// move derives the new form of a row and stores it.
func (c *Checker) move(row move) {
	defer func() {
		c.moves.mu.Lock()
		delete(c.moves.queued, row.user)
		c.moves.mu.Unlock()
	}()
	better, ok := c.opt.Policy.Improve(row.stored, row.sent)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.opt.Timeout)
	defer cancel()
	moved, err := c.opt.Store.ReplacePassword(ctx, row.user, row.stored, better)
	result := "changed"
	switch {
	case err != nil:
		result = "failed"
		c.often.Warn(c.opt.Log, c.opt.Now(), "the form of a password was not replaced, a later "+
			"login will", "role", "dbproxy", "user", row.user, "err", err)
	case moved:
		result = "moved"
		login := Login{Account: &im.Account{User: im.User{ID: row.user}}, Sent: row.sent}
		c.right.add(c.keyOf(&login, better))
	}
	c.metrics.moves.WithLabelValues(result).Inc()
}
