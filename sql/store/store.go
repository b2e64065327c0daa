// Package store keeps everything in MySQL and Redis, in the tables and under the keys of existing deployments: other servers, C++ ones
// included, may use the same databases at the same time.
//
// Messages are committed in MySQL before anybody hears of them. Redis gives the message ids and counts what is unread; it may lose all it
// has at any moment without an id being given twice (ids.go), and be away for any time without a count being lost (outbox.go).
//
// No method holds more than one MySQL connection, and none waits for a second while it holds one: a pool of one works.
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
)

// Options say where the databases are and how much may go on at once.
type Options struct {
	Master string // DSN of the MySQL master, as github.com/go-sql-driver/mysql has them; the database must be migrated
	Slave  string // DSN of a replica for reads; empty: the master

	Redis Redis

	// Workers is how many calls may be at work at once: the size of each pool of connections, MySQL's and Redis's. 0 means 8.
	Workers int
	// Conversations is how many conversations are kept in the cache with their relation, session rows and ids given, and of how many pairs of group
	// and sender the session row. More than are active in a minute costs memory (200 bytes each), fewer costs queries. 0 means 200,000.
	Conversations int
	// GroupMembers is how many memberships are kept in the cache, of all groups together, at 4 bytes each; the groups used last stay. 0 means 5 million.
	GroupMembers int
	// Users is how many users are known to exist without asking. 0 means 200,000.
	Users int
	// ReplicaLag is how long after a user's or conversation's last write by this process its reads go to the master. It should be
	// longer than the slave is ever behind. 0 means 10 s. Without a slave it does not matter.
	ReplicaLag time.Duration
	// OutboxAge is how long counts owed by a process may wait before another one takes them over. 0 means 60 s.
	OutboxAge time.Duration
	// Housekeeping is how often the outbox is looked through and expired client_msg_ids are removed. 0 means 5 s.
	Housekeeping time.Duration

	Logger  *slog.Logger          // nil: nothing is logged
	Metrics prometheus.Registerer // nil: not registered
	Now     func() time.Time      // nil: time.Now

	hooks hooks // for tests: places to fail at
}

// hooks are places where tests let a process "die": a hook that returns an error ends the batch there, as a crash would.
type hooks struct {
	afterCommit func() error                                    // messages are committed, unread counts not applied
	afterCount  func() error                                    // unread counts are applied, their outbox row is there
	commit      func(ctx context.Context, conn *sql.Conn) error // commits instead of commitOn
	mirror      func() error                                    // members are read for Redis, not written there yet
}

// Store is an im.Store. Its parts, each with the methods of one subject, share the connections
// of databases. The calls between parts go one way: Open makes them in that order.
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

	stop    context.CancelFunc // ends housekeeping
	running sync.WaitGroup     // housekeeping
	closing sync.Once
}

var _ im.Store = (*Store)(nil)

// Open connects to the databases, checks that they answer and that the schema is migrated, and
// applies the counts that a crash left unapplied. The error has kind Unavailable when a database
// does not answer, and kind Invalid when an option is wrong or the schema is not migrated.
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
	if _, err := s.recover(ctx, 0); err != nil {
		s.log.Warn("counts of an earlier process wait", "err", err)
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		s.housekeep(background)
	}()
	return s, nil
}

// newStore makes the parts and their caches. Each part gets the parts that it calls.
func newStore(db *databases) (*Store, error) {
	o := db.o
	var err error
	if o.Slave != "" {
		if db.wrote, err = lru.New[uint64, int64](o.Users); err != nil {
			return nil, err
		}
	}
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
	s.outbox = &outbox{databases: db, retired: owners{set: map[uuid.UUID]bool{}}}
	s.mirror = &mirror{databases: db, outbox: s.outbox}
	s.outbox.applyChange = s.mirror.applyChange
	s.history = &history{databases: db, conversations: s.conversations, members: s.members}
	s.unread = &unread{databases: db, members: s.members, history: s.history}
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

// withDefaults replaces what is zero.
func (o Options) withDefaults() Options {
	pick := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	pickTime := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	pick(&o.Workers, 8)
	pick(&o.Conversations, 200_000)
	pick(&o.Users, 200_000)
	pick(&o.GroupMembers, 5_000_000)
	pickTime(&o.ReplicaLag, 10*time.Second)
	pickTime(&o.OutboxAge, 60*time.Second)
	pickTime(&o.Housekeeping, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Close waits for batches at work, ends the background work and closes all connections. Counts that are owed stay in the outbox for whoever opens the
// databases next. Messages that come later fail with kind Closed. A second Close does nothing.
func (s *Store) Close() (err error) {
	s.closing.Do(func() {
		close(s.closed)
		s.stop()
		s.running.Wait()
		slots := s.takeSlots()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.clearOutbox(ctx, slots); err != nil {
			s.log.Warn("outbox not cleared", "err", err) // the next process does
		}
		err = s.databases.close()
	})
	return err
}

// housekeep looks through the outbox and forgets old client_msg_ids, until ctx ends.
func (s *Store) housekeep(ctx context.Context) {
	tick := time.NewTicker(s.o.Housekeeping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := s.recover(ctx, s.o.OutboxAge); err != nil && ctx.Err() == nil {
			s.log.Warn("outbox not looked through", "err", err)
		}
		if err := s.forgetClientIDs(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("old client message ids not removed", "err", err)
		}
		if err := s.payMark(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("mark of the directory not set", "err", err)
		}
	}
}
