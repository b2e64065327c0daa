package doctor

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/sql/mysqlconn"
	"teamtalk/sql/schema"
	"teamtalk/sql/store"
	"teamtalk/sql/store/redisconn"
)

// MySQL names a MySQL database with its Redis instances, and the files of the deployment
// that are on this machine.
type MySQL struct {
	Store store.Options // Slave is not used
	Files Files
	// Repair opens the store for repairs. It applies the counts that processes which have
	// ended owe to Redis. Without it nothing is changed, and Options.Repair fails.
	Repair bool
}

// big is a MySQL database with its Redis instances.
type big struct {
	db        *sql.DB
	redis     redisconn.Clients
	finalized bool
	store     *store.Store // nil without repairs
	raise     func(ctx context.Context, c schema.Conversation, max uint32) error
}

// connections is the number of connections to MySQL and to each Redis.
const connections = 2

// OpenMySQL connects to the databases beside the servers that use them. The error has
// kind Invalid when the tables are not those of this program, or a move into them has not
// finished.
func OpenMySQL(ctx context.Context, o MySQL) (_ *Doctor, err error) {
	cfg, err := mysqlconn.Parse(o.Store.Master, o.Store.TLS)
	if err != nil {
		return nil, err
	}
	cfg.InterpolateParams = true
	connector, err := mysqlconn.Connector(cfg)
	if err != nil {
		return nil, err
	}
	b := &big{db: sql.OpenDB(connector)}
	b.db.SetMaxOpenConns(connections)
	closing := []func() error{b.db.Close}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll(closing...)())
		}
	}()
	if err := b.check(ctx); err != nil {
		return nil, err
	}
	b.redis, err = redisconn.Open(o.Store.Redis, connections, redisconn.NewEpoch(func() {}),
		slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	closing = append(closing, b.redis.Close)
	for _, c := range b.redis.All {
		if err := c.Ping(ctx).Err(); err != nil {
			return nil, im.WithKind(im.Unavailable, "connect to Redis (section redis of the "+
				"settings)", err)
		}
	}
	if o.Repair {
		if err := b.openStore(ctx, o.Store, &closing); err != nil {
			return nil, err
		}
		o.Files.store = b.store
	}
	o.Files.db = b.db
	return &Doctor{checks: b.checks(o.Files), repairs: o.Repair, close: closeAll(closing...)}, nil
}

// openStore opens the store for repairs.
func (b *big) openStore(ctx context.Context, o store.Options, closing *[]func() error) (err error) {
	o.Slave, o.NoRebuild = "", true
	if b.store, err = store.Open(ctx, o); err != nil {
		return err
	}
	*closing = append(*closing, b.store.Close)
	var done func() error
	if b.raise, done, err = store.CounterRaiser(ctx, o.Redis); err == nil {
		*closing = append(*closing, done)
	}
	return err
}

// check returns an error if the tables cannot be looked at.
func (b *big) check(ctx context.Context) error {
	if err := b.db.PingContext(ctx); err != nil {
		return im.WithKind(im.Unavailable, "connect to MySQL (setting mysql.master)", err)
	}
	state, err := schema.Status(ctx, b.db)
	switch {
	case err != nil:
		return err
	case len(state.Pending) > 0:
		return im.Errorf(im.Invalid, "the database is not migrated: run teamtalk migrate first")
	}
	b.finalized = state.Finalized
	half, err := schema.HalfMoved(ctx, b.db)
	if err == nil && half {
		err = im.Errorf(im.Invalid, "a move into this database has not finished: run teamtalk "+
			"move again")
	}
	return err
}

// checks returns the checks.
func (b *big) checks(files Files) []Check {
	e := &entries{db: b.db, there: " AND g.status=0", in: " AND m.status=0", creator: b.setCreator,
		orphan: b.dropMember}
	if b.store != nil {
		e.store = b.store
	}
	list := append(e.checks(), b.memberCounts(), &memberLists{b}, &versions{b},
		&ids{b, false}, &ids{b, true}, b.relations(), &threads{b}, b.sessions(),
		&missingSessions{b}, &missingGroupSessions{b}, &unread{big: b}, &groupUnread{big: b})
	return append(list, files.checks([]Check{&soundMessages{b, false},
		&soundMessages{b, true}})...)
}

// exec runs a statement.
func (b *big) exec(ctx context.Context, query string, args ...any) error {
	_, err := b.db.ExecContext(ctx, query, args...)
	return err
}

func (b *big) setCreator(ctx context.Context, group, from, to uint32) error {
	return b.exec(ctx, "UPDATE IMGroup SET creator=?, version=version+1, "+
		"updated=GREATEST(updated, ?) WHERE id=? AND creator=?", to, b.store.Now().Unix(), group,
		from)
}

func (b *big) dropMember(ctx context.Context, group, user uint32) error {
	return b.exec(ctx, "UPDATE IMGroupMember SET status=1, updated=? WHERE groupId=? AND userId=? "+
		"AND NOT EXISTS (SELECT 1 FROM IMGroup WHERE id=?)", b.store.Now().Unix(), group, user,
		group)
}

// perTable runs a query with each table of messages that has some of the threads. The
// query has verbs for the table and for the threads.
func (b *big) perTable(ctx context.Context, table, query string, threads []uint64) (list [][]string,
	err error) {
	var parts [schema.Tables][]uint64
	for _, t := range threads {
		parts[t%schema.Tables] = append(parts[t%schema.Tables], t)
	}
	for n, part := range parts {
		if len(part) == 0 {
			continue
		}
		rows, err := querySQL(ctx, b.db, fmt.Sprintf(query, fmt.Sprint(table, n), join(part)))
		if err != nil {
			return nil, err
		}
		list = append(list, rows...)
	}
	return list, nil
}

// The families of tables with messages.
const (
	single = "IMMessage_"
	groups = "IMGroupMessage_"
)

// pipelined sends a command for each element of list to a Redis, and returns the answers.
// A missing key or field has "". Each command has its own error; a key of another type
// counts as missing.
func pipelined[T any](ctx context.Context, client redis.UniversalClient, list []T,
	add func(redis.Pipeliner, T) *redis.StringCmd) ([]string, error) {
	answers := make([]string, 0, len(list))
	for len(list) > 0 {
		part := list[:min(len(list), redisconn.PipelineSize)]
		list = list[len(part):]
		cmds := make([]*redis.StringCmd, len(part))
		_, _ = client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, x := range part {
				cmds[i] = add(p, x)
			}
			return nil
		})
		for _, c := range cmds {
			v, err := c.Result()
			if err != nil && err != redis.Nil && !redisconn.WrongType(err) {
				return nil, im.WithKind(im.Unavailable, "read from Redis", err)
			}
			answers = append(answers, v)
		}
	}
	return answers, nil
}

// ids compares the counters of message ids with the messages.
type ids struct {
	*big
	group bool
}

// About describes the check.
func (c *ids) About() About {
	what, name := "conversation", "message-ids"
	if c.group {
		what, name = "group", "group-message-ids"
	}
	return About{
		Name:     name,
		Compares: "the counter of message ids of each " + what + " in Redis with its messages",
		Repair:   "a counter is raised to the highest id; it is never lowered",
	}
}

// Subjects returns conversations or groups; see Check.
func (c *ids) Subjects(ctx context.Context, after uint64, most int) ([]uint64, error) {
	t := "IMRelationShip"
	if c.group {
		t = "IMGroup"
	}
	return subjectRows(ctx, c.db, rowIDs(t), after, most)
}

// Look compares counters; see Check. It reads the tables first: a counter only grows, and
// is ahead of them.
func (c *ids) Look(ctx context.Context, subjects []uint64) (found []Finding, err error) {
	table, column, key, what := single, "relateId", "msg_id_", "conversation"
	if c.group {
		table, column, key, what = groups, "groupId", "group_msg_id_", "group"
	}
	rows, err := c.perTable(ctx, table, "SELECT "+column+", MAX(msgId) FROM %s WHERE "+column+
		" IN (%s) GROUP BY "+column, subjects)
	if err != nil {
		return nil, err
	}
	counters, err := pipelined(ctx, c.redis.Unread, rows,
		func(p redis.Pipeliner, r []string) *redis.StringCmd { return p.Get(ctx, key+r[0]) })
	if err != nil {
		return nil, err
	}
	for i, r := range rows {
		n, err := strconv.ParseUint(counters[i], 10, 64)
		if err == nil && n >= number(r[1]) {
			continue
		}
		has := "is " + strconv.Quote(counters[i])
		if counters[i] == "" {
			has = "is missing or not a number"
		}
		found = append(found, Finding{Subject: number(r[0]), values: r, Text: fmt.Sprintf(
			"%s %s: the counter %s%[2]s %[4]s, but message %[5]s exists", what, r[0], key, has,
			r[1])})
	}
	return found, nil
}

// Mend raises counters; see Check. Before finalize no unique key rejects an id that is
// drawn and not stored yet, so the counter skips some, as when a store restores it.
func (c *ids) Mend(ctx context.Context, found []Finding) error {
	for _, f := range found {
		highest := number(f.values[1])
		if !c.finalized {
			highest += lostGap
		}
		err := c.raise(ctx, schema.Conversation{Group: c.group, ID: id(f.values[0])},
			uint32(min(highest, math.MaxUint32)))
		if err != nil && !redisconn.WrongType(errors.Unwrap(err)) {
			return err
		}
	}
	return nil
}

// lostGap is the number of ids that are skipped before finalize.
const lostGap = 1024
