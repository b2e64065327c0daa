package files

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"teamtalk/core/im"
)

// clockStep is the longest step back of the database's clock, in seconds, after which a lease has
// its holder until that clock has caught up, as in package schema.
const clockStep = 60

// KeepSpool takes or renews the lease of a spool; see im.FileStore.
func (s *Files) KeepSpool(ctx context.Context, o im.SpoolOwner) (epoch uint64, err error) {
	if err := im.CheckSpoolOwner(o); err != nil {
		return 0, err
	}
	err = s.db.Retry(ctx, func() error {
		tx, err := s.db.Master.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // without effect after the commit
		if epoch, err = keepSpool(ctx, tx, &o); err != nil || epoch == 0 {
			return err
		}
		return tx.Commit()
	})
	if err != nil {
		return 0, s.db.SQLError("keep the lease of a spool", err)
	}
	return epoch, nil
}

// keepSpool locks the row of a lease, and writes it if it is o's. On two nodes of a cluster the
// transaction that commits later is aborted.
func keepSpool(ctx context.Context, tx *sql.Tx, o *im.SpoolOwner) (uint64, error) {
	name := o.LeaseName()
	if _, err := tx.ExecContext(ctx, "INSERT IGNORE INTO IMLease (name, holder, epoch, until) "+
		"VALUES (?, '', 0, 0)", name); err != nil {
		return 0, err
	}
	var holder []byte
	var epoch uint64
	var ended bool
	seconds := int64(o.Lease / time.Second)
	if err := tx.QueryRowContext(ctx, fmt.Sprintf("SELECT holder, epoch, "+
		"until<=UNIX_TIMESTAMP() OR until>UNIX_TIMESTAMP()+%d FROM IMLease WHERE name=? FOR UPDATE",
		seconds+clockStep), name).Scan(&holder, &epoch, &ended); err != nil {
		return 0, err
	}
	same := string(holder) == string(o.Spool[:])
	switch {
	case same && o.Epoch == epoch: // it may have ended: nobody has taken it
	case same && o.Epoch == 0, ended:
		epoch++
	default:
		return 0, nil
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE IMLease SET holder=x'%x', epoch=%d, "+
		"until=UNIX_TIMESTAMP()+%d WHERE name=?", o.Spool[:], epoch, seconds), name)
	return epoch, err
}

// ForgetOfflineFile removes a waiting file without a trace; see im.FileStore.
func (s *Files) ForgetOfflineFile(ctx context.Context, o im.SpoolOwner, from, to uint32,
	task string) (bool, error) {
	if err := im.CheckSpoolOwner(o); err != nil {
		return false, err
	}
	if !im.ValidTaskID(task) {
		return false, s.db.SQLError("forget offline file", ctx.Err())
	}
	gone, owns := false, true
	err := s.db.Retry(ctx, func() error {
		tx, err := s.db.Master.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // without effect after the commit
		if owns, err = fence(ctx, tx, &o); err != nil || !owns {
			return err
		}
		res, err := tx.ExecContext(ctx, "DELETE FROM IMTransmitFile "+
			"WHERE taskId=? AND fromId=? AND toId=? AND status=0", task, from, to)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		gone = gone || n > 0
		return tx.Commit()
	})
	switch {
	case err != nil:
		return false, s.db.SQLError("forget offline file", err)
	case !owns:
		return false, o.NotOwner()
	}
	return gone, nil
}

// fence renews the lease of o, and reports whether it has it. It always changes the row: on another
// node of a cluster the transaction that takes the lease meets this one.
func fence(ctx context.Context, tx *sql.Tx, o *im.SpoolOwner) (bool, error) {
	seconds := int64(o.Lease / time.Second)
	res, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE IMLease SET until=UNIX_TIMESTAMP()+%[1]d+"+
		"IF(until=UNIX_TIMESTAMP()+%[1]d, 1, 0) WHERE name=? AND holder=x'%[2]x' AND epoch=%[3]d",
		seconds, o.Spool[:], o.Epoch), o.LeaseName())
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0 && o.Epoch > 0, err
}
