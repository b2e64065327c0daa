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
	"errors"
	"fmt"
	"log/slog"
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
}

// Open opens the store in o.Dir, creates it when the directory has none, and brings its schema
// up to date. The error says how to solve it: another server uses the directory (with its process
// id), the directory cannot be written, the file is damaged or belongs to another program, or a
// newer version of this program wrote it.
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
	db := &database{dir: o.Dir, now: o.Now, log: o.Log, slot: make(chan struct{}, 1)}
	err := db.open(ctx, o)
	if err == nil {
		db.metrics, err = newMetrics(o.Metrics)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embedded: open %s: %w", o.Dir, err), db.free())
	}
	return &Store{
		database:  db,
		directory: &directory{database: db},
		messages:  &messages{db},
		history:   &history{db},
		unread:    &unread{database: db},
		sessions:  &sessions{db},
		groups:    &groups{db},
		files:     &files{db},
		push:      &push{db},
	}, nil
}
