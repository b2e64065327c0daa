package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"teamtalk/core/im"
)

// finish commits. When the connection is lost meanwhile, finish looks up the outcome.
func (s *outbox) finish(ctx context.Context, conn *sql.Conn, sl *slot, owed dues,
	commit func() error) error {
	err := commit()
	if err == nil || mysqlError(err) != nil && !lostConnection(err) {
		return err
	}
	discard(conn)
	conn.Close() // the look-up needs a connection, and the pool may have only one
	committed, lookErr := s.committed(ctx, sl, owed)
	if lookErr != nil {
		// In doubt: the outbox row, if it exists, keeps the counts.
		s.retire(sl)
		return im.WithKind(im.Unavailable, "connection lost while committing",
			errors.Join(errOutcome, err, lookErr))
	}
	if committed {
		return nil
	}
	return err
}

// outcomeTimeout bounds the look-up of a commit's outcome.
const outcomeTimeout = 20 * time.Second

// committed reports whether the last transaction of a slot is committed, by its row in
// the outbox. The row is read with a lock: if the transaction is still open on a
// connection that the server believes to be alive, the read waits until it ends.
func (s *outbox) committed(ctx context.Context, sl *slot, owed dues) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeTimeout)
	defer cancel()
	for try := 1; ; try++ {
		var seq uint64
		err := s.master.QueryRowContext(ctx, fmt.Sprintf("SELECT seq FROM IMUnreadOutbox "+
			"WHERE owner=x'%x' FOR UPDATE", sl.owner[:])).Scan(&seq)
		switch {
		case err == nil:
			return seq >= sl.seq, nil
		case err == sql.ErrNoRows:
			// Either the row was never written, or another process has recovered it and
			// left its mark.
			return s.applied(ctx, sl.owner, sl.seq, owed)
		case !transient(err):
			return false, err
		}
		if err := pause(ctx, try); err != nil {
			return false, err
		}
	}
}
