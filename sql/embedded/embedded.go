// Package embedded is the store that needs no database server: an im.Store on SQLite, in one directory, for one server process. It
// is the default of "teamtalk serve".
//
// What AppendMessages has accepted is on the disk: the log of changes is flushed before a transaction counts as committed. Messages, their
// counters, unread counts and recent sessions change in one transaction, so no crash can part them. DESIGN.md says how, and what it costs.
//
// One connection writes, several read beside it. Commands beside a running server ("teamtalk user add") open the same directory
// with Options.Admin.
package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"teamtalk/core/im"
)

var _ im.Store = (*Store)(nil)

// FileName is the database's name in its directory. SQLite keeps two more beside it, with -wal and -shm at the end, which belong to
// it: who copies the database of a running server copies all three, or uses SQLite's own backup.
const FileName = "teamtalk.db"

// Options of a store. Only Dir is required.
type Options struct {
	// Dir is the directory; it is made, for this user alone, when it is missing. Its parent must exist.
	Dir string
	// Workers is how many reads run at once, each on a connection of its own. 0: 4.
	Workers int
	// Admin opens beside a server that runs on the same directory: without taking the lock that makes the server the only one.
	// Several may be open. Each change is a short transaction that waits for the server's, and the server for it, at most BusyTimeout.
	Admin bool
	// BusyTimeout is how long a change waits for one of another process. 0: 5 s.
	BusyTimeout time.Duration
	// Now is the clock of Updated and of the memory of client_msg_ids. nil: time.Now.
	Now func() time.Time
	// Log hears of what nobody else is told: messages that the database refused. nil: nothing is logged.
	Log *slog.Logger
	// Metrics is where the metrics teamtalk_store_* are registered, until Close. nil: nowhere.
	Metrics prometheus.Registerer
}

// Store is an open directory. Make one with Open.
type Store struct {
	dir     string
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics
	lock    io.Closer // nil for Admin

	writer  *writer
	slot    chan struct{} // holds a token while the writer is in use
	readers *sql.DB
	read    statements

	clears clears

	userStamps, departStamps im.Stamps // times of changes, given by the writer

	refused atomic.Bool // the disk did not take the last batch

	running    sync.RWMutex   // read-locked by every call, locked by Close
	background sync.WaitGroup // what a call has left running
	closed     bool
}

// Open opens the store in o.Dir, makes it when there is none, and brings its schema up to date. The error says what to do about it: another
// server has the directory (with its process id), it cannot be written, the file is damaged or not ours, or was written by a newer version.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Dir == "" {
		return nil, im.Errorf(im.Invalid, "embedded: no directory given")
	}
	if o.Workers <= 0 {
		o.Workers = 4
	}
	if o.BusyTimeout <= 0 {
		o.BusyTimeout = 5 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{dir: o.Dir, now: o.Now, log: o.Log, slot: make(chan struct{}, 1)}
	err := s.open(ctx, o)
	if err == nil {
		s.metrics, err = newMetrics(o.Metrics)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embedded: open %s: %w", o.Dir, err), s.free())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, o Options) error {
	err := makeDir(o.Dir)
	if err != nil {
		return err
	}
	if !o.Admin {
		if s.lock, err = lockDir(o.Dir); err != nil {
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
	if err := s.migrate(ctx, o.Admin); err != nil {
		return err
	}
	if err := s.writer.prepareAppend(ctx); err != nil {
		return describe(err)
	}
	// SQLite opens a file that it may only read without a word; better to hear of it now than with the first message.
	if err := s.transact(ctx, (*writer).tryWrite); err != nil {
		return describe(err)
	}
	s.readers = openDB(path, o.BusyTimeout, o.Workers, "_query_only=1", "_pragma=cache_size(-8192)")
	if err := s.read.prepare(ctx, s.readers); err != nil {
		return describe(err)
	}
	return nil
}

// openDB makes a pool of n connections to the database file, which are opened when needed.
func openDB(path string, busy time.Duration, n int, params ...string) *sql.DB {
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_busy_timeout=" + strconv.FormatInt(busy.Milliseconds(), 10)
	for _, p := range params {
		dsn += "&" + p
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		panic(err) // the driver is linked in; sql.Open looks at nothing else
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db
}

// makeDir makes the directory, readable for this user alone: it holds everybody's messages.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir)) // else a power cut could take the new directory with everything in it
}

// makeFile makes an empty database file for this user alone; SQLite would leave the mode to the umask. An existing file is not
// touched, not even opened: closing any descriptor of it would release this process's locks on it.
func makeFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), syncDir(filepath.Dir(path)))
}

// Ping reads from the database and checks that it can be written. That it may be written is all it looks for, until the disk has refused a
// batch: from then on it writes something itself, until that is taken, so that a full disk shows for as long as it is full.
func (s *Store) Ping(ctx context.Context) error {
	return s.call("ping", func() error {
		if !s.refused.Load() {
			return s.transact(ctx, (*writer).tryWrite)
		}
		err := s.transact(ctx, (*writer).tryRoom)
		if err == nil {
			s.refused.Store(false)
		}
		return err
	})
}

// Close waits for what is running, folds the log into the database file and closes it. A second Close does nothing.
func (s *Store) Close() error {
	s.running.Lock()
	defer s.running.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.background.Wait()
	if err := s.free(); err != nil {
		return fmt.Errorf("embedded: close %s: %w", s.dir, err)
	}
	return nil
}

// free closes what is open. The lock goes last: until then nobody else may come in.
func (s *Store) free() error {
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

// call is the frame of every operation: not after Close, timed, errors described and counted. err carries its kind.
func (s *Store) call(op string, f func() error) error {
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
	err = describe(err)
	if kind := im.KindOf(err); kind == im.Internal || kind == im.Unavailable {
		s.metrics.errors.WithLabelValues(kind.String()).Inc()
	}
	return fmt.Errorf("embedded: %s: %w", op, err)
}
