package store

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/sql/replica"
	"teamtalk/sql/schema"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// connectionOptions name the databases.
type connectionOptions struct {
	Master      string        // see store.Options
	Slave       string        // see store.Options
	Redis       Redis         // the instances
	Workers     int           // the size of each pool
	ReplicaWait time.Duration // see store.Options
	Logger      *slog.Logger
	Metrics     prometheus.Registerer // nil: metrics are not registered
	Now         func() time.Time      // this process's clock
	Hooks       hooks                 // points of failure, for tests
}

// newDatabases makes the part without connections.
func newDatabases(o connectionOptions) (*databases, error) {
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return &databases{o: o, hooks: o.Hooks, log: o.Logger, now: o.Now, m: m,
		epoch: newEpoch()}, nil
}

// databases are the connections that all parts share, with their errors, retries and
// locks.
type databases struct {
	o       connectionOptions
	hooks   hooks
	log     *slog.Logger
	now     func() time.Time // this process's clock, for durations
	clock   mono.Steady      // the master's clock, for times in rows; see clock.go
	m       *metrics
	master  *sql.DB
	replica *replica.Reader // nil when the master answers all reads
	redis   instances
	epoch   *epoch

	eviction eviction // of housekeeping

	// finalized reports whether the unique keys exist. It does not change while a Store
	// is open: finalize refuses while any process is connected.
	finalized bool
	locks     string // prefix of the names of this database's locks
}

// pause waits before try number n. The wait doubles with each try, up to half a second.
func pause(ctx context.Context, n int) error {
	d := min(time.Duration(1)<<n*5*time.Millisecond, 500*time.Millisecond)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// transactionTries bounds the tries of a transaction that meets a deadlock, a lock wait
// or a lost connection.
const transactionTries = 8

// retry runs do until it succeeds or fails with an error that another try would meet
// again.
func (s *databases) retry(ctx context.Context, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if err == nil || !transient(err) || try == transactionTries || ctx.Err() != nil {
			return err
		}
		s.m.retries.Inc()
		if pause(ctx, try) != nil {
			return err
		}
	}
}

// connect opens the pools and checks the databases: whether they answer, whether the
// schema is migrated and whether it is finalized.
func (s *databases) connect(ctx context.Context) (err error) {
	if s.master, err = openMySQL(s.o.Master, s.o.Workers, masterSilence); err != nil {
		return err
	}
	if s.redis, err = openRedis(s.o.Redis, s.o.Workers, s.epoch, s.log); err != nil {
		return err
	}
	if err := s.reach(ctx); err != nil {
		return err
	}
	if err := s.readClock(ctx, true); err != nil {
		return err
	}
	state, err := schema.Status(ctx, s.master)
	if err != nil {
		return im.WithKind(im.Unavailable, "read the schema's version", err)
	}
	if len(state.Pending) > 0 {
		return im.Errorf(im.Invalid, "the database is not migrated (pending: %s): run "+
			"migrate first", strings.Join(state.Pending, ", "))
	}
	if err := s.startClock(ctx); err != nil {
		return err
	}
	s.finalized = state.Finalized
	if err := s.master.QueryRowContext(ctx,
		"SELECT CONCAT('teamtalk.', LEFT(MD5(DATABASE()), 16), '.')").Scan(&s.locks); err != nil {
		return s.dbError("read the database's name", err)
	}
	return s.openReplica(ctx)
}

// replicaSilence is the longest silence of the replica in the answer to a query. The caller
// of a read waits for longer, so that the master can answer then.
const replicaSilence = 5 * time.Second

// openReplica connects to the replica, if the options name one that is not the master.
func (s *databases) openReplica(ctx context.Context) error {
	if s.o.Slave == "" {
		return nil
	}
	same, err := replica.Same(s.o.Master, s.o.Slave)
	if same || err != nil {
		return im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	o := replica.Options{Workers: s.o.Workers, Wait: s.o.ReplicaWait, Broken: everyone,
		Log: s.log, Reads: s.m.replicaReads, Up: s.m.replicaUp}
	if o.Replica, err = openMySQL(s.o.Slave, s.o.Workers, replicaSilence); err != nil {
		return err
	}
	if o.Master, err = openMySQL(s.o.Master, 1, replicaSilence); err != nil {
		o.Replica.Close()
		return err
	}
	s.replica = replica.Open(ctx, o)
	return nil
}

// reach reports whether every database answers that the process cannot do without. The
// replica is not one of them.
func (s *databases) reach(ctx context.Context) error {
	if err := s.master.PingContext(ctx); err != nil {
		return im.WithKind(im.Unavailable, "MySQL master", err)
	}
	return s.redis.ping(ctx)
}

// Ping reports whether the databases besides the replica answer, and the master and Redis
// accept writes. A server that was demoted, lost its cluster or is full still answers.
func (s *databases) Ping(ctx context.Context) error {
	if err := s.reach(ctx); err != nil {
		return err
	}
	if err := s.writable(ctx); err != nil {
		return im.WithKind(im.Unavailable, "write to the MySQL master", err)
	}
	return s.redis.writable(ctx)
}

// writable commits a transaction that writes a row and removes it.
func (s *databases) writable(ctx context.Context) error {
	tx, err := s.master.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // without effect after the commit
	owner := uuid.New()
	for _, q := range []string{"INSERT INTO IMUnreadOutbox (owner, seq, payload, created) " +
		"VALUES (x'%x', 0, '', UNIX_TIMESTAMP())", "DELETE FROM IMUnreadOutbox WHERE owner=x'%x'"} {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf(q, owner[:])); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// read runs do on the replica or on the master, and perhaps on both; see replica.Reader. do
// reads only, and uses no other connection.
func (s *databases) read(ctx context.Context, do func(db querier) error) error {
	return s.replica.Read(ctx, func(conn *sql.Conn) error { return do(conn) },
		func() error { return do(s.master) })
}

// ReplicaState returns why the replica for reads is out of use. It returns nil while the
// replica is used, and without one.
func (s *databases) ReplicaState() error { return s.replica.State() }

// close closes the connections that are open, and unregisters the metrics.
func (s *databases) close() error {
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	keep(s.redis.close())
	keep(s.replica.Close())
	if s.master != nil {
		keep(s.master.Close())
	}
	s.m.unregister()
	return first
}

// every calls f at intervals, until ctx ends.
func every(ctx context.Context, interval time.Duration, f func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}
