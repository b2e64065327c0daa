// Package embedded is an im.Store on SQLite, in one directory, for one server process. It
// needs no database server. It is the default of "teamtalk serve".
//
// A message that AppendMessages has accepted is on the disk: SQLite flushes its log
// before a transaction counts as committed. Messages, their counters, unread counts and
// recent sessions change in one transaction, so a crash cannot separate them. DESIGN.md
// describes how, and the cost.
//
// One connection writes, and several read at the same time. Commands beside a running
// server ("teamtalk user add") open the same directory with Options.Admin.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/core/opt"
	"teamtalk/sql/embedded/apart"
	"teamtalk/sql/embedded/arrivals"
	"teamtalk/sql/embedded/budgets"
	"teamtalk/sql/embedded/records"
	"teamtalk/sql/embedded/spools"
)

var _ im.Store = (*Store)(nil)

// FileName is the name of the database in its directory. SQLite has two more files beside
// it, with the suffixes -wal and -shm. A copy of the database of a running server needs
// all three files, or SQLite's backup.
const FileName = "teamtalk.db"

// Options are the settings of a store. Only Dir is required.
type Options struct {
	// Dir is the directory. Open creates it, with access for this user alone, when it
	// does not exist. Its parent must exist.
	Dir string
	// Workers is the number of reads that run at once, each on its own connection. 0
	// means 4.
	Workers int
	// Admin opens the directory beside a running server: without the lock that admits one
	// server. Several processes may do so. Each change is a short transaction. It waits
	// for transactions of other processes, and they for it, at most BusyTimeout.
	Admin bool
	// BusyTimeout is the longest wait of a change for another process. 0 means 5 s.
	BusyTimeout time.Duration
	// Now is the clock of the host, which gives Updated and the expiry of client_msg_ids.
	// The store does not follow it back for less than two hours. nil means mono.Now.
	Now func() time.Time
	// Log receives the messages that the database rejected, and updates of the schema. nil means
	// no logs.
	Log *slog.Logger
	// Metrics registers the metrics teamtalk_store_* until Close. nil means that they are
	// not registered.
	Metrics prometheus.Registerer
}

// Store is an open directory. Its parts, each with the methods of one subject, share the
// connections of database. Make one with Open.
type Store struct {
	*database
	*directory
	*messages
	*history
	*unread
	*sessions
	*groups
	*files
	*push
	*logins
	*budgets.Budgets
	*records.Records
	*apart.Apart
}

// Open opens the store in o.Dir, creates it when the directory has none, and brings its
// schema up to date. The error says how to solve it: another server uses the directory
// (with its process id), the directory cannot be written, the file is damaged or belongs
// to another program, or a newer version of this program wrote it.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Dir == "" {
		return nil, im.Errorf(im.Invalid, "embedded: no directory given")
	}
	opt.Default(&o.Workers, 4)
	opt.Default(&o.BusyTimeout, 5*time.Second)
	if o.Now == nil {
		o.Now = mono.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	db := &database{dir: o.Dir, now: o.Now, log: o.Log, slot: make(chan struct{}, 1),
		hurry: make(chan struct{}, 1), end: make(chan struct{})}
	db.metrics = newMetrics(func() int { // called when the store is open
		rows, _ := db.writer.waiting.Len()
		return rows
	})
	err := db.open(ctx, o)
	if err == nil {
		err = db.metrics.register(o.Metrics)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embedded: open %s: %w", o.Dir, err), db.free())
	}
	if db.writer.waiting.Has(arrivals.All) { // the disk is full
		db.startRound()
	}
	return &Store{
		database:  db,
		directory: &directory{database: db},
		messages:  &messages{db},
		history:   &history{db},
		unread:    &unread{database: db},
		sessions:  &sessions{db},
		groups:    &groups{db},
		files:     &files{db, spools.New()},
		push:      &push{db},
		logins:    &logins{db},
		Budgets:   budgets.New(),
		Records:   records.New(parts{db}),
		Apart:     apart.New(parts{db}),
	}, nil
}
