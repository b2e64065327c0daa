package retention

import (
	"context"
	"fmt"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/schema"
	"teamtalk/sql/store/use"
)

// Rows of IMLease: the lease of the process that keeps the rule about old messages, and the time
// at which the last finished run ended, in the column until.
const (
	pruneLease  = "prune"
	prunedRow   = "pruned"
	pruneSecond = 300 // for which a process that was killed keeps others from the lease
)

// TakePruning takes the lease of the rule; see im.PruneTurns.
func (s *Retention) TakePruning(ctx context.Context) (im.PruneTurn, error) {
	l, err := schema.TakeLease(use.Periodic(ctx), s.db.Master, pruneLease, pruneSecond*time.Second)
	if err != nil || l == nil {
		return nil, s.db.SQLError("take the lease of pruning", err)
	}
	return l, nil
}

// LastPruned returns the end of the last finished run; see im.PruneTurns.
func (s *Retention) LastPruned(ctx context.Context) (at int64, err error) {
	err = s.db.Master.QueryRowContext(use.Periodic(ctx),
		"SELECT COALESCE(MAX(until), 0) FROM IMLease WHERE name=?", prunedRow).Scan(&at)
	return at, s.db.SQLError("read the time of the last pruning", err)
}

// SetPruned records the end of a finished run; see im.PruneTurns.
func (s *Retention) SetPruned(ctx context.Context, at time.Time) error {
	return s.db.SQLError("record a pruning", s.exec(use.Periodic(ctx), fmt.Sprintf(
		"INSERT INTO IMLease (name, holder, epoch, until) VALUES ('%s', '', 1, %[2]d) "+
			"ON DUPLICATE KEY UPDATE epoch=epoch+1, until=%[2]d", prunedRow, at.Unix())))
}
