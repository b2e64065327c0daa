package ceiling

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"teamtalk/sql/embedded"
)

// Embedded measures SQLite with the set-up of the embedded store: its schema, one writer,
// and a write-ahead log that is flushed before a commit returns. A batch is one
// transaction: its messages, and for each conversation an update of the last message id
// and the unread count, which replaces Redis.
//
// The database is in a temporary folder inside dir, which must be on the disk to measure.
// Embedded removes it.
func Embedded(ctx context.Context, dir string, o Options) (res Result, err error) {
	if err := o.defaults(); err != nil {
		return res, err
	}
	folder, err := os.MkdirTemp(dir, "teamtalk-ceiling-")
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	s, err := embedded.Open(ctx, embedded.Options{Dir: filepath.Join(folder, "store"), Workers: 1})
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	b := &embeddedBed{o: o, store: s, last: make([]int64, o.Conversations+1)}
	if err := s.Raw(ctx, b.makeConversations); err != nil {
		return res, err
	}
	if res, err = run(ctx, b, o, []int{1}, []int{256, 64, 1024}); err != nil {
		return Result{}, err
	}
	err = s.Raw(ctx, func(conn *sql.Conn) error {
		var version string
		err := conn.QueryRowContext(ctx, "select sqlite_version()").Scan(&version)
		res.Database = "SQLite " + version + ", WAL, synchronous=FULL"
		return err
	})
	return res, err
}

// embeddedBed stores in SQLite, with one worker at a time.
type embeddedBed struct {
	o     Options
	store *embedded.Store
	last  []int64 // last message id of each conversation
}

func (b *embeddedBed) makeConversations(conn *sql.Conn) error {
	now := time.Now().Unix()
	insert := "insert into IMRelationShip (id, smallId, bigId, lastMsgId, unreadSmall, " +
		"unreadBig, created, updated) values (?1, 2*?1-1, 2*?1, 0, 0, 0, ?2, ?2)"
	if b.o.Groups {
		insert = "insert into IMGroup (id, name, avatar, creator, type, version, lastMsgId, " +
			"lastChated, created, updated) values (?1, '', '', 2*?1, 1, 1, 0, 0, ?2, ?2)"
	}
	for c := 1; c <= b.o.Conversations; c++ {
		if _, err := conn.ExecContext(context.Background(), insert, c, now); err != nil {
			return fmt.Errorf("make conversations: %w", err)
		}
	}
	return nil
}

// rowsPerStatement is the number of rows of one INSERT. The rest of a batch is inserted
// row by row. More rows per statement are not faster.
const rowsPerStatement = 16

func (b *embeddedBed) worker(ctx context.Context, s shape, n int) (storeRows, func(), error) {
	w := &embeddedWorker{embeddedBed: b, spread: newSpread(b.o, s, n), text: []byte(b.o.text())}
	err := b.store.Raw(ctx, func(conn *sql.Conn) error { return w.prepare(ctx, conn) })
	if err != nil {
		w.close()
		return nil, nil, err
	}
	return w.batch, w.close, nil
}

// embeddedWorker stores batches one after the other.
type embeddedWorker struct {
	*embeddedBed
	spread            *spread
	text              []byte
	parts             []part
	many, one, update *sql.Stmt
	args              []any
}

func (w *embeddedWorker) prepare(ctx context.Context, conn *sql.Conn) error {
	insert, row := "insert into IMMessage (id, fromId, type, created, content) values ",
		"(?, ?, 1, ?, ?)"
	update := "update IMRelationShip set lastMsgId = ?2, unreadBig = unreadBig + ?3, updated = " +
		"?4 where id = ?1"
	if w.o.Groups {
		insert, row = "insert into IMGroupMessage (id, userId, type, created, content) values ",
			"(?, ?, 17, ?, ?)"
		// A group has no unread count of its own, so the number of messages (?3) is not
		// used.
		update = "update IMGroup set lastMsgId = ?2, lastChated = max(lastChated, ?4 + 0*?3) " +
			"where id = ?1"
	}
	for _, q := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&w.many, insert + strings.Repeat(row+",", rowsPerStatement-1) + row},
		{&w.one, insert + row},
		{&w.update, update},
	} {
		var err error
		if *q.stmt, err = conn.PrepareContext(ctx, q.text); err != nil {
			return fmt.Errorf("prepare %q: %w", q.text, err)
		}
	}
	return nil
}

func (w *embeddedWorker) close() {
	for _, s := range []*sql.Stmt{w.many, w.one, w.update} {
		if s != nil {
			_ = s.Close() // its connection is closed soon after
		}
	}
}

func (w *embeddedWorker) batch(ctx context.Context, rows int) error {
	return w.store.Raw(ctx, func(*sql.Conn) error {
		w.parts = w.spread.parts(rows, w.parts)
		now := time.Now().Unix()
		w.args = w.args[:0]
		for _, c := range w.parts {
			for range c.rows {
				w.last[c.conversation]++
				w.args = append(w.args, int64(c.conversation)<<32|w.last[c.conversation],
					int64(2*c.conversation-1), now, w.text)
			}
		}
		const columns = 4
		for args := w.args; len(args) > 0; {
			stmt, n := w.one, columns
			if len(args) >= rowsPerStatement*columns {
				stmt, n = w.many, rowsPerStatement*columns
			}
			if _, err := stmt.Exec(args[:n]...); err != nil {
				return err
			}
			args = args[n:]
		}
		for _, c := range w.parts {
			if _, err := w.update.Exec(int64(c.conversation), w.last[c.conversation], int64(c.rows),
				now); err != nil {
				return err
			}
		}
		return nil
	})
}
