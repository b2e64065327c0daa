// Package database is the layer of connections under all parts of the store: pools of the master
// and the replica, the Redis clients, retries, named locks, the script of a transaction, the
// master's clock, and the kinds of errors.
//
// No method holds more than one connection, or waits for a second one.
package database

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/backoff"
	"teamtalk/core/cert"
	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/sql/mysqlconn"
	"teamtalk/sql/replica"
	"teamtalk/sql/schema"
	"teamtalk/sql/store/redisconn"
	"teamtalk/sql/store/use"
)

// Options name the databases.
type Options struct {
	Master      string           // see store.Options
	Slave       string           // see store.Options
	TLS         *cert.Client     // see store.Options
	Redis       redisconn.Config // the instances
	Workers     int              // the size of each pool
	ReplicaWait time.Duration    // see store.Options
	HalfMoved   bool             // see store.Options
	Logger      *slog.Logger
	Metrics     prometheus.Registerer // nil: metrics are not registered
	Now         func() time.Time      // this process's clock
	Hooks       Hooks                 // points of failure, for tests
}

// New makes the part without connections.
func New(o Options) *DB {
	s := &DB{o: o, Hooks: o.Hooks, Log: o.Logger, ProcessTime: o.Now, Metrics: newMetrics(),
		Uses: use.New()}
	s.Epoch = redisconn.NewEpoch(s.Uses.All)
	return s
}

// DB are the connections that all parts share, with their errors, retries and
// locks.
type DB struct {
	o           Options
	Hooks       Hooks
	Log         *slog.Logger
	ProcessTime func() time.Time // this process's clock, for durations
	clock       mono.Steady      // the master's clock, for times in rows; see clock.go
	Metrics     *Metrics
	Master      *sql.DB
	Replica     *replica.Reader // nil when the master answers all reads
	Redis       redisconn.Clients
	Epoch       *redisconn.Epoch
	Uses        *use.Uses // what paces the periodic work

	registered bool     // the metrics are
	eviction   eviction // of housekeeping

	// Finalized reports whether the unique keys exist. It does not change while a Store
	// is open: finalize refuses while any process is connected.
	Finalized bool
	locks     string // prefix of the names of this database's locks
}

// Pause waits before try number n. The wait doubles with each try, up to half a second.
func Pause(ctx context.Context, n int) error {
	return backoff.Sleep(ctx, min(time.Duration(1)<<n*5*time.Millisecond, 500*time.Millisecond))
}

// TransactionTries bounds the tries of a transaction that meets a deadlock, a lock wait
// or a lost connection.
const TransactionTries = 8

// Retry runs do until it succeeds or fails with an error that another try would meet
// again.
func (s *DB) Retry(ctx context.Context, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if err == nil || !Transient(err) || try == TransactionTries || ctx.Err() != nil {
			return err
		}
		s.Metrics.Retries.Inc()
		if Pause(ctx, try) != nil {
			return err
		}
	}
}

// Connect registers the metrics, opens the pools and checks the databases: whether they answer,
// whether the schema is migrated and whether it is finalized.
func (s *DB) Connect(ctx context.Context) (err error) {
	if s.o.Metrics != nil {
		if err := s.o.Metrics.Register(s.Metrics); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
		s.registered = true
	}
	if s.Master, err = openMySQL(s.o.Master, s.o.TLS, s.o.Workers, masterSilence,
		s.Uses); err != nil {
		return err
	}
	if s.Redis, err = redisconn.Open(s.o.Redis, s.o.Workers, s.Epoch, s.Log); err != nil {
		return err
	}
	for _, c := range s.Redis.All {
		c.AddHook(s.Uses.Hook())
	}
	if err := s.reach(ctx); err != nil {
		return err
	}
	if err := s.ReadClock(ctx, true); err != nil {
		return err
	}
	state, err := schema.Status(ctx, s.Master)
	if err != nil {
		return im.WithKind(im.Unavailable, "read the schema's version", err)
	}
	if len(state.Pending) > 0 {
		return im.Errorf(im.Invalid, "the database is not migrated (pending: %s): run "+
			"migrate first", strings.Join(state.Pending, ", "))
	}
	if half, err := schema.HalfMoved(ctx, s.Master); err != nil || half && !s.o.HalfMoved {
		return cmp.Or(err, im.Errorf(im.Invalid, "a move into the database has not finished: "+
			"run teamtalk move again"))
	}
	if err := s.startClock(ctx); err != nil {
		return err
	}
	s.Finalized = state.Finalized
	if err := s.Master.QueryRowContext(ctx,
		"SELECT CONCAT('teamtalk.', LEFT(MD5(DATABASE()), 16), '.')").Scan(&s.locks); err != nil {
		return s.SQLError("read the database's name", err)
	}
	return s.openReplica(ctx)
}

// replicaSilence is the longest silence of the replica in the answer to a query. The caller
// of a read waits for longer, so that the master can answer then.
const replicaSilence = 5 * time.Second

// openReplica connects to the replica, if the options name one that is not the master.
func (s *DB) openReplica(ctx context.Context) error {
	if s.o.Slave == "" {
		return nil
	}
	same, err := replica.Same(s.o.Master, s.o.Slave)
	if same || err != nil {
		return im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	o := replica.Options{Workers: s.o.Workers, Wait: s.o.ReplicaWait, Broken: Everyone,
		Log: s.Log, Reads: s.Metrics.replicaReads, Up: s.Metrics.replicaUp}
	if o.Replica, err = openMySQL(s.o.Slave, s.o.TLS, s.o.Workers, replicaSilence,
		s.Uses); err != nil {
		return err
	}
	if o.Master, err = openMySQL(s.o.Master, s.o.TLS, 1, replicaSilence, s.Uses); err != nil {
		o.Replica.Close()
		return err
	}
	s.Replica = replica.Open(ctx, o)
	return nil
}

// reach reports whether every database answers that the process cannot do without. The
// replica is not one of them.
func (s *DB) reach(ctx context.Context) error {
	if err := s.Master.PingContext(ctx); err != nil {
		kind := im.Unavailable
		if mysqlconn.IsSetting(err) || cert.IsHandshake(err) {
			kind = im.Invalid // another try would meet it again
		}
		return im.WithKind(kind, "MySQL master", err)
	}
	return s.Redis.Ping(ctx)
}

// Ping reports whether the databases besides the replica answer, and the master and Redis
// accept writes. A server that was demoted, lost its cluster or is full still answers.
func (s *DB) Ping(ctx context.Context) error {
	if err := s.reach(ctx); err != nil {
		return err
	}
	if err := s.writable(ctx); err != nil {
		return im.WithKind(im.Unavailable, "write to the MySQL master", err)
	}
	return s.Redis.Writable(ctx)
}

// writable commits a transaction that writes a row and removes it.
func (s *DB) writable(ctx context.Context) error {
	tx, err := s.Master.BeginTx(ctx, nil)
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

// Read runs do on the replica or on the master, and perhaps on both; see replica.Reader. do
// reads only, and uses no other connection.
func (s *DB) Read(ctx context.Context, do func(db Querier) error) error {
	return s.Replica.Read(ctx, func(conn *sql.Conn) error { return do(conn) },
		func() error { return do(s.Master) })
}

// ReplicaState returns why the replica for reads is out of use. It returns nil while the
// replica is used, and without one.
func (s *DB) ReplicaState() error { return s.Replica.State() }

// Close closes the connections that are open, and unregisters the metrics.
func (s *DB) Close() error {
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	keep(s.Redis.Close())
	keep(s.Replica.Close())
	if s.Master != nil {
		keep(s.Master.Close())
	}
	if s.registered {
		s.o.Metrics.Unregister(s.Metrics) // so that a store can be opened again in this process
	}
	return first
}
