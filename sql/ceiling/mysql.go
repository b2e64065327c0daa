package ceiling

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"teamtalk/core/cert"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/mysqlconn"
	"teamtalk/sql/schema"
	"teamtalk/sql/store"
	"teamtalk/sql/store/redisconn"
)

// dropTimeout bounds the removal of the database and the keys.
const dropTimeout = 30 * time.Second

// MySQL measures the MySQL server of dsn together with Redis. Each batch is a pipeline of
// INCRBY for the message ids, a packet with a transaction that has one INSERT per table, and
// a pipeline of HINCRBY for the unread counts. It leaves out the session rows, which a
// server writes once a second for each conversation. The server's
// innodb_flush_log_at_trx_commit decides how durable a commit is.
//
// The database that dsn names is not changed. MySQL makes another one, which needs the
// privilege, and drops it afterwards. Its keys in Redis have a prefix of their own, and
// are removed as well. t is the TLS of the settings, nil without.
func MySQL(ctx context.Context, dsn string, t *cert.Client, r store.Instance, o Options) (
	res Result, err error) {
	if err := o.defaults(); err != nil {
		return res, err
	}
	workers, batches := []int{4, 1, 2, 8, 16}, []int{256, 64, 128}
	name := "teamtalk_ceiling_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
	b := &mysqlBed{o: o, prefix: name + ":"}
	drop, err := b.makeDatabase(ctx, dsn, t, name, slices.Max(workers))
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, drop()) }()
	if err := b.connectRedis(ctx, r, slices.Max(workers)); err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, b.closeRedis()) }()
	res, err = run(ctx, b, o, workers, batches)
	if err != nil {
		return Result{}, err
	}
	res.Database, err = b.describe(ctx)
	return res, err
}

// mysqlBed stores in MySQL and counts in Redis.
type mysqlBed struct {
	o      Options
	db     *sql.DB
	redis  redis.UniversalClient
	prefix string // of its keys
}

// makeDatabase makes the database and its tables, and connects to it. drop drops it.
func (b *mysqlBed) makeDatabase(ctx context.Context, dsn string, t *cert.Client, name string,
	connections int) (drop func() error, err error) {
	cfg, err := mysqlconn.Parse(dsn, t)
	if err != nil {
		return nil, err
	}
	cfg.InterpolateParams, cfg.MultiStatements = true, true
	connect := func(database string) (*sql.DB, error) {
		c := cfg.Clone()
		c.DBName = database
		connector, err := mysqlconn.Connector(c)
		if err != nil {
			return nil, err
		}
		db := sql.OpenDB(connector)
		db.SetMaxOpenConns(connections)
		db.SetMaxIdleConns(connections)
		return db, nil
	}
	admin, err := connect("")
	if err != nil {
		return nil, err
	}
	if _, err := admin.ExecContext(ctx, "CREATE DATABASE "+name+
		" CHARACTER SET utf8mb4"); err != nil {
		return nil,
			errors.Join(
				fmt.Errorf(
					"make a temporary database (GRANT ALL ON `teamtalk\\_ceiling\\_%%`.* "+
						"allows it): %w", err), admin.Close())
	}
	drop = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
		defer cancel()
		var errs []error
		if b.db != nil {
			errs = append(errs, b.db.Close())
		}
		if _, err := admin.ExecContext(ctx, "DROP DATABASE "+name); err != nil {
			errs = append(errs, fmt.Errorf("drop the database %s: %w", name, err))
		}
		return errors.Join(append(errs, admin.Close())...)
	}
	if b.db, err = connect(name); err == nil {
		err = schema.Migrate(ctx, b.db, schema.Options{})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the tables: %w", err), drop())
	}
	return drop, nil
}

// connectRedis connects to Redis and checks that it answers.
func (b *mysqlBed) connectRedis(ctx context.Context, r store.Instance, connections int) error {
	b.redis = redisconn.Connect(r, connections)
	if err := b.redis.Ping(ctx).Err(); err != nil {
		return errors.Join(im.WithKind(im.Unavailable, "Redis", err), b.redis.Close())
	}
	return nil
}

// closeRedis removes the keys.
func (b *mysqlBed) closeRedis() error {
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	_, err := b.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for c := 1; c <= b.o.Conversations; c++ {
			// One key per command, since the nodes of a cluster share the keys.
			p.Unlink(ctx, b.counter(c))
			p.Unlink(ctx, b.unread(c))
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("remove the keys %s* from Redis: %w", b.prefix, err)
	}
	return errors.Join(err, b.redis.Close())
}

// describe returns the server's name, and how durable its commits are.
func (b *mysqlBed) describe(ctx context.Context) (string, error) {
	var version string
	var flush int
	if err := b.db.QueryRowContext(ctx,
		"SELECT VERSION(), @@global.innodb_flush_log_at_trx_commit").Scan(&version,
		&flush); err != nil {
		return "", fmt.Errorf("read the server's version: %w", err)
	}
	product := "MySQL "
	if number, _, ok := strings.Cut(version, "-MariaDB"); ok {
		product, version = "MariaDB ", number
	}
	return fmt.Sprintf("%s%s, innodb_flush_log_at_trx_commit=%d, and Redis", product, version,
		flush), nil
}

// counter returns the key of a conversation's message-id counter.
func (b *mysqlBed) counter(conversation int) string {
	if b.o.Groups {
		return b.prefix + "group_msg_id_" + strconv.Itoa(conversation)
	}
	return b.prefix + "msg_id_" + strconv.Itoa(conversation)
}

// unread returns the key of the unread counts of a conversation's receiver: its second
// user, or the group.
func (b *mysqlBed) unread(conversation int) string {
	if b.o.Groups {
		return b.prefix + strconv.Itoa(conversation) + "_im_group_msg"
	}
	return b.prefix + "unread_" + strconv.Itoa(2*conversation)
}

// field returns the field of that key that has the count.
func (b *mysqlBed) field(conversation int) string {
	if b.o.Groups {
		return "count"
	}
	return strconv.Itoa(2*conversation - 1)
}

// mysqlWorker stores batches one after the other. In conversation c user 2c-1 writes to
// user 2c.
type mysqlWorker struct {
	*mysqlBed
	spread *spread
	tail   string // the end of a row, with the text
	parts  []part
	ids    []*redis.IntCmd
	buf    []byte
}

func (b *mysqlBed) worker(_ context.Context, s shape, n int) (storeRows, func(), error) {
	w := &mysqlWorker{mysqlBed: b, spread: newSpread(b.o, s, n), tail: ",'" + b.o.text() + "')"}
	return w.batch, func() {}, nil
}

func (w *mysqlWorker) batch(ctx context.Context, rows int) error {
	w.parts = w.spread.parts(rows, w.parts)
	w.ids = w.ids[:0]
	_, err := w.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, c := range w.parts {
			w.ids = append(w.ids, p.IncrBy(ctx, w.counter(c.conversation), int64(c.rows)))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("draw message ids: %w", err)
	}
	if err := w.insert(ctx); err != nil {
		return err
	}
	_, err = w.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, c := range w.parts {
			p.HIncrBy(ctx, w.unread(c.conversation), w.field(c.conversation), int64(c.rows))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("count unread messages: %w", err)
	}
	return nil
}

// insert commits the batch with one INSERT per table, all in one packet, as a server does.
func (w *mysqlWorker) insert(ctx context.Context) error {
	now := uint64(time.Now().Unix())
	into := "INSERT INTO IMMessage_%d " +
		"(relateId,fromId,toId,msgId,type,status,created,updated,content) VALUES "
	if w.o.Groups {
		into = "INSERT INTO IMGroupMessage_%d " +
			"(groupId,userId,msgId,type,status,created,updated,content) VALUES "
	}
	b := append(w.buf[:0], "START TRANSACTION;"...)
	for table := range schema.Tables {
		begin := len(b)
		b = fmt.Appendf(b, into, table)
		empty := len(b)
		for i, c := range w.parts {
			if c.conversation%schema.Tables != table {
				continue
			}
			first := uint64(w.ids[i].Val()) - uint64(c.rows) + 1
			for k := range uint64(c.rows) {
				if len(b) > empty {
					b = append(b, ',')
				}
				id, user := uint64(c.conversation), uint64(2*c.conversation)
				if w.o.Groups {
					b = appendRow(b, id, user, first+k, uint64(pb.MsgType_MSG_TYPE_GROUP_TEXT), 0,
						now, now)
				} else {
					b = appendRow(b, id, user-1, user, first+k,
						uint64(pb.MsgType_MSG_TYPE_SINGLE_TEXT), 0, now, now)
				}
				b = append(b, w.tail...)
			}
		}
		if len(b) == empty {
			b = b[:begin]
			continue
		}
		b = append(b, ';')
	}
	w.buf = append(b, "COMMIT"...)
	// After an error the connection has an open transaction, which ends with it: the
	// measurement fails, and closes all of them.
	if _, err := w.db.ExecContext(ctx, string(w.buf)); err != nil {
		return fmt.Errorf("store a batch: %w", err)
	}
	return nil
}

// appendRow appends the numbers of a row.
func appendRow(b []byte, values ...uint64) []byte {
	for i, v := range values {
		b = append(b, "(,"[min(i, 1)])
		b = strconv.AppendUint(b, v, 10)
	}
	return b
}
