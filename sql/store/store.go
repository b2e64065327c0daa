// Package store stores everything in MySQL and Redis, in the tables and under the keys of
// existing deployments. Other servers, C++ servers included, may use the same databases
// at the same time.
//
// A message is committed in MySQL before any client is told of it. Redis gives the
// message ids and holds the unread counts. Redis may lose all its data at any moment: no
// id is given twice (package conversation). Redis may be unavailable for any time: no count
// is lost (package outbox).
//
// No method holds more than one MySQL connection, and no method waits for a second
// connection while it holds one. A pool of one connection is enough.
//
// Each subject has a package, and this one builds the parts: redisconn and database connect;
// conversation, members and outbox carry what messages need; messages, history, unread,
// sessions, groups, directory, files, push and logins have the methods of im.Store,
// retention those of im.Pruner, and history those of im.Exporter too.
package store

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/cert"
	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/core/opt"
	"teamtalk/sql/schema"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/directory"
	"teamtalk/sql/store/files"
	"teamtalk/sql/store/groups"
	"teamtalk/sql/store/history"
	"teamtalk/sql/store/logins"
	"teamtalk/sql/store/members"
	"teamtalk/sql/store/messages"
	"teamtalk/sql/store/outbox"
	"teamtalk/sql/store/push"
	"teamtalk/sql/store/redisconn"
	"teamtalk/sql/store/retention"
	"teamtalk/sql/store/sessions"
	"teamtalk/sql/store/unread"
	"teamtalk/sql/store/use"
)

// Options name the databases and bound the connections and caches.
type Options struct {
	Master string // DSN of the MySQL master, in the form of go-sql-driver/mysql
	// Slave is the DSN of a replica for reads. Empty means the master. It may name a balancer
	// in front of several replicas if a connection stays with its replica.
	Slave string

	// TLS is the CA of MySQL and the certificate of this process, from the settings. nil means
	// neither: then the parameter tls of the DSN decides.
	TLS *cert.Client

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
	// expired client_msg_ids. While nothing uses the databases it is six times as long. 0
	// means 5 s.
	Housekeeping time.Duration

	// NoRebuild leaves unread counts that Redis has lost to RebuildUnread and to other
	// processes, and does not look for them. Without it this process applies the kept counts
	// again, and the housekeeping makes the others again, in one of the processes.
	NoRebuild bool

	// HalfMoved opens databases into which a move has not finished, for that move alone.
	HalfMoved bool

	Logger  *slog.Logger          // nil: no logs
	Metrics prometheus.Registerer // nil: metrics are not registered
	Now     func() time.Time      // this process's clock; nil: mono.Now

	hooks database.Hooks // points of failure, for tests
}

// Redis names the five logical Redis instances of a deployment.
type Redis = redisconn.Config

// Instance is a Redis server, a master with Sentinels, or a Redis Cluster.
type Instance = redisconn.Instance

// Store is an im.Store. Each of its parts has the methods of one subject. All parts share
// the connections of databases. Calls between parts go one way: a part calls only parts
// that newStore makes before it.
type Store struct {
	*directoryPart
	*historyPart
	*countsPart
	*sessionsPart
	*groupsPart
	*filesPart
	*pushPart
	*loginsPart
	*budgetsPart
	*retentionPart

	o             Options
	db            *database.DB
	conversations *conversation.Cache
	ids           *conversation.IDs
	members       *members.Reader
	outbox        *outbox.Outbox
	mirror        *groups.Mirror
	rows          *sessions.Rows
	recipients    *directory.Recipients
	marks         *unread.Marks
	rebuild       *unread.Rebuild
	messages      *messages.Messages

	stop    context.CancelFunc // ends housekeeping
	running sync.WaitGroup     // housekeeping and its like
	closing sync.Once
}

// The parts whose methods are those of Store. The names keep its fields unexported.
type (
	directoryPart = directory.Directory
	historyPart   = history.History
	countsPart    = unread.Counts
	sessionsPart  = sessions.Sessions
	groupsPart    = groups.Groups
	filesPart     = files.Files
	pushPart      = push.Push
	loginsPart    = logins.Logins
	budgetsPart   = logins.Budgets
	retentionPart = retention.Retention
)

var (
	_ im.Store      = (*Store)(nil)
	_ im.Pruner     = (*Store)(nil)
	_ im.PruneTurns = (*Store)(nil)
	_ im.Exporter   = (*Store)(nil)
)

// Open connects to the databases, checks that they answer (except the slave) and that the
// schema is migrated, and applies the counts that a crash left unapplied. The error has kind
// Unavailable when a database does not answer, and kind Invalid when an option is wrong
// or the schema is not migrated.
func Open(ctx context.Context, o Options) (*Store, error) {
	o = o.withDefaults()
	db := database.New(database.Options{Master: o.Master, Slave: o.Slave, TLS: o.TLS,
		Redis: o.Redis, Workers: o.Workers, ReplicaWait: o.ReplicaWait, HalfMoved: o.HalfMoved,
		Logger: o.Logger, Metrics: o.Metrics,
		Now: o.Now, Hooks: o.hooks})
	s, err := newStore(db, o)
	if err == nil {
		err = db.Connect(ctx)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	if !o.NoRebuild {
		if err := s.rebuild.Prepare(ctx); err != nil {
			s.db.Log.Warn("it is not known whether Redis has lost unread counts", "err", err)
		}
		if err := s.outbox.Restore(ctx); err != nil {
			s.db.Log.Warn("it is not known whether Redis has lost the last unread counts",
				"err", err)
		}
	}
	if _, err := s.outbox.Recover(ctx, 0); err != nil {
		s.db.Log.Warn("counts of an earlier process are not applied yet", "err", err)
	}
	background, stop := context.WithCancel(use.Periodic(context.Background()))
	s.stop = stop
	s.running.Go(func() { s.housekeep(background) })
	s.running.Go(func() { s.marks.Keep(background) })
	s.running.Go(func() { s.db.KeepTime(background) })
	if !s.o.NoRebuild {
		s.running.Go(func() { s.outbox.KeepApplied(background) })
	}
	return s, nil
}

// newStore makes the parts, and gives each part the parts that it calls.
func newStore(db *database.DB, o Options) (*Store, error) {
	var err error
	s := &Store{o: o, db: db, ids: conversation.NewIDs(db), members: members.New(db,
		o.GroupMembers),
		outbox: outbox.New(db), marks: unread.NewMarks(db), filesPart: files.New(db),
		pushPart: push.New(db), loginsPart: logins.New(db),
		budgetsPart: logins.NewBudgets(db)}
	if s.recipients, err = directory.NewRecipients(db, o.Users); err != nil {
		return nil, err
	}
	s.directoryPart = directory.New(db, s.recipients)
	if s.conversations, err = conversation.NewCache(db, o.Conversations); err != nil {
		return nil, err
	}
	if s.rows, err = sessions.NewRows(db, s.conversations, o.Conversations); err != nil {
		return nil, err
	}
	s.historyPart = history.New(db, s.conversations, s.members)
	s.countsPart = unread.New(db, s.conversations, s.ids, s.members, s.historyPart, s.marks)
	s.rebuild = unread.NewRebuild(db, s.ids, s.outbox, s.marks)
	s.retentionPart = retention.New(db, s.rebuild)
	s.sessionsPart = sessions.New(db, s.ids, s.members, s.historyPart, s.countsPart, s.rows)
	s.mirror = groups.NewMirror(db, s.outbox)
	s.groupsPart = groups.New(db, s.ids, s.members, s.outbox, s.mirror, s.rows)
	s.messages = messages.New(db, messages.Parts{Recipients: s.recipients,
		Conversations: s.conversations, IDs: s.ids, Members: s.members, Rows: s.rows,
		Outbox: s.outbox}, o.Workers)
	s.outbox.ApplyChange, s.outbox.ChangeAgain = s.mirror.ApplyChange, s.mirror.ChangeAgain
	s.outbox.ReadAgain = s.rebuild.ReadAgain
	s.outbox.NoteRead = s.marks.NoteGroupRead
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
		s.messages.Close()
		s.stop()
		s.running.Wait()
		slots := s.messages.TakeSlots()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.outbox.Clear(ctx, slots); err != nil {
			s.db.Log.Warn("outbox not cleared", "err", err) // the next process clears it
		}
		if err := s.marks.Flush(ctx); err != nil {
			s.db.Log.Warn("read marks not stored", "err", err)
		}
		err = s.db.Close()
	})
	return err
}

// housekeep recovers the outbox, rebuilds unread counts that Redis has lost, and removes
// old client_msg_ids at intervals, until ctx ends.
func (s *Store) housekeep(ctx context.Context) {
	s.db.CheckEviction(ctx)
	due := &s.db.Uses.Housekeeping
	failed := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			s.db.Log.Warn(what, "err", err)
			due.Use() // the next try does not wait for a use
		}
	}
	mono.Every(ctx.Done(), s.o.Housekeeping, func() {
		if !due.Due() {
			return
		}
		if !s.o.NoRebuild {
			failed("unread counts not rebuilt", s.rebuild.Check(ctx))
		}
		_, err := s.outbox.Recover(ctx, s.o.OutboxAge)
		failed("outbox not recovered", err)
		if !s.o.NoRebuild { // they may be needed
			failed("old kept counts not removed", s.outbox.ForgetKept(ctx))
		}
		failed("old client message ids not removed", s.messages.ForgetClientIDs(ctx))
		failed("mark of the directory not set", s.PayMark(ctx))
		s.db.CheckEviction(ctx)
	})
}

// Now returns the store's time; see im.Store.
func (s *Store) Now() time.Time { return s.db.Earliest() }

// Finalized reports whether the unique keys exist, beside which no C++ db_proxy works; see
// schema.Finalize.
func (s *Store) Finalized() bool { return s.db.Finalized }

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
func (s *Store) RebuildUnread(ctx context.Context) (unread.Rebuilt, error) {
	return s.rebuild.RebuildUnread(ctx)
}

// MirrorMembers writes to Redis, for C++ servers, which of users are members of a group. If the
// number of members in Redis then differs from that of the rows, all of them are written anew. It
// runs beside servers.
func (s *Store) MirrorMembers(ctx context.Context, group uint32, users []uint32) error {
	return s.mirror.ApplyChange(ctx, outbox.MemberChange{Group: group, Users: users})
}

// WhileCreating runs do in a transaction, while no db_proxy of ours creates a conversation or a
// session row without a unique key. It runs beside servers. do may run again after an error.
func (s *Store) WhileCreating(ctx context.Context, do func(tx *sql.Tx) error) error {
	return s.db.SQLError("change conversations", s.db.Retry(ctx, func() error {
		conn, err := s.db.Master.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		return s.db.Exclusively(ctx, conn, "create", do)
	}))
}

// CounterRaiser connects to Redis and returns the function for Options.RaiseCounter of
// schema.Finalize. It sets the counter of a conversation's message ids to at least max.
// close closes the connections.
func CounterRaiser(ctx context.Context, r Redis) (
	raise func(ctx context.Context, c schema.Conversation, max uint32) error,
	close func() error, err error) {
	return conversation.CounterRaiser(ctx, r)
}
