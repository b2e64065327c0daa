// Package replica decides which reads a replica may answer in place of its master.
//
// A replica may be behind its master, and other processes write. Still every read sees
// what was committed before the read began, whichever process committed it: a client finds
// its own message right after the ack, an old password is refused at once, and a
// synchronisation by time skips no row.
//
// So a read first learns from the master how far its changes go, and then waits on a
// connection to the replica until the replica has them. This costs the master one statement
// without a table for all reads that begin meanwhile, and writes cost nothing. A replica
// that does not have the changes in time, or that fails, leaves the read to the master, and
// is out of use until a probe finds it well.
package replica

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
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/backoff"
	"teamtalk/core/obs"
)

// Options are the parts of a Reader. All are required.
type Options struct {
	Replica *sql.DB // pool of the replica, which the Reader closes
	Master  *sql.DB // one connection to the master, apart from the writes; closed likewise
	Workers int     // reads on the replica at once; half of it on the master instead
	// Wait is the longest time for which a read waits until the replica has the changes.
	Wait time.Duration
	// Broken reports whether an error of a read concerns the replica, and not the statement.
	Broken func(error) bool
	Log    *slog.Logger
	Reads  *prometheus.CounterVec // reads by what became of them
	Up     prometheus.Gauge       // 1 while the replica is in use
}

// Reader runs reads on a replica. Any goroutine.
type Reader struct {
	o         Options
	positions positions

	readers  chan struct{} // one for each read on the replica
	diverted chan struct{} // one for each read on the master in place of the replica

	ctx     context.Context // ends with Close
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

// settled is the time after which a new failure begins another outage. A replica
// that fails again earlier is probed less and less often.
const settled = 10 * time.Second

// answerTime bounds the time to connect to the replica and to ask it, besides the wait.
const answerTime = time.Second

var (
	// errBehind means that the replica lacks changes that the master has committed.
	errBehind = errors.New("the replica is behind the master")
	// ErrUnproven means that nothing shows what the replica has.
	ErrUnproven = errors.New("cannot tell what the replica has: the master must write a " +
		"binary log of MariaDB, or master and replica must be nodes of one Galera cluster")
	// errPosition means that the master did not say how far its changes go.
	errPosition = errors.New("the master's position is unknown")
)

// Same reports whether two DSNs name the same database of the same server.
func Same(a, b string) (bool, error) {
	x, err := mysql.ParseDSN(a)
	if err != nil {
		return false, err
	}
	y, err := mysql.ParseDSN(b)
	if err != nil {
		return false, err
	}
	return x.Net == y.Net && x.Addr == y.Addr && x.DBName == y.DBName, nil
}

// Open makes a Reader and tries the replica once. A replica that fails is out of use.
func Open(ctx context.Context, o Options) *Reader {
	r := &Reader{o: o, readers: make(chan struct{}, o.Workers),
		diverted: make(chan struct{}, max(1, o.Workers/2))}
	r.positions.read = func() (position, error) { return readPosition(o.Master) }
	r.ctx, r.end = context.WithCancel(context.Background())
	if err := r.probe(ctx); err != nil {
		r.leave(err)
	} else {
		o.Up.Set(1)
	}
	return r
}

// Read runs do on a connection to the replica, or instead on the master when the replica
// fails or lacks changes that were committed before the call. Both only read, and the
// master also runs after do has failed. A nil Reader has no replica.
func (r *Reader) Read(ctx context.Context, do func(*sql.Conn) error,
	instead func() error) error {
	if r == nil {
		return instead()
	}
	if r.onReplica(ctx, do) {
		return nil
	}
	// Reads in place of the replica leave connections to the writes.
	if err := acquire(ctx, r.diverted); err != nil {
		return err
	}
	defer func() { <-r.diverted }()
	return instead()
}

// Diverted returns the number of reads on the master in place of the replica, and its bound.
func (r *Reader) Diverted() (n, bound int) { return len(r.diverted), cap(r.diverted) }

// acquire waits for a place.
func acquire(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// onReplica runs do on the replica. It returns false when the master must answer.
func (r *Reader) onReplica(ctx context.Context, do func(*sql.Conn) error) bool {
	if acquire(ctx, r.readers) != nil {
		return false
	}
	defer func() { <-r.readers }()
	if r.State() != nil { // perhaps since this read began to wait for its place
		r.o.Reads.WithLabelValues("away").Inc()
		return false
	}
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
		if r.o.Broken(err) {
			r.leave(err)
		}
	}
	r.o.Reads.WithLabelValues(what).Inc()
	return err == nil
}

// current returns a connection to the replica, which has everything that the master had
// committed before the call.
func (r *Reader) current(ctx context.Context) (*sql.Conn, error) {
	at, err := r.position(ctx)
	if err != nil {
		return nil, errors.Join(errPosition, err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.o.Wait+answerTime)
	defer cancel()
	conn, err := r.o.Replica.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if err := at.reached(ctx, conn, r.o.Wait); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// position asks the master for its position.
func (r *Reader) position(ctx context.Context) (position, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return r.positions.get(ctx)
}

// probe reports whether the replica may be used.
func (r *Reader) probe(ctx context.Context) error {
	conn, err := r.current(ctx)
	if err == nil {
		err = conn.Close()
	}
	return err
}

// State returns why the replica is out of use. It returns nil while the replica is used, and
// without one.
func (r *Reader) State() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away == nil {
		return nil
	}
	return fmt.Errorf("replica out of use, the master answers its reads: %w", r.away)
}

// leave puts the replica out of use, and begins to probe it.
func (r *Reader) leave(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.away != nil {
		return
	}
	r.away = err
	if now := time.Now(); now.Sub(r.back) > settled {
		r.began, r.failures = now, 0
	}
	r.o.Up.Set(0)
	r.leaves.Warn(r.o.Log, time.Now(), "replica out of use, the master answers its reads",
		"err", err)
	r.running.Go(r.await)
}

// await probes the replica until it is well, and puts it back into use.
func (r *Reader) await() {
	for {
		pause := returnPolicy.Delay(r.failures, time.Since(r.began), rand.Float64())
		if backoff.Sleep(r.ctx, pause) != nil {
			return
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
	r.o.Up.Set(1)
	if held, ok := r.returns.Allow(r.back); ok {
		r.o.Log.Info("replica in use again", "after", r.back.Sub(r.began), "held", held)
	}
}

// Close ends the probes and closes the connections.
func (r *Reader) Close() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.running.Wait()
	return errors.Join(r.o.Replica.Close(), r.o.Master.Close())
}
