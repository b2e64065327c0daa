package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/backoff"
	"teamtalk/core/im"
	"teamtalk/core/obs"
)

// A replica may be behind its master, and other processes write. Still every read sees
// what was committed before the read began, whichever process committed it: a client finds
// its own message right after the ack, an old password is refused at once, and a
// synchronisation by time skips no row.
//
// So a read first learns from the master how far its changes go (position.go), and then
// waits on a connection to the replica until the replica has them. This costs the master
// one statement without a table for all reads that begin meanwhile, and writes cost
// nothing. A replica that does not have the changes within Options.ReplicaWait, or that
// fails, leaves the read to the master, and is out of use until a probe finds it well.

// replica decides which reads the replica may answer.
type replica struct {
	db        *sql.DB
	positions *positions
	wait      time.Duration // Options.ReplicaWait
	log       *slog.Logger
	m         *metrics

	readers  chan struct{} // one for each read on the replica
	diverted chan struct{} // one for each read on the master in place of the replica

	ctx     context.Context // ends with close
	end     context.CancelFunc
	running sync.WaitGroup // probes

	leaves, returns obs.Often

	mu       sync.Mutex
	closed   bool
	away     error // why the replica is out of use; nil while it is used
	began    time.Time
	back     time.Time // the end of the last outage
	failures int       // probes that failed since began
}

// returnPolicy is the schedule of probes while the replica is out of use.
var returnPolicy = backoff.Policy{First: 100 * time.Millisecond, Recent: time.Second,
	Fresh: 30 * time.Second, Max: 30 * time.Second, Spread: 0.5}

// replicaSettled is the time after which a new failure begins another outage. A replica
// that fails again earlier is probed less and less often.
const replicaSettled = 10 * time.Second

// replicaTime bounds the time to connect to the replica and to ask it, besides the wait.
const replicaTime = time.Second

// replicaSilence is the longest silence of the replica in the answer to a query.
const replicaSilence = 5 * time.Second

var (
	// errBehind means that the replica lacks changes that the master has committed.
	errBehind = errors.New("the replica is behind the master")
	// errUnproven means that nothing shows what the replica has.
	errUnproven = errors.New("cannot tell what the replica has: the master must write a " +
		"binary log of MariaDB, or master and replica must be nodes of one Galera cluster")
	// errPosition means that the master did not say how far its changes go.
	errPosition = errors.New("the master's position is unknown")
)

// openReplica opens the pools of a replica. It returns nil when the options name none, or
// name the master itself.
func openReplica(o Options, m *metrics) (*replica, error) {
	if o.Slave == "" {
		return nil, nil
	}
	same, err := sameServer(o.Master, o.Slave)
	if same || err != nil {
		return nil, err
	}
	r := &replica{wait: o.ReplicaWait, log: o.Logger, m: m,
		readers:  make(chan struct{}, o.Workers),
		diverted: make(chan struct{}, max(1, o.Workers/2))}
	if r.db, err = openMySQL(o.Slave, o.Workers, replicaSilence); err != nil {
		return nil, err
	}
	master, err := openMySQL(o.Master, 1, replicaTime)
	if err != nil {
		r.db.Close()
		return nil, err
	}
	r.ctx, r.end = context.WithCancel(context.Background())
	r.positions = &positions{master: master}
	return r, nil
}

// sameServer reports whether two DSNs name the same database of the same server.
func sameServer(a, b string) (bool, error) {
	x, err := mysql.ParseDSN(a)
	if err != nil {
		return false, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	y, err := mysql.ParseDSN(b)
	if err != nil {
		return false, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	return x.Net == y.Net && x.Addr == y.Addr && x.DBName == y.DBName, nil
}

// start tries the replica once. The process starts also without it.
func (r *replica) start(ctx context.Context) {
	if err := r.probe(ctx); err != nil {
		r.leave(err)
		return
	}
	r.m.replicaUp.Set(1)
}

// read runs do on the replica, or on the master when the replica fails or lacks changes.
// do reads only, runs twice when the replica fails, and uses no other connection.
func (s *databases) read(ctx context.Context, do func(db querier) error) error {
	r := s.replica
	if r == nil {
		return do(s.master)
	}
	if r.run(ctx, do) {
		return nil
	}
	// Reads in place of the replica leave connections to the writes.
	if err := acquire(ctx, r.diverted); err != nil {
		return err
	}
	defer func() { <-r.diverted }()
	return do(s.master)
}

// acquire waits for a place.
func acquire(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run runs do on the replica. It returns false when the master must answer.
func (r *replica) run(ctx context.Context, do func(db querier) error) bool {
	if r.state() != nil {
		r.m.replicaReads.WithLabelValues("away").Inc()
		return false
	}
	if acquire(ctx, r.readers) != nil {
		return false
	}
	defer func() { <-r.readers }()
	conn, err := r.current(ctx)
	if err == nil {
		defer conn.Close()
		err = do(conn)
	}
	what := "replica"
	switch {
	case err == nil:
	case ctx.Err() != nil:
		what = "canceled"
	case errors.Is(err, errPosition):
		what = "unknown"
	case errors.Is(err, errBehind):
		what = "behind"
		r.leave(err)
	default:
		what = "failed"
		// The statement of one read may be at fault. Then the master says so.
		if everyone(err) {
			r.leave(err)
		}
	}
	r.m.replicaReads.WithLabelValues(what).Inc()
	return err == nil
}

// current returns a connection to the replica, which has everything that the master had
// committed before the call.
func (r *replica) current(ctx context.Context) (*sql.Conn, error) {
	at, err := r.position(ctx)
	if err != nil {
		return nil, errors.Join(errPosition, err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.wait+replicaTime)
	defer cancel()
	conn, err := r.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if err := at.reached(ctx, conn, r.wait); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// position asks the master for its position.
func (r *replica) position(ctx context.Context) (position, error) {
	ctx, cancel := context.WithTimeout(ctx, replicaTime)
	defer cancel()
	return r.positions.get(ctx)
}

// probe reports whether the replica may be used.
func (r *replica) probe(ctx context.Context) error {
	conn, err := r.current(ctx)
	if err == nil {
		err = conn.Close()
	}
	return err
}

// state returns why the replica is out of use, nil while it is used.
func (r *replica) state() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away
}

// leave puts the replica out of use, and begins to probe it.
func (r *replica) leave(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.away != nil {
		return
	}
	r.away = err
	if now := time.Now(); now.Sub(r.back) > replicaSettled {
		r.began, r.failures = now, 0
	}
	r.m.replicaUp.Set(0)
	r.leaves.Warn(r.log, time.Now(), "replica out of use, the master answers its reads", "err", err)
	r.running.Go(r.await)
}

// await probes the replica until it is well, and puts it back into use.
func (r *replica) await() {
	for {
		pause := time.NewTimer(returnPolicy.Delay(r.failures, time.Since(r.began),
			rand.Float64()))
		select {
		case <-r.ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		err := r.probe(r.ctx)
		r.mu.Lock()
		if err == nil {
			break
		}
		r.away = err
		r.failures++
		r.mu.Unlock()
	}
	defer r.mu.Unlock()
	r.away, r.back = nil, time.Now()
	r.m.replicaUp.Set(1)
	if held, ok := r.returns.Allow(r.back); ok {
		r.log.Info("replica in use again", "after", r.back.Sub(r.began), "held", held)
	}
}

// close ends the probes and closes the connections.
func (r *replica) close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.running.Wait()
	return errors.Join(r.db.Close(), r.positions.master.Close())
}

// ReplicaState returns why the replica for reads is out of use. It returns nil while the
// replica is used, and without one.
func (s *databases) ReplicaState() error {
	if s.replica == nil {
		return nil
	}
	if err := s.replica.state(); err != nil {
		return fmt.Errorf("replica out of use, the master answers its reads: %w", err)
	}
	return nil
}
