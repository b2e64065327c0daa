package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"teamtalk/core/backoff"
	"teamtalk/core/im"
)

// LeaseDB is a *sql.DB or a *sql.Conn.
type LeaseDB interface {
	BeginTx(ctx context.Context, o *sql.TxOptions) (*sql.Tx, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Lease is the right to do a piece of work that one process does at a time. It is a row of
// IMLease, because a named lock holds on one node of a cluster only. It ends by the clock
// of the database, which all processes share. Its epoch increases with each holder.
//
// Not for concurrent use.
type Lease struct {
	db      LeaseDB
	name    string
	holder  uuid.UUID
	epoch   uint64
	ttl     time.Duration
	renewed time.Time // on the monotonic clock of this process
}

// clockStep is the longest step back of the database's clock, in seconds, after which a lease
// has its holder until that clock has caught up. After a longer step the lease has ended:
// otherwise the lease of a holder that was killed would last as long as the step.
const clockStep = 60

// ErrLeaseLost means that a lease has ended: its holder did not renew it in time.
var ErrLeaseLost = errors.New("the lease was lost")

// TakeLease takes a lease for ttl, in whole seconds, which is the same for all holders. It
// returns nil when another process holds the lease.
func TakeLease(ctx context.Context, db LeaseDB, name string, ttl time.Duration) (*Lease, error) {
	l := &Lease{db: db, name: name, holder: uuid.New(), ttl: ttl, renewed: time.Now()}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() // without effect after the commit
	// The assignments run in their order, so until is the last one.
	seconds := int64(ttl / time.Second)
	ended := fmt.Sprintf("until<=UNIX_TIMESTAMP() OR until>UNIX_TIMESTAMP()+%d",
		seconds+clockStep)
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO IMLease "+
		"(name, holder, epoch, until) VALUES (?, x'%x', 1, UNIX_TIMESTAMP()+%d) "+
		"ON DUPLICATE KEY UPDATE epoch=IF(%[3]s, epoch+1, epoch), "+
		"holder=IF(%[3]s, VALUES(holder), holder), until=IF(%[3]s, VALUES(until), until)",
		l.holder[:], seconds, ended), name); err != nil {
		return nil, taken(err)
	}
	var holder []byte
	if err := tx.QueryRowContext(ctx, "SELECT holder, epoch FROM IMLease WHERE name=? FOR UPDATE",
		name).Scan(&holder, &l.epoch); err != nil {
		return nil, taken(err)
	}
	if string(holder) != string(l.holder[:]) {
		return nil, nil
	}
	if err := tx.Commit(); err != nil {
		return nil, taken(err)
	}
	return l, nil
}

// taken returns nil for an error that means that another process takes the lease right
// now: on this server, or on another node of a cluster.
func taken(err error) error {
	if isMySQL(err, 1205, 1213, 1020) {
		return nil
	}
	return err
}

// Epoch returns the number of this holder among all holders.
func (l *Lease) Epoch() uint64 { return l.epoch }

// Renew prolongs the lease to its full time from now. It returns ErrLeaseLost when the
// lease has ended.
func (l *Lease) Renew(ctx context.Context) error {
	now := time.Now()
	res, err := l.db.ExecContext(ctx, fmt.Sprintf("UPDATE IMLease SET "+
		"until=GREATEST(until+1, UNIX_TIMESTAMP()+%d) WHERE name=? AND holder=x'%x' AND epoch=%d "+
		"AND until>UNIX_TIMESTAMP()", int64(l.ttl/time.Second), l.holder[:], l.epoch), l.name)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(ErrLeaseLost, err)
	}
	l.renewed = now
	return nil
}

// Keep renews the lease when a third of its time has passed. The holder calls it before
// each part of its work.
func (l *Lease) Keep(ctx context.Context) error {
	if time.Since(l.renewed) < l.ttl/3 {
		return nil
	}
	return l.Renew(ctx)
}

// Release ends the lease, so that another process need not wait.
func (l *Lease) Release(ctx context.Context) error {
	_, err := l.db.ExecContext(ctx, fmt.Sprintf("UPDATE IMLease SET until=0 "+
		"WHERE name=? AND holder=x'%x' AND epoch=%d", l.holder[:], l.epoch), l.name)
	return err
}

// migrationLease is the name of the lease of Migrate and Finalize.
const migrationLease = "schema"

// migrationTTL is the time for which a migration that was killed keeps others out.
const migrationTTL = 12 * time.Second

// takeMigration takes the lease of migrations. When a process holds it that was killed,
// takeMigration waits until it ends. A holder that lives renews it meanwhile.
func takeMigration(ctx context.Context, db *sql.DB) (*Lease, error) {
	first := int64(-1)
	for {
		l, err := TakeLease(ctx, db, migrationLease, migrationTTL)
		if l != nil || err != nil {
			return l, err
		}
		var until int64
		if err := db.QueryRowContext(ctx, "SELECT until FROM IMLease WHERE name=?",
			migrationLease).Scan(&until); err != nil {
			return nil, err
		}
		if first < 0 {
			first = until
		}
		if until > first {
			return nil, im.Errorf(im.Busy, "another process is migrating this database")
		}
		// It polls another process.
		if err := backoff.Sleep(ctx, 200*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// whileLeased runs do while it renews a lease. The context of do ends when the lease is
// lost, with the reason as its cause.
func whileLeased(ctx context.Context, l *Lease, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		every := time.NewTicker(l.ttl / 4)
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
			}
			// One attempt may fail while the database restarts, the lease lasts for more.
			err := l.Renew(ctx)
			if errors.Is(err, ErrLeaseLost) || time.Since(l.renewed) >= l.ttl {
				cancel(fmt.Errorf("keep the lease of the migration: %w", err))
				return
			}
		}
	}()
	err := do(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil && ctx.Err() != cause {
		err = errors.Join(err, cause)
	}
	cancel(nil)
	<-done
	return err
}
