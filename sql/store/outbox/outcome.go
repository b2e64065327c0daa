package outbox

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/store/database"
)

// Stored reports whether the tables hold what a transaction wrote. db is the transaction
// in which the look-up runs.
type Stored func(ctx context.Context, db database.Querier) (bool, error)

// Finish commits. When the answer leaves the outcome open, Finish finds it out. table
// looks the messages up when outbox and mark do not show the outcome. It may be nil.
func (s *Outbox) Finish(ctx context.Context, conn *sql.Conn, sl *Slot, owed Dues,
	table Stored, commit func() error) error {
	err := commit()
	if err == nil || database.Refused(err) {
		return err
	}
	database.Discard(conn)
	conn.Close() // the look-up needs a connection, and the pool may have only one
	committed, lookErr := s.committed(ctx, sl, owed, table)
	if lookErr != nil {
		// In doubt: the outbox row, if it exists, keeps the counts.
		s.Retire(sl)
		return im.WithKind(im.Unavailable, "connection lost while committing",
			errors.Join(database.ErrOutcome, err, lookErr))
	}
	if committed {
		return nil
	}
	// The server may not notice for long that the connection is lost. Its transaction, although
	// it failed, then keeps the lock of the row that bars it. The next one has another row.
	sl.renew()
	return err
}

// outcomeTimeout bounds the look-up of a commit's outcome.
const outcomeTimeout = 20 * time.Second

// reachTimeout is how long the look-up tries to reach the database when each try fails. The
// transaction is in doubt then, and the message server asks another db_proxy: the database
// of this one may be a node of a cluster that is gone, while the others serve. A node that
// starts again takes about as long to fetch what it has missed.
//
// Another process may decide, although this one cannot fence the transaction:
//
//   - It finds the transaction by its messages, see Messages.findSent and findResent.
//   - If it does not find it, its own transaction writes a row with a unique key that the
//     transaction has as well: the client_msg_id, or the ids below its own. So the two are
//     never both committed.
//   - In a Galera cluster the transaction of a node that is gone is either replicated to all
//     nodes of the next view, at one place of their common order, or to none. Nodes without
//     it go on only in the next view. A node that applies it late aborts the other
//     transaction, which comes after it in that order. The node that is gone takes the
//     state of the others when it is back, and drops a transaction that they lack.
const reachTimeout = 2 * time.Second

// committed reports whether the last transaction of a slot is committed.
//
// A read is not enough. The transaction may still be open on a connection that the server
// believes to be alive. Behind a balancer the server that reads may be another node of a
// cluster, which the transaction has not reached yet. The caller would then store the
// messages a second time. So committed writes the row of the outbox that the transaction
// writes first. Two transactions that write one row are never both committed unless the
// second has seen the first: a single server makes the second wait, and a cluster aborts it.
// After this write is committed, the transaction either was seen or cannot be committed any
// more: it has waited for the row, or finds itself barred.
func (s *Outbox) committed(ctx context.Context, sl *Slot, owed Dues,
	table Stored) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeTimeout)
	defer cancel()
	reached := time.Now()
	for try := 1; ; try++ {
		yes, err := s.fence(ctx, sl, owed, table)
		if err == nil || !database.Transient(err) {
			return yes, err
		}
		if !database.LostConnection(err) {
			reached = time.Now()
		} else if time.Since(reached) >= s.ReachTimeout {
			return false, err
		}
		if err := database.Pause(ctx, try); err != nil {
			return false, err
		}
	}
}

// fence writes the outbox row of a slot, and reports whether the slot's last transaction
// is committed.
func (s *Outbox) fence(ctx context.Context, sl *Slot, owed Dues, table Stored) (bool, error) {
	conn, err := s.reach(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback() // without effect after the commit
	// Each run changes the row: a write without a change would fence nothing. A row of
	// number 0 owes nothing.
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO IMUnreadOutbox "+
		"(owner, seq, payload, created) VALUES (x'%x', 0, '', UNIX_TIMESTAMP()) "+
		"ON DUPLICATE KEY UPDATE created=created+1", sl.owner[:])); err != nil {
		return false, err
	}
	var seq uint64
	var payload []byte
	if err := tx.QueryRowContext(ctx, fmt.Sprintf("SELECT seq, payload FROM IMUnreadOutbox "+
		"WHERE owner=x'%x' FOR UPDATE", sl.owner[:])).Scan(&seq, &payload); err != nil {
		return false, err
	}
	if seq >= sl.seq {
		return !bytes.Equal(payload, barred), nil
	}
	if seq == 0 {
		// Either the row was never written, or another process has recovered and removed
		// it.
		if yes, err := s.recovered(ctx, tx, sl, owed, table); yes || err != nil {
			return yes, err
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE IMUnreadOutbox SET seq=%d, "+
		"payload=x'%x', created=UNIX_TIMESTAMP()+%d WHERE owner=x'%x'", sl.seq, barred,
		int64(barredFor/time.Second), sl.owner[:])); err != nil {
		return false, err
	}
	return false, tx.Commit()
}

// barred is the payload of a row that bars the transaction with its number: one that is not
// committed, and whose statements may still be on their way to the server, with the COMMIT
// behind them. They arrive on a connection that is lost, and the first of them then fails
// (writeOwed). It is that of Dues without anything in a form that AppendDues does not use for
// them, so that no row of a committed transaction has it.
var barred = []byte{0, duesForm, 0, 0, 0}

// barredFor is for how long a row bars its transaction, unless a later transaction of the owner
// takes its place, which bars the earlier ones too.
const barredFor = time.Hour

// recovered reports whether the slot's last transaction is committed although its outbox
// row is gone: the messages are in the table, or its mark is in Redis.
func (s *Outbox) recovered(ctx context.Context, tx *sql.Tx, sl *Slot, owed Dues,
	table Stored) (bool, error) {
	if table != nil {
		return table(ctx, tx)
	}
	return s.applied(ctx, sl.owner, sl.seq, owed)
}

// reach returns a connection. A server that accepts connections and does not answer, as a
// stopped process, counts as one that is not reached.
func (s *Outbox) reach(ctx context.Context) (*sql.Conn, error) {
	short, cancel := context.WithTimeout(ctx, max(s.ReachTimeout, time.Second))
	defer cancel()
	conn, err := s.db.Master.Conn(short)
	if err != nil && short.Err() != nil && ctx.Err() == nil {
		err = errors.Join(driver.ErrBadConn, err)
	}
	return conn, err
}
