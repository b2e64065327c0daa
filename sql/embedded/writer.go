package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"teamtalk/sql/embedded/arrivals"
	"teamtalk/sql/embedded/faults"
	"teamtalk/sql/embedded/numbering"
)

// cacheSize bounds each cache of the writer, in entries of a few hundred bytes.
const cacheSize = 32 << 10

// writer is the connection that writes. Only the holder of the token in database.slot may
// use it.
//
// Statements inside a transaction run without the caller's context: they take
// microseconds, and watching a context costs a goroutine each. The context is checked
// before the transaction and before its commit.
type writer struct {
	db   *sql.DB
	conn *sql.Conn

	// The caches below are never stale: every change goes through this connection or
	// raises data_version.
	dataVersion int64
	newVersion  int64                        // of the transaction; it counts from the commit on
	relations   *lru.Cache[uint64, relation] // by im.ConversationKey
	// users that can receive messages; others are read each time
	recipients *lru.Cache[uint32, struct{}]
	groups     *lru.Cache[uint32, group]
	// members of groups; other users are read each time
	members *lru.Cache[memberKey, struct{}]
	resends resends

	*arrival
	relaxed bool // the connection does not flush the log at a commit

	loginMarks     int    // how many may be put before they are counted
	oldestClientID uint32 // time of the oldest ClientMessage, or earlier; 0: unknown

	statements []*sql.Stmt // all statements, for close

	begin, commit, rollback                *sql.Stmt
	savepoint, rollbackTo, release         *sql.Stmt
	version                                *sql.Stmt
	canReceive                             *sql.Stmt
	getRelation, newRelation               *sql.Stmt
	updateRelation                         *sql.Stmt
	lastOfRelation, lastOfGroup            *sql.Stmt
	insertMessage                          *sql.Stmt
	getGroup, getMember                    *sql.Stmt
	updateGroup, updateMember              *sql.Stmt
	insertGroupMessage, insertAudio        *sql.Stmt
	clearGroupUnread                       *sql.Stmt
	clearUnread                            *sql.Stmt
	putClientID, getClientID, dropClientID *sql.Stmt
	forget, getOldest                      *sql.Stmt
	arrive, arrived, dropArrived           *sql.Stmt
}

// relation is the cached state of a conversation.
type relation struct {
	id   int64
	last uint32 // id of its newest message
}

func openWriter(ctx context.Context, path string, busy time.Duration) (*writer, error) {
	db := openDB(path, busy, 1,
		"_journal_mode=WAL",
		"_synchronous=FULL", // the log is flushed before a commit returns
		"_pragma=journal_size_limit(67108864)",
		"_pragma=wal_autocheckpoint(2000)", // pages of 4 KiB
		"_pragma=cache_size(-32768)")       // KiB
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(faults.Describe(err), db.Close())
	}
	w := &writer{db: db, conn: conn}
	w.arrival = &arrival{w: w, waiting: arrivals.New(), nextID: 1}
	if w.relations, err = lru.New[uint64, relation](cacheSize); err != nil {
		return nil, err
	}
	if w.recipients, err = lru.New[uint32, struct{}](cacheSize); err != nil {
		return nil, err
	}
	if w.groups, err = lru.New[uint32, group](cacheSize); err != nil {
		return nil, err
	}
	if w.members, err = lru.New[memberKey, struct{}](cacheSize); err != nil {
		return nil, err
	}
	if w.resends.Memory, err = numbering.New(cacheSize); err != nil {
		return nil, err
	}
	err = w.prepare(ctx,
		query{&w.begin, "begin immediate"},
		query{&w.commit, "commit"},
		query{&w.rollback, "rollback"},
		query{&w.version, "pragma data_version"})
	if err != nil {
		return nil, errors.Join(faults.Describe(err), w.close())
	}
	return w, nil
}

// query is a statement to prepare.
type query struct {
	stmt **sql.Stmt
	text string
}

func (q query) prepare(ctx context.Context, on interface {
	PrepareContext(context.Context, string) (*sql.Stmt, error)
}) (err error) {
	if *q.stmt, err = on.PrepareContext(ctx, q.text); err != nil {
		return fmt.Errorf("prepare %q: %w", q.text, err)
	}
	return nil
}

func (w *writer) prepare(ctx context.Context, queries ...query) error {
	for _, q := range queries {
		if err := q.prepare(ctx, w.conn); err != nil {
			return err
		}
		w.statements = append(w.statements, *q.stmt)
	}
	return nil
}

// prepareAppend prepares the statements that need the schema.
func (w *writer) prepareAppend(ctx context.Context) error {
	return w.prepare(ctx, append(w.resends.queries(), []query{
		{&w.savepoint, "savepoint message"},
		{&w.rollbackTo, "rollback to message"},
		{&w.release, "release message"},
		{&w.canReceive, "select status <> 3 from IMUser where id = ?"},
		{&w.getRelation, "select id, lastMsgId from IMRelationShip where smallId = ? " +
			"and bigId = ?"},
		{&w.newRelation, `insert into IMRelationShip (smallId, bigId, lastMsgId, unreadSmall,
			unreadBig, created, updated)
			values (?1, ?2, 0, 0, 0, ?3, ?3)`},
		// The next message lists a removed session again.
		{&w.updateRelation, `update IMRelationShip set lastMsgId = ?2,
			unreadSmall = unreadSmall + ?3, unreadBig = unreadBig + ?4,
			updated = max(updated, ?5), statusSmall = 0, statusBig = 0 where id = ?1`},
		{&w.lastOfRelation, "select lastMsgId from IMRelationShip where id = ?"},
		{&w.lastOfGroup, "select lastMsgId from IMGroup where id = ?"},
		{&w.insertMessage, "insert into IMMessage (id, fromId, type, created, content, " +
			"sentAs) values (?, ?, ?, ?, ?, ?)"},
		{&w.getGroup, "select version, lastMsgId from IMGroup where id = ?"},
		{&w.getMember, "select 1 from IMGroupMember where groupId = ? and userId = ?"},
		{&w.updateGroup, "update IMGroup set lastMsgId = ?2, lastChated = max(lastChated, ?3) " +
			"where id = ?1"},
		{&w.updateMember, "update IMGroupMember set readMsgId = ?3 where groupId = ?1 " +
			"and userId = ?2"},
		{&w.insertGroupMessage, "insert into IMGroupMessage (id, userId, type, created, " +
			"content, sentAs) values (?, ?, ?, ?, ?, ?)"},
		{&w.insertAudio, "insert into IMAudio (fromId, toId, path, size, duration, created) " +
			"values (?, ?, ?, ?, ?, ?)"},
		{&w.clearGroupUnread, `update IMGroupMember set readMsgId = (select lastMsgId from IMGroup
			where id = ?1)
			where groupId = ?1 and userId = ?2`},
		{&w.putClientID, "insert or ignore into ClientMessage " +
			"(relateId, fromId, clientId, msgId, created) values (?, ?, ?, ?, ?)"},
		{&w.getClientID, "select msgId, created from ClientMessage where relateId = ? " +
			"and fromId = ? and clientId = ?"},
		{&w.dropClientID, "delete from ClientMessage where relateId = ? and fromId = ? " +
			"and clientId = ?"},
		{&w.clearUnread, `update IMRelationShip set unreadSmall = case smallId
			when ?3 then 0 else unreadSmall end,
			unreadBig = case bigId when ?3 then 0 else unreadBig end where smallId = ?1
			and bigId = ?2`},
		{&w.forget, "delete from ClientMessage " +
			"where id < (select min(id) from ClientMessage) + ? and created <= ?"},
		{&w.getOldest, "select created from ClientMessage order by id limit 1"},
		{&w.arrive, "insert into Arrived (id, list) values (?, ?)"},
		{&w.arrived, "select id, list from Arrived where id >= ? order by id"},
		{&w.dropArrived, "delete from Arrived where id = ?"},
	}...)...)
}

// close closes the connection. Statements are closed first: database/sql does not close
// those of a sql.Conn, and SQLite keeps a connection with open statements, with its locks
// and its log, until the process ends.
func (w *writer) close() error {
	var errs []error
	for _, s := range w.statements {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, w.conn.Close(), w.db.Close())...)
}

// flushes sets whether the next commits wait until the log is on the disk.
func (w *writer) flushes(wanted bool) error {
	if wanted != w.relaxed {
		return nil
	}
	text := "pragma synchronous = full"
	if !wanted {
		text = "pragma synchronous = normal"
	}
	if err := w.exec(text); err != nil {
		return err
	}
	w.relaxed = !wanted
	return nil
}

// exec runs a statement without preparing it.
func (w *writer) exec(text string, args ...any) error {
	_, err := w.conn.ExecContext(context.Background(), text, args...)
	return err
}

// tryWrite changes nothing, and fails when a change would fail. Beginning a transaction
// is not enough for that.
func (w *writer) tryWrite() error { return w.exec("update IMRelationShip set id = id where false") }

// tryRoom writes as much as a batch may need, 64 KiB, and removes it.
func (w *writer) tryRoom() error {
	for _, text := range []string{"create table probe (x)", "insert into probe " +
		"values (zeroblob(65536))", "drop table probe"} {
		if err := w.exec(text); err != nil {
			return err
		}
	}
	return nil
}

// abandon rolls back. The transaction may not exist: it never began, or the database
// ended it, which the rollback then reports. The caches may hold changes that did not
// happen, so they are emptied.
func (w *writer) abandon() {
	_, _ = w.rollback.Exec()
	w.fresh, w.batches = nil, nil
	w.giveBack()
	w.forgetAll()
}

// giveBack lets messages wait that were to be written. A process that is not the server forgets
// them and reads them again with its next transaction.
func (a *arrival) giveBack() {
	if !a.beside {
		a.waiting.Rollback()
		return
	}
	a.waiting.Clear()
}

// forgetAll empties the caches, which may differ from the database.
func (w *writer) forgetAll() {
	w.relations.Purge()
	w.recipients.Purge()
	w.groups.Purge()
	w.members.Purge()
	w.resends.Clear()
	w.oldestClientID = 0
}

// refresh reports whether another process has changed the database, and empties the caches then. If
// the transaction is rolled back, the next one reports it again: only a transaction that commits
// has written the messages that waited before the change.
func (w *writer) refresh() (bool, error) {
	err := w.version.QueryRow().Scan(&w.newVersion)
	if err != nil || w.newVersion == w.dataVersion {
		return false, err
	}
	w.forgetAll()
	return true, nil
}
