package embedded

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/sql/embedded/arrivals"
	"teamtalk/sql/embedded/faults"
	"teamtalk/sql/embedded/folderlock"
)

// database is the directory with its connections, which all parts share: one connection
// that writes, and a pool of connections that read.
type database struct {
	dir     string
	now     func() time.Time // the host's clock
	clock   mono.Steady      // times in rows; see clock.go
	log     *slog.Logger
	metrics *metrics
	lock    io.Closer // nil for Admin

	writer  *writer
	slot    chan struct{} // holds a token while the writer is in use
	readers *sql.DB
	read    statements

	refused atomic.Bool // the disk refused the last batch

	rounds atomic.Bool   // a goroutine writes waiting messages
	hurry  chan struct{} // tells it that many wait
	end    chan struct{} // closed by Close

	running    sync.RWMutex   // read-locked by every call, locked by Close
	background sync.WaitGroup // transactions that no call waits for
	closed     bool
}

func (s *database) open(ctx context.Context, o Options) error {
	err := makeDir(o.Dir)
	if err != nil {
		return err
	}
	if !o.Admin {
		if s.lock, err = lockToServe(ctx, o.Dir, o.BusyTimeout); err != nil {
			return err
		}
	}
	path := filepath.Join(o.Dir, FileName)
	if err := makeFile(path); err != nil {
		return err
	}
	if s.writer, err = openWriter(ctx, path, o.BusyTimeout); err != nil {
		return err
	}
	if err := s.migrate(ctx, o); err != nil {
		return err
	}
	if err := s.writer.prepareAppend(ctx); err != nil {
		return faults.Describe(err)
	}
	s.writer.log, s.writer.beside = o.Log, o.Admin
	// SQLite opens a read-only file without an error. Open must fail here, before the
	// first message. A server that was killed may have left messages in the order of arrival.
	err = s.run(ctx, transaction{scope: arrivals.All, load: true}, (*writer).tryWrite)
	if faults.Full(err) && !o.Admin { // they wait, see startRound: users can read
		err = s.run(ctx, transaction{later: true}, (*writer).tryWrite)
	}
	if err != nil {
		return faults.Describe(err)
	}
	s.readers = openDB(path, o.BusyTimeout, o.Workers, "_query_only=1", "_pragma=cache_size(-8192)")
	if err := s.read.prepare(ctx, s.readers); err != nil {
		return faults.Describe(err)
	}
	if err := s.startClock(ctx); err != nil {
		return faults.Describe(err)
	}
	return nil
}

// openDB makes a pool of n connections to the database file. Each opens when it is first
// needed.
func openDB(path string, busy time.Duration, n int, params ...string) *sql.DB {
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_busy_timeout=" +
		strconv.FormatInt(busy.Milliseconds(), 10)
	for _, p := range params {
		dsn += "&" + p
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		panic(err) // cannot happen: the driver is linked in, and sql.Open checks nothing else
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db
}

// makeDir makes the directory, with access for this user alone, because it holds all
// messages.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// Without it a power cut could lose the new directory with its content.
	return folderlock.Sync(filepath.Dir(dir))
}

// makeFile makes an empty database file with access for this user alone; SQLite would
// apply the umask. It does not open an existing file: closing any descriptor of the file
// would release the locks of this process on it.
func makeFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), folderlock.Sync(filepath.Dir(path)))
}

// Ping reads from the database and checks that writing is permitted. After the disk has
// refused a batch, Ping writes data itself until the disk takes it, so that a full disk
// is reported for as long as it is full.
func (s *database) Ping(ctx context.Context) error {
	return s.call("ping", func() error {
		if !s.refused.Load() {
			return s.run(ctx, transaction{}, (*writer).tryAll)
		}
		err := s.run(ctx, transaction{}, (*writer).tryRoom)
		if err == nil {
			s.refused.Store(false)
		}
		return err
	})
}

// Close waits for running calls, folds the log into the database file and closes it. A
// second Close does nothing.
func (s *database) Close() error {
	s.running.Lock()
	defer s.running.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	close(s.end)
	s.background.Wait()
	if err := s.free(); err != nil {
		return fmt.Errorf("embedded: close %s: %w", s.dir, err)
	}
	return nil
}

// free closes what is open. The lock is released last, so that no other server opens the
// directory before.
func (s *database) free() error {
	s.metrics.unregister()
	var errs []error
	if s.readers != nil {
		errs = append(errs, s.readers.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// call runs f as the operation op: it fails after Close, measures the time, and adds the
// kind and an explanation to errors.
func (s *database) call(op string, f func() error) error {
	s.running.RLock()
	defer s.running.RUnlock()
	if s.closed {
		return im.Errorf(im.Closed, "embedded: %s: the store is closed", op)
	}
	start := time.Now()
	err := f()
	s.metrics.calls.WithLabelValues(op).Observe(time.Since(start).Seconds())
	if err == nil {
		return nil
	}
	err = faults.Describe(err)
	if kind := im.KindOf(err); kind == im.Internal || kind == im.Unavailable {
		s.metrics.errors.WithLabelValues(kind.String()).Inc()
	}
	return fmt.Errorf("embedded: %s: %w", op, err)
}

// transaction says how a transaction runs. The zero value is that of a change that concerns no
// conversation.
type transaction struct {
	scope   arrivals.Scope // whose waiting messages are written first
	limit   int            // how many of them; 0: all
	relaxed bool           // the commit need not be on the disk: nobody was told of the change
	load    bool           // messages that another process accepted are read first
	later   bool           // no waiting messages are written
	careful bool           // see writer
}

// transact runs f in a transaction of the writer that may concern any conversation.
func (s *database) transact(ctx context.Context, f func(*writer) error) error {
	return s.run(ctx, transaction{scope: arrivals.All}, f)
}

// run runs f in a transaction of the writer. It commits if f returns nil and ctx has
// not ended. It waits for the writer, and for other processes, until ctx ends.
func (s *database) run(ctx context.Context, how transaction, f func(*writer) error) error {
	err := s.try(ctx, how, f)
	if apart := (settleError{}); errors.As(err, &apart) && faults.AboutTheRow(apart.error) {
		s.metrics.bisects.Inc()
		how.careful = true
		err = s.try(ctx, how, f)
	}
	return err
}

func (s *database) try(ctx context.Context, how transaction, f func(*writer) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.slot <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.slot }()
	w := s.writer
	committed := false
	defer func() {
		if !committed { // also after a panic in f
			w.abandon()
		}
	}()
	w.careful, w.apart = how.careful, 0
	if err := w.flushes(!how.relaxed); err != nil {
		return err
	}
	if _, err := w.begin.ExecContext(ctx); err != nil {
		return err
	}
	if err := s.prepare(w, how); err != nil {
		return err
	}
	if err := f(w); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := w.commit.Exec(); err != nil {
		return err
	}
	committed = true
	if w.committed(); w.apart > 0 {
		s.metrics.apart.Add(float64(w.apart))
	}
	return nil
}

// prepare makes the caches and the tables current at the beginning of a transaction.
func (s *database) prepare(w *writer, how transaction) error {
	changed, err := w.refresh()
	if err != nil {
		return err
	}
	if changed || w.beside {
		// Another process may have given ids after those of waiting messages, or may have let
		// messages wait.
		how.scope, how.limit = arrivals.All, 0
	}
	if how.load || w.beside && w.arrived != nil {
		if err := w.load(); err != nil {
			return err
		}
	}
	if how.later {
		return nil
	}
	return w.settle(how.scope, cmp.Or(how.limit, math.MaxInt))
}

// scanner is a *sql.Row or *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

// rows runs a read and calls scan for each row. The read concerns the conversations in scope.
func (s *database) rows(ctx context.Context, op string, scope arrivals.Scope, stmt *sql.Stmt,
	scan func(scanner) error, args ...any) error {
	return s.call(op, func() error {
		if err := s.settled(ctx, scope); err != nil {
			return err
		}
		rows, err := stmt.QueryContext(ctx, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}
