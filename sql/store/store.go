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
	"database/sql"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
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

// hooks are points at which a test lets a process crash: a hook that returns an error
// ends the batch at that point.
type hooks struct {
	// after the commit, before the unread counts are applied
	afterCommit func() error
	// after the counts are applied, before the outbox row is removed
	afterCount func() error
	commit     func(ctx context.Context, conn *sql.Conn) error // replaces the commit
	// after the statements of a transaction, before its commit
	beforeCommit func(ctx context.Context, conn *sql.Conn)
	// before and after a batch draws its ids, and before it closes some
	undrawn, drawn, closing func()
	// a rebuild has found a count that a batch owes, and will look again
	owing func()
	// after the members are read for Redis, before they are written
	mirror func() error
	clock  func() time.Time // replaces the master's clock
}

// Store is an im.Store. Each of its parts has the methods of one subject. All parts share
// the connections of databases. Calls between parts go one way: a part calls only parts
// that newStore makes before it.
type Store struct {
	*databases
	*directory
	*conversations
	*messageIDs
	*members
	*outbox
	*mirror
	*history
	*unread
	*sessions
	*groups
	*messages
	*files
	*push
	*readMarks
	*rebuild

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
	db := &databases{o: o, log: o.Logger, now: o.Now, epoch: newEpoch()}
	var err error
	if db.m, err = newMetrics(o.Metrics); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	s, err := newStore(db)
	if err == nil {
		err = db.connect(ctx)
	}
	if err != nil {
		db.close()
		return nil, err
	}
	if err := s.rebuild.prepare(ctx); err != nil {
		s.log.Warn("it is not known whether Redis has lost unread counts", "err", err)
	}
	if err := s.restore(ctx); err != nil {
		s.log.Warn("it is not known whether Redis has lost the last unread counts", "err", err)
	}
	if _, err := s.recover(ctx, 0); err != nil {
		s.log.Warn("counts of an earlier process are not applied yet", "err", err)
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.running.Go(func() { s.housekeep(background) })
	s.running.Go(func() { s.readMarks.keep(background) })
	s.running.Go(func() { s.keepTime(background) })
	if !s.o.NoRebuild {
		s.running.Go(func() { s.keepApplied(background) })
	}
	return s, nil
}

// newStore makes the parts and their caches, and gives each part the parts that it calls.
func newStore(db *databases) (*Store, error) {
	o := db.o
	var err error
	s := &Store{databases: db}
	s.directory = &directory{databases: db}
	if s.known, err = lru.New[uint32, int64](o.Users); err != nil {
		return nil, err
	}
	s.conversations = &conversations{databases: db}
	s.conversations.cache, err = lru.New[uint64, *conversation](o.Conversations)
	if err != nil {
		return nil, err
	}
	s.messageIDs = &messageIDs{databases: db}
	s.members = &members{databases: db, cache: newMemberCache(o.GroupMembers)}
	s.outbox = &outbox{databases: db, retired: owners{set: map[uuid.UUID]bool{}},
		reapplies: make(chan struct{}, 1), watched: watched{set: map[watchedBy]markSet{}},
		again: map[readMark]bool{}}
	s.mirror = &mirror{databases: db, outbox: s.outbox}
	s.outbox.applyChange, s.outbox.changeAgain = s.mirror.applyChange, s.mirror.changeAgain
	s.history = &history{databases: db, conversations: s.conversations, members: s.members}
	s.readMarks = &readMarks{databases: db}
	s.rebuild = &rebuild{databases: db, ids: s.messageIDs, outbox: s.outbox, marks: s.readMarks}
	s.outbox.readAgain = s.rebuild.readAgain
	s.outbox.noteRead = s.readMarks.noteGroupRead
	s.unread = &unread{databases: db, ids: s.messageIDs, members: s.members, history: s.history,
		marks: s.readMarks}
	s.sessions = &sessions{databases: db, conversations: s.conversations, ids: s.messageIDs,
		members: s.members, history: s.history, unread: s.unread}
	if s.senders, err = lru.New[uint64, *side](o.Conversations); err != nil {
		return nil, err
	}
	s.groups = &groups{databases: db, ids: s.messageIDs, members: s.members, outbox: s.outbox,
		mirror: s.mirror, sessions: s.sessions}
	s.messages = newMessages(s)
	s.files = &files{databases: db}
	s.push = &push{databases: db}
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
		close(s.closed)
		s.stop()
		s.running.Wait()
		slots := s.takeSlots()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.clearOutbox(ctx, slots); err != nil {
			s.log.Warn("outbox not cleared", "err", err) // the next process clears it
		}
		if err := s.flush(ctx); err != nil {
			s.log.Warn("read marks not stored", "err", err)
		}
		err = s.databases.close()
	})
	return err
}

// housekeep recovers the outbox, rebuilds unread counts that Redis has lost, and removes
// old client_msg_ids at intervals, until ctx ends.
func (s *Store) housekeep(ctx context.Context) {
	tick := time.NewTicker(s.o.Housekeeping)
	defer tick.Stop()
	for {
		s.checkEviction(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.check(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("unread counts not rebuilt", "err", err)
		}
		if _, err := s.recover(ctx, s.o.OutboxAge); err != nil && ctx.Err() == nil {
			s.log.Warn("outbox not recovered", "err", err)
		}
		if !s.o.NoRebuild { // they may be needed
			if err := s.forgetKept(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("old kept counts not removed", "err", err)
			}
		}
		if err := s.forgetClientIDs(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("old client message ids not removed", "err", err)
		}
		if err := s.payMark(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("mark of the directory not set", "err", err)
		}
	}
}
