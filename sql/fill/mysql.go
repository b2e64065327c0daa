package fill

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"

	"teamtalk/core/cert"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/mysqlconn"
	"teamtalk/sql/schema"
)

// The rows of one statement, which is one transaction.
const (
	smallRows   = 5_000   // relations, session rows: multi-row INSERT
	loadRows    = 200_000 // messages: LOAD DATA
	insertRows  = 2_000   // messages, when the server refuses LOAD DATA LOCAL
	insertBytes = 1 << 20 // bytes of texts in one INSERT
	loaders     = 4       // message tables that are filled concurrently
)

// MySQL fills the database of dsn, which must be migrated and finalized. Redis needs no
// changes: the store replaces a message-id counter that is missing or too low by the
// table's highest id, and a missing unread count means 0. (C++ db_proxies do not, and
// must not run on such a database.)
//
// Messages are loaded with LOAD DATA LOCAL when the server allows it (local_infile), and
// otherwise with INSERTs of 2,000 rows, which takes several times as long. t is the TLS of the
// settings, nil without.
func MySQL(ctx context.Context, dsn string, t *cert.Client, spec Spec) (res Result, err error) {
	if err := spec.check(); err != nil {
		return res, err
	}
	f := &mysqlFill{Spec: &spec}
	if err := f.open(ctx, dsn, t); err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, f.db.Close()) }()
	relations := spec.relations()
	if res.Relations, err = f.makeRelations(ctx, relations); err != nil {
		return res, fmt.Errorf("fill relations: %w", err)
	}
	if res.Messages, err = f.addMessages(ctx, relations, "messages", relationTables); err != nil {
		return res, fmt.Errorf("fill messages: %w", err)
	}
	groups := spec.groups()
	if err := f.findJoinTimes(ctx, groups); err != nil {
		return res, fmt.Errorf("fill groups: %w", err)
	}
	if res.GroupMessages, err = f.addMessages(ctx, groups, "group messages",
		groupTables); err != nil {
		return res, fmt.Errorf("fill group messages: %w", err)
	}
	if err := f.writeChats(ctx, groups); err != nil {
		return res, fmt.Errorf("update groups: %w", err)
	}
	if err := f.writeSessions(ctx, relations, groups); err != nil {
		return res, fmt.Errorf("fill conversation lists: %w", err)
	}
	return res, nil
}

type mysqlFill struct {
	*Spec
	db *sql.DB
}

func (f *mysqlFill) open(ctx context.Context, dsn string, t *cert.Client) error {
	cfg, err := mysqlconn.Parse(dsn, t)
	if err != nil {
		return err
	}
	cfg.InterpolateParams = true
	cfg.ReadTimeout, cfg.WriteTimeout = 0, 0 // a statement may take a minute
	connector, err := mysqlconn.Connector(cfg)
	if err != nil {
		return err
	}
	f.db = sql.OpenDB(connector)
	f.db.SetMaxOpenConns(loaders)
	f.db.SetMaxIdleConns(loaders)
	state, err := schema.Status(ctx, f.db)
	switch {
	case err != nil:
	case len(state.Pending) > 0:
		err = im.Errorf(im.Invalid, "the database is not migrated (pending: %s): run migrate first",
			strings.Join(state.Pending, ", "))
	case !state.Finalized:
		err = im.Errorf(im.Invalid,
			"the database is not finalized: fill a new one, not one that C++ servers have used")
	}
	if err != nil {
		return errors.Join(err, f.db.Close())
	}
	return nil
}

// each queries rows of numbers, and calls do with each row.
func (f *mysqlFill) each(ctx context.Context, query string, columns int,
	do func(v []uint32) error) error {
	rows, err := f.db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	v := make([]uint32, columns)
	dest := make([]any, columns)
	for i := range v {
		dest[i] = &v[i]
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		if err := do(v); err != nil {
			return err
		}
	}
	return rows.Err()
}

// makeRelations makes the missing relations, and reads the ids of all.
func (f *mysqlFill) makeRelations(ctx context.Context, list []thread) (made int64, err error) {
	if len(list) == 0 {
		return 0, nil
	}
	wanted := make(map[uint64]int32, len(list))
	for i := range list {
		wanted[im.ConversationKey(list[i].a, list[i].b)] = int32(i)
	}
	find := func() error {
		return f.each(ctx, "SELECT id, smallId, bigId FROM IMRelationShip", 3,
			func(v []uint32) error {
				if i, ok := wanted[im.ConversationKey(v[1], v[2])]; ok {
					list[i].id = v[0]
				}
				return nil
			})
	}
	if err := find(); err != nil {
		return 0, err
	}
	var missing []*thread
	for i := range list {
		if list[i].id == 0 {
			missing = append(missing, &list[i])
		}
	}
	slices.SortFunc(missing, func(a, b *thread) int { return compare2(a.a, b.a, a.b, b.b) })
	err = f.insert(ctx, "relations",
		"INSERT IGNORE INTO IMRelationShip (smallId,bigId,status,created,updated) VALUES ", "",
		len(missing), func(i int, b []byte) []byte {
			t := missing[i]
			return fmt.Appendf(b, "(%d,%d,0,%d,%d)", t.a, t.b, f.Since, t.until)
		})
	if err != nil || len(missing) == 0 {
		return 0, err
	}
	if err := find(); err != nil {
		return 0, err
	}
	for _, t := range missing {
		if t.id == 0 {
			return 0, im.Errorf(im.Internal, "the new relation of users %d and %d does not exist",
				t.a, t.b)
		}
	}
	return int64(len(missing)), nil
}

// insert writes n rows, several per statement. row appends one.
func (f *mysqlFill) insert(ctx context.Context, name, begin, end string, n int,
	row func(i int, b []byte) []byte) error {
	st := f.stage(name, int64(n))
	var b []byte
	for i := 0; i < n; {
		b = append(b[:0], begin...)
		some := min(smallRows, n-i)
		for k := range some {
			if k > 0 {
				b = append(b, ',')
			}
			b = row(i+k, b)
		}
		if _, err := f.db.ExecContext(ctx, string(append(b, end...))); err != nil {
			return err
		}
		i += some
		st.add(some)
	}
	return nil
}

// tables says where the messages of relations, or those of groups, are stored.
type tables struct {
	name    string // of table n, as a format with %d
	thread  string // column of the thread's id
	columns string
	row     func(b []byte, t *thread, m message, sep byte) []byte
}

var (
	relationTables = tables{"IMMessage_%d", "relateId",
		"relateId,fromId,toId,msgId,type,status,created,updated,content",
		func(b []byte, t *thread, m message, sep byte) []byte {
			return numbers(b, sep, t.id, m.from, m.to, m.id,
				uint32(pb.MsgType_MSG_TYPE_SINGLE_TEXT), 0, m.created, m.created)
		}}
	groupTables = tables{"IMGroupMessage_%d", "groupId",
		"groupId,userId,msgId,type,status,created,updated,content",
		func(b []byte, t *thread, m message, sep byte) []byte {
			return numbers(b, sep, t.id, m.from, m.id, uint32(pb.MsgType_MSG_TYPE_GROUP_TEXT), 0,
				m.created, m.created)
		}}
)

// numbers appends values, each followed by sep.
func numbers(b []byte, sep byte, values ...uint32) []byte {
	for _, v := range values {
		b = append(strconv.AppendUint(b, uint64(v), 10), sep)
	}
	return b
}

// addMessages adds the messages of all threads, several tables concurrently. It sorts the
// threads.
func (f *mysqlFill) addMessages(ctx context.Context, list []thread, name string,
	in tables) (added int64, err error) {
	if count(list) == 0 {
		return 0, nil
	}
	sortByID(list)
	st := f.stage(name, count(list))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	todo := make(chan int, schema.Tables)
	for n := range schema.Tables {
		todo <- n
	}
	close(todo)
	var wg sync.WaitGroup
	failed := make([]error, loaders)
	for i := range failed {
		wg.Go(func() {
			for n := range todo {
				if failed[i] = f.fillTable(ctx, list, n, in, st); failed[i] != nil {
					cancel()
					return
				}
			}
		})
	}
	wg.Wait()
	return st.done, firstCause(failed)
}

// firstCause returns the error that led to the cancellation of the others.
func firstCause(list []error) (err error) {
	for _, e := range list {
		if e != nil && (err == nil || errors.Is(err, context.Canceled)) {
			err = e
		}
	}
	return err
}

// fillTable adds the messages of one table.
func (f *mysqlFill) fillTable(ctx context.Context, list []thread, n int, in tables,
	st *stage) error {
	table := fmt.Sprintf(in.name, n)
	var mine []*thread
	for i := range list {
		if int(list[i].id%schema.Tables) == n && list[i].n > 0 {
			mine = append(mine, &list[i])
		}
	}
	if len(mine) == 0 {
		return nil
	}
	if err := f.findLast(ctx, table, in.thread, mine); err != nil {
		return err
	}
	own := make([]thread, len(mine))
	for i, t := range mine {
		own[i] = *t
	}
	all := &rows{list: own, texts: f.Texts}
	load := f.load
	for left := count(own); left > 0; {
		n, err := load(ctx, table, in, all, left)
		if notAllowed(err) {
			load = f.insertMessages // load has consumed no row yet
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
		left -= int64(n)
		st.add(n)
	}
	return nil
}

// findLast reads the highest message ids and times of threads.
func (f *mysqlFill) findLast(ctx context.Context, table, column string, mine []*thread) error {
	by := make(map[uint32]*thread, len(mine))
	for _, t := range mine {
		by[t.id] = t
	}
	return f.each(ctx, fmt.Sprintf("SELECT %s, MAX(msgId), MAX(created) FROM %s GROUP BY %[1]s",
		column, table), 3, func(v []uint32) error {
		if t := by[v[0]]; t != nil {
			return t.after(v[1], v[2])
		}
		return nil
	})
}

// notAllowed reports whether the server refuses LOAD DATA LOCAL.
func notAllowed(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && slices.Contains([]uint16{1148, 3948, 4166}, e.Number)
}

// load adds messages with LOAD DATA LOCAL.
func (f *mysqlFill) load(ctx context.Context, table string, in tables, all *rows, left int64) (int,
	error) {
	n := int(min(left, loadRows))
	name := uuid.NewString()
	mysql.RegisterReaderHandler(name, func() io.Reader {
		return &lines{rows: all, in: in,
			left: n}
	})
	defer mysql.DeregisterReaderHandler(name)
	res, err := f.db.ExecContext(ctx, fmt.Sprintf(
		"LOAD DATA LOCAL INFILE 'Reader::%s' INTO TABLE %s CHARACTER SET utf8mb4 FIELDS "+
			"TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' (%s)",
		name, table, in.columns))
	if err != nil {
		return 0, err
	}
	// With LOCAL, MySQL skips rows that violate a key without an error.
	if got, err := res.RowsAffected(); err != nil || got != int64(n) {
		return 0,
			errors.Join(im.Errorf(im.Busy,
				"the server stored %d of %d messages: no server may run on the database meanwhile",
				got, n), err)
	}
	return n, nil
}

// lines is a reader of the file that LOAD DATA loads.
type lines struct {
	rows *rows
	in   tables
	left int
	buf  []byte
	at   int // start of the unread part of buf
}

// Read makes rows as they are read.
func (l *lines) Read(p []byte) (int, error) {
	if l.at == len(l.buf) {
		if l.left == 0 {
			return 0, io.EOF
		}
		l.buf, l.at = l.buf[:0], 0
		some := min(l.left, 256)
		l.left -= some
		for range some {
			t, m := l.rows.next()
			l.buf = appendEscaped(l.in.row(l.buf, t, m, '\t'), m.text)
			l.buf = append(l.buf, '\n')
		}
	}
	n := copy(p, l.buf[l.at:])
	l.at += n
	return n, nil
}

// appendEscaped appends a text, escaped for LOAD DATA and for a quoted string.
func appendEscaped(b, text []byte) []byte {
	if !bytes.ContainsAny(text, "\\\t\n\r\x00'") {
		return append(b, text...)
	}
	for _, c := range text {
		switch c {
		case '\\', '\'':
			b = append(b, '\\', c)
		case '\t':
			b = append(b, '\\', 't')
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case 0:
			b = append(b, '\\', '0')
		default:
			b = append(b, c)
		}
	}
	return b
}

// insertMessages adds messages with one INSERT.
func (f *mysqlFill) insertMessages(ctx context.Context, table string, in tables, all *rows,
	left int64) (int, error) {
	b := fmt.Appendf(nil, "INSERT INTO %s (%s) VALUES ", table, in.columns)
	n := 0
	for ; n < insertRows && int64(n) < left && len(b) < insertBytes; n++ {
		t, m := all.next()
		if n > 0 {
			b = append(b, ',')
		}
		b = append(in.row(append(b, '('), t, m, ','), '\'')
		b = append(appendEscaped(b, m.text), "')"...)
	}
	_, err := f.db.ExecContext(ctx, string(b))
	return n, err
}
