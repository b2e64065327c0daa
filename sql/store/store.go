// Package store stores everything in MySQL and Redis, in the tables and under the keys of
// existing deployments. Other servers, C++ servers included, may use the same databases
// at the same time.
//
// A message is committed in MySQL before any client is told of it. Redis gives the
// message ids and holds the unread counts. Redis may lose all its data at any moment: no
// id is given twice (ids.go). Redis may be unavailable for any time: no count is lost
// (outbox.go).
//
// No method holds more than one MySQL connection, and no method waits for a second
// connection while it holds one. A pool of one connection is enough.
package store

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/core/opt"
)

// Options name the databases and bound the connections and caches.
type Options struct {
	Master string // DSN of the MySQL master, in the form of go-sql-driver/mysql
	// Slave is the DSN of a replica for reads. Empty means the master. It may name a balancer
	// in front of several replicas if a connection stays with its replica.
	Slave string

	Redis Redis

	// Workers is the number of calls that may run at once: the size of each pool of
	// connections to MySQL and to Redis. 0 means 8.
	Workers int
	// Conversations is the number of conversations in the cache, each with its relation,
	// its session rows and the ids given. It also bounds the cache of the session rows of
	// senders to groups, one for each pair of group and sender. A bound above the number
	// of conversations that are active in a minute costs memory (200 bytes each), a bound
	// below it costs queries. 0 means 200,000.
	Conversations int
	// GroupMembers is the number of memberships in the cache, over all groups, at 4 bytes
	// each. The groups used least recently are evicted. 0 means 5 million.
	GroupMembers int
	// Users is the number of users in the cache of users that exist. 0 means 200,000.
	Users int
	// ReplicaWait is the longest time for which a read waits until the slave has what the
	// master has committed. Then the master answers. Required with a slave, without effect
	// without one.
	ReplicaWait time.Duration
	// OutboxAge is the time after which a process applies the counts that another process
	// owes. 0 means 60 s.
	OutboxAge time.Duration
	// Housekeeping is the interval at which the store reads the outbox and removes
	// expired client_msg_ids. 0 means 5 s.
	Housekeeping time.Duration

	// NoRebuild leaves unread counts that Redis has lost to RebuildUnread and to other
	// processes. Without it this process applies the kept counts again, and the housekeeping
	// makes the others again, in one of the processes.
	NoRebuild bool

	Logger  *slog.Logger          // nil: no logs
	Metrics prometheus.Registerer // nil: metrics are not registered
	Now     func() time.Time      // this process's clock; nil: mono.Now

	hooks hooks // points of failure, for tests
}

// Store is an im.Store. Each of its parts has the methods of one subject. All parts share
// the connections of databases. Calls between parts go one way: a part calls only parts
// that newStore makes before it.
type Store struct {
	*directory
	*history
	*unread
	*sessions
	*groups
	*files
	*push

	o             Options
	db            *databases
	conversations *conversations
	ids           *messageIDs
	members       *members
	outbox        *outbox
	mirror        *mirror
	marks         *readMarks
	rebuild       *rebuild
	messages      *messages

	stop    context.CancelFunc // ends housekeeping
	running sync.WaitGroup     // housekeeping and its like
	closing sync.Once
}

var _ im.Store = (*Store)(nil)

// Open connects to the databases, checks that they answer (except the slave) and that the
// schema is migrated, and applies the counts that a crash left unapplied. The error has kind
// Unavailable when a database does not answer, and kind Invalid when an option is wrong
// or the schema is not migrated.
func Open(ctx context.Context, o Options) (*Store, error) {
	o = o.withDefaults()
	db, err := newDatabases(connectionOptions{Master: o.Master, Slave: o.Slave, Redis: o.Redis,
		Workers: o.Workers, ReplicaWait: o.ReplicaWait, Logger: o.Logger, Metrics: o.Metrics,
		Now: o.Now, Hooks: o.hooks})
	if err != nil {
		return nil, err
	}
	s, err := newStore(db, o)
	if err == nil {
		err = db.connect(ctx)
	}
	if err != nil {
		db.close()
		return nil, err
	}
	if !o.NoRebuild {
		if err := s.rebuild.prepare(ctx); err != nil {
			s.db.log.Warn("it is not known whether Redis has lost unread counts", "err", err)
		}
	}
	if err := s.outbox.restore(ctx); err != nil {
		s.db.log.Warn("it is not known whether Redis has lost the last unread counts", "err", err)
	}
	if _, err := s.outbox.recover(ctx, 0); err != nil {
		s.db.log.Warn("counts of an earlier process are not applied yet", "err", err)
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.running.Go(func() { s.housekeep(background) })
	s.running.Go(func() { s.marks.keep(background) })
	s.running.Go(func() { s.db.keepTime(background) })
	if !s.o.NoRebuild {
		s.running.Go(func() { s.outbox.keepApplied(background) })
	}
	return s, nil
}

// newStore makes the parts, and gives each part the parts that it calls.
func newStore(db *databases, o Options) (*Store, error) {
	var err error
	s := &Store{o: o, db: db, ids: newMessageIDs(db), members: newMembers(db, o.GroupMembers),
		outbox: newOutbox(db), marks: newReadMarks(db), files: newFiles(db), push: newPush(db)}
	if s.directory, err = newDirectory(db, o.Users); err != nil {
		return nil, err
	}
	if s.conversations, err = newConversations(db, o.Conversations); err != nil {
		return nil, err
	}
	s.mirror = newMirror(db, s.outbox)
	s.history = newHistory(db, s.conversations, s.members)
	s.unread = newUnread(db, s.conversations, s.ids, s.members, s.history, s.marks)
	s.rebuild = newRebuild(db, s.ids, s.outbox, s.marks)
	if s.sessions, err = newSessions(db, s.conversations, s.ids, s.members, s.history, s.unread,
		o.Conversations); err != nil {
		return nil, err
	}
	s.groups = newGroups(db, s.ids, s.members, s.outbox, s.mirror, s.sessions)
	s.messages = newMessages(db, messageParts{Directory: s.directory,
		Conversations: s.conversations, IDs: s.ids, Members: s.members, Sessions: s.sessions,
		Outbox: s.outbox}, o.Workers)
	s.outbox.applyChange, s.outbox.changeAgain = s.mirror.applyChange, s.mirror.changeAgain
	s.outbox.readAgain = s.rebuild.readAgain
	s.outbox.noteRead = s.marks.noteGroupRead
	return s, nil
}

// withDefaults returns o with defaults in place of zero values.
func (o Options) withDefaults() Options {
	if o.Slave != "" {
		opt.Require("store.ReplicaWait", o.ReplicaWait)
	}
	opt.Default(&o.Workers, 8)
	opt.Default(&o.Conversations, 200_000)
	opt.Default(&o.Users, 200_000)
	opt.Default(&o.GroupMembers, 5_000_000)
	opt.Default(&o.OutboxAge, 60*time.Second)
	opt.Default(&o.Housekeeping, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = mono.Now
	}
	return o
}

// Close waits for the batches that are being stored, ends housekeeping and closes all
// connections. Counts that are owed stay in the outbox until the next process opens the
// databases. A message appended later fails with kind Closed. A second Close does
// nothing.
func (s *Store) Close() (err error) {
	s.closing.Do(func() {
		s.messages.close()
		s.stop()
		s.running.Wait()
		slots := s.messages.takeSlots()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.outbox.clearOutbox(ctx, slots); err != nil {
			s.db.log.Warn("outbox not cleared", "err", err) // the next process clears it
		}
		if err := s.marks.flush(ctx); err != nil {
			s.db.log.Warn("read marks not stored", "err", err)
		}
		err = s.db.close()
	})
	return err
}

// housekeep recovers the outbox, rebuilds unread counts that Redis has lost, and removes
// old client_msg_ids at intervals, until ctx ends.
func (s *Store) housekeep(ctx context.Context) {
	tick := time.NewTicker(s.o.Housekeeping)
	defer tick.Stop()
	for {
		s.db.checkEviction(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !s.o.NoRebuild {
			if err := s.rebuild.check(ctx); err != nil && ctx.Err() == nil {
				s.db.log.Warn("unread counts not rebuilt", "err", err)
			}
		}
		if _, err := s.outbox.recover(ctx, s.o.OutboxAge); err != nil && ctx.Err() == nil {
			s.db.log.Warn("outbox not recovered", "err", err)
		}
		if !s.o.NoRebuild { // they may be needed
			if err := s.outbox.forgetKept(ctx); err != nil && ctx.Err() == nil {
				s.db.log.Warn("old kept counts not removed", "err", err)
			}
		}
		if err := s.messages.forgetClientIDs(ctx); err != nil && ctx.Err() == nil {
			s.db.log.Warn("old client message ids not removed", "err", err)
		}
		if err := s.payMark(ctx); err != nil && ctx.Err() == nil {
			s.db.log.Warn("mark of the directory not set", "err", err)
		}
	}
}

// Now returns the store's time; see im.Store.
func (s *Store) Now() time.Time { return s.db.Now() }

// Ping reports whether the databases answer and accept writes; see im.Store.
func (s *Store) Ping(ctx context.Context) error { return s.db.Ping(ctx) }

// ReplicaState returns why the replica for reads is out of use. It returns nil while the
// replica is used, and without one.
func (s *Store) ReplicaState() error { return s.db.ReplicaState() }

// AppendMessages stores a batch; see im.MessageStore.
func (s *Store) AppendMessages(ctx context.Context, batch []*im.Message) {
	s.messages.AppendMessages(ctx, batch)
}

// RebuildUnread raises the unread counts in Redis to the numbers of unread messages in the
// tables. It runs beside servers. The error has kind Busy while another process rebuilds.
// After an error it may be called again.
func (s *Store) RebuildUnread(ctx context.Context) (Rebuilt, error) {
	return s.rebuild.RebuildUnread(ctx)
}
