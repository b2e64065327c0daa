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
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/sql/schema"
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

// Store is an im.Store.
type Store struct {
	o      Options
	log    *slog.Logger
	now    func() time.Time
	m      *metrics
	master *sql.DB
	slave  *sql.DB // master when there is none
	redis  instances

	// finalized says that the unique keys are there. It cannot change while a Store is open: finalize refuses while anybody is connected.
	finalized bool
	locks     string // prefix of the names of this database's locks

	conversations *lru.Cache[uint64, *conversation]
	senders       *lru.Cache[uint64, *side] // session rows of senders to groups, by senderKey
	members       *memberCache
	synced        *syncedGroups
	known         *lru.Cache[uint32, int64] // users that exist and have not departed: when that was asked, unix seconds
	wrote         *lru.Cache[uint64, int64] // users and groups written to lately: when, unix nanoseconds; nil without a slave

	lateMark lateMark // a sync mark that Redis did not take

	userStamps, departStamps im.Stamps // under the directory's lock

	epoch   *epoch
	slots   chan *slot
	retired owners

	stop    context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
	closed  chan struct{} // closed by Close
}

var _ im.Store = (*Store)(nil)

// Open connects to the databases, checks that they are there and migrated, and takes over counts that a crash left unapplied. Its errors have
// kind Unavailable when a database does not answer, Invalid when an option is wrong or the schema is not migrated.
func Open(ctx context.Context, o Options) (*Store, error) {
	o = o.withDefaults()
	s := &Store{o: o, log: o.Logger, now: o.Now, epoch: newEpoch(), slots: make(chan *slot, o.Workers), closed: make(chan struct{}),
		retired: owners{set: map[uuid.UUID]bool{}}}
	var err error
	if s.m, err = newMetrics(o.Metrics); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if err := s.openCaches(); err != nil {
		return nil, err
	}
	for range o.Workers {
		s.slots <- newSlot()
	}
	if err := s.connect(ctx); err != nil {
		s.closeAll()
		return nil, err
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

// openCaches makes the caches.
func (s *Store) openCaches() (err error) {
	if s.conversations, err = lru.New[uint64, *conversation](s.o.Conversations); err != nil {
		return err
	}
	if s.senders, err = lru.New[uint64, *side](s.o.Conversations); err != nil {
		return err
	}
	s.members, s.synced = newMemberCache(s.o.GroupMembers), &syncedGroups{}
	if s.known, err = lru.New[uint32, int64](s.o.Users); err != nil {
		return err
	}
	if s.o.Slave != "" {
		s.wrote, err = lru.New[uint64, int64](s.o.Users)
	}
	return err
}

// connect opens the pools and checks what is behind them.
func (s *Store) connect(ctx context.Context) (err error) {
	if s.master, err = openMySQL(s.o.Master, s.o.Workers); err != nil {
		return err
	}
	s.slave = s.master
	if s.o.Slave != "" {
		if s.slave, err = openMySQL(s.o.Slave, s.o.Workers); err != nil {
			return err
		}
	}
	if s.redis, err = openRedis(s.o.Redis, s.o.Workers, s.epoch); err != nil {
		return err
	}
	if err := s.Ping(ctx); err != nil {
		return err
	}
	state, err := schema.Status(ctx, s.master)
	if err != nil {
		return im.WithKind(im.Unavailable, "read the schema's version", err)
	}
	if len(state.Pending) > 0 {
		return im.Errorf(im.Invalid, "the database is not migrated (pending: %s): run migrate first", strings.Join(state.Pending, ", "))
	}
	s.finalized = state.Finalized
	if err := s.master.QueryRowContext(ctx, "SELECT CONCAT('teamtalk.', LEFT(MD5(DATABASE()), 16), '.')").Scan(&s.locks); err != nil {
		return s.dbError("read the database's name", err)
	}
	if _, err := s.recover(ctx, 0); err != nil {
		s.log.Warn("counts of an earlier process wait", "err", err)
	}
	return nil
}

// openMySQL opens a pool of n connections with the settings that this package relies on, whatever the DSN says.
func openMySQL(dsn string, n int) (*sql.DB, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	if cfg.DBName == "" {
		return nil, im.Errorf(im.Invalid, "MySQL DSN: no database named")
	}
	cfg.InterpolateParams = true // one round trip a statement instead of three
	cfg.ClientFoundRows = true   // rows affected = rows found, so that an update to the same value is not "not found"
	cfg.MultiStatements = true   // a batch's statements go in one packet; every value is a number or quoted by the driver
	cfg.ParseTime = false
	cfg.Collation = ""
	if err := cfg.Apply(mysql.Charset("utf8mb4", "utf8mb4_general_ci")); err != nil {
		return nil, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	cfg.Logger = &mysql.NopLogger{} // what goes wrong comes back as errors
	cfg.Params = sessionSettings(cfg.Params)
	for _, t := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&cfg.Timeout, 5 * time.Second}, {&cfg.ReadTimeout, 30 * time.Second}, {&cfg.WriteTimeout, 30 * time.Second}} {
		if *t.v == 0 {
			*t.v = t.def
		}
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	db.SetConnMaxIdleTime(10 * time.Minute) // below the idle time at which firewalls forget connections
	return db, nil
}

// sessionSettings puts the settings that this package relies on in the place of what the DSN says of them, in whatever letters. They are all set in one
// statement, so which of two would stand is left to chance otherwise – and texts that are quoted for another sql_mode or character set are no texts any more.
func sessionSettings(params map[string]string) map[string]string {
	ours := map[string]string{
		// Strict: a text that does not fit must fail, not be cut. No backslash surprises for interpolated parameters.
		"sql_mode":                 "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
		"innodb_lock_wait_timeout": "10",
		"autocommit":               "1", // what is one statement is committed with it, also where servers are set up otherwise
	}
	for name, value := range params {
		bare := strings.ToLower(name)
		for _, word := range []string{"@@", "session", "local", "."} {
			bare = strings.ReplaceAll(bare, word, "")
		}
		bare = strings.TrimSpace(bare)
		if _, set := ours[bare]; !set && !strings.HasPrefix(bare, "character_set_") && !strings.HasPrefix(bare, "collation_") && bare != "names" {
			ours[name] = value
		}
	}
	return ours
}

// Ping reports whether every database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.master.PingContext(ctx); err != nil {
		return im.WithKind(im.Unavailable, "MySQL master", err)
	}
	if s.slave != s.master {
		if err := s.slave.PingContext(ctx); err != nil {
			return im.WithKind(im.Unavailable, "MySQL slave", err)
		}
	}
	return s.redis.ping(ctx)
}

// Close waits for batches at work, ends the background work and closes all connections. Counts that are owed stay in the outbox for whoever opens the
// databases next. Messages that come later fail with kind Closed. A second Close does nothing.
func (s *Store) Close() (err error) {
	s.closing.Do(func() {
		close(s.closed)
		s.stop()
		s.running.Wait()
		slots := make([]*slot, s.o.Workers)
		for i := range slots {
			slots[i] = <-s.slots
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.clearOutbox(ctx, slots); err != nil {
			s.log.Warn("outbox not cleared", "err", err) // the next process does
		}
		err = s.closeAll()
	})
	return err
}

// closeAll closes what is open.
func (s *Store) closeAll() error {
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	keep(s.redis.close())
	if s.slave != nil && s.slave != s.master {
		keep(s.slave.Close())
	}
	if s.master != nil {
		keep(s.master.Close())
	}
	s.m.unregister()
	return first
}

// reader returns where to read what concerns these users: the slave, or the master when one of them was written about so lately that the
// slave may not have it. The bound is per process: what another db_proxy wrote may be late by the slave's lag, as it always was.
func (s *Store) reader(users ...uint32) *sql.DB {
	for _, u := range users {
		if s.lately(uint64(u)) {
			return s.master
		}
	}
	return s.slave
}

// groupReader is reader for the messages of a group.
func (s *Store) groupReader(group uint32) *sql.DB {
	if s.lately(wroteGroup | uint64(group)) {
		return s.master
	}
	return s.slave
}

// wroteGroup tells groups from users in Store.wrote.
const wroteGroup = 1 << 32

// lately reports whether a slave may not have what was written about a user or group.
func (s *Store) lately(key uint64) bool {
	if s.wrote == nil {
		return false
	}
	at, ok := s.wrote.Get(key)
	return ok && s.now().UnixNano()-at < int64(s.o.ReplicaLag)
}

// wroteTo notes a write that concerns a user.
func (s *Store) wroteTo(users ...uint32) {
	if s.wrote == nil {
		return
	}
	now := s.now().UnixNano()
	for _, u := range users {
		s.wrote.Add(uint64(u), now)
	}
}

// wroteToGroup notes a message in a group.
func (s *Store) wroteToGroup(group uint32) {
	if s.wrote != nil {
		s.wrote.Add(wroteGroup|uint64(group), s.now().UnixNano())
	}
}
