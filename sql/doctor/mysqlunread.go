package doctor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/sql/schema"
	"teamtalk/sql/store/redisconn"
)

// mostCounted is the largest number of messages that a rebuild of unread counts counts.
const mostCounted = 1000

// atMark is the number of ids before a read mark whose messages may be unread all the
// same: they were being stored while the user read the conversation, and were counted
// afterwards.
const atMark = 32

// young is the age, in seconds, below which a message need not be counted yet: its batch
// is committed before it is counted.
const young = 30

// span is the time of the messages that must be counted, in unix seconds.
type span struct {
	since uint64 // when read marks began; 0: never
	until uint64
}

// unread compares the unread counts of users with the messages after their read marks.
type unread struct {
	*big
	span
}

// side is a user's side of a conversation.
type side struct {
	pair
	value  string // in Redis; "" without one
	have   int64
	listed bool // with a message since read marks began
	mark   uint64
	marked bool

	relation    uint64
	least, most int64 // the count is at least and at most
}

// About describes the check.
func (c *unread) About() About {
	return About{
		Name:     "unread",
		Compares: "unread counts of users in Redis with the messages after their read marks",
		Repair: "counts that are too low are made again, as by teamtalk unread rebuild; counts " +
			"that are too high are lowered, unless they change meanwhile",
	}
}

// Subjects returns users; see Check.
func (c *unread) Subjects(ctx context.Context, after uint64, most int) ([]uint64, error) {
	return subjectRows(ctx, c.db, rowIDs("IMUser"), after, min(most, 50))
}

// Note says what was not compared.
func (c *unread) Note() string {
	if c.finalized {
		return ""
	}
	return "counts that are too low are not looked for before teamtalk migrate finalize: C++ " +
		"db_proxies store no read marks"
}

// spanNow reads the span.
func (b *big) spanNow(ctx context.Context) (span, error) {
	rows, err := querySQL(ctx, b.db, fmt.Sprintf("SELECT UNIX_TIMESTAMP()-%d, COALESCE((SELECT "+
		"msgId FROM IMReadMark WHERE userId=0 AND peerId=0 AND type=0), 0)", young))
	if err != nil {
		return span{}, err
	}
	return span{since: number(rows[0][1]), until: number(rows[0][0])}, nil
}

// Look compares counts; see Check.
func (c *unread) Look(ctx context.Context, subjects []uint64) (found []Finding, err error) {
	if c.span, err = c.spanNow(ctx); err != nil {
		return nil, err
	}
	for users := range slices.Chunk(subjects, 50) {
		sides, err := c.sides(ctx, users)
		if err == nil {
			sides, err = c.conversations(ctx, sides)
		}
		if err == nil {
			err = c.bounds(ctx, sides)
		}
		if err != nil {
			return nil, err
		}
		for _, s := range sides {
			f := Finding{Subject: s.user, values: []string{fmt.Sprint(s.user), fmt.Sprint(s.peer),
				s.value, fmt.Sprint(s.most)}}
			switch {
			case s.have > s.most:
				f.Text = fmt.Sprintf("user %d has %d unread messages of user %d: at most %d can be",
					s.user, s.have, s.peer, s.most)
			case c.finalized && s.listed && s.have < s.least:
				f.Text = fmt.Sprintf("user %d has %d unread messages of user %d: at least %d "+
					"follow the read mark", s.user, s.have, s.peer, s.least)
				f.values[3] = "" // for the rebuild
			default:
				continue
			}
			f.key = fmt.Sprint(s.peer, f.values[3] == "")
			found = append(found, f)
		}
	}
	return found, nil
}

// sides returns the sides of users that have a count, or are in a list, in order. It
// reads the marks first, then the counts, and the messages follow: a user that reads
// meanwhile has no count that looks too high, and of messages that are stored meanwhile
// the young ones need not be counted.
func (c *unread) sides(ctx context.Context, users []uint64) ([]*side, error) {
	marks, err := querySQL(ctx, c.db, "SELECT userId, peerId, msgId FROM IMReadMark "+
		"WHERE userId IN ("+join(users)+") AND type=1")
	if err != nil {
		return nil, err
	}
	cmds := make([]*redis.MapStringStringCmd, len(users))
	// Each command has its own error.
	_, _ = c.redis.Unread.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, u := range users {
			cmds[i] = p.HGetAll(ctx, unreadKey(u))
		}
		return nil
	})
	all := map[pair]*side{}
	for i, u := range users {
		fields, err := cmds[i].Result()
		if err != nil && !redisconn.WrongType(err) {
			return nil, im.WithKind(im.Unavailable, "read unread counts from Redis", err)
		}
		for field, value := range fields {
			if peer, err := strconv.ParseUint(field, 10, 32); err == nil && peer > 0 {
				all[pair{u, peer}] = &side{pair: pair{u, peer}, value: value,
					have: redisconn.CountOf(value)}
			}
		}
	}
	// A rebuild looks at the same entries: those with a message since marks began.
	rows, err := querySQL(ctx, c.db, fmt.Sprintf("SELECT userId, peerId FROM IMRecentSession "+
		"WHERE userId IN (%s) AND type=1 AND status=0 AND updated>=%d", join(users),
		max(c.since, syncMargin)-syncMargin))
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		k := pair{number(r[0]), number(r[1])}
		if all[k] == nil {
			all[k] = &side{pair: k}
		}
		all[k].listed = true
	}
	for _, r := range marks {
		if s := all[pair{number(r[0]), number(r[1])}]; s != nil {
			s.mark, s.marked = number(r[2]), true
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b *side) int {
		return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.peer, b.peer))
	}), nil
}

// unreadKey returns the key of a user's unread counts.
func unreadKey(user uint64) string { return "unread_" + strconv.FormatUint(user, 10) }

// conversations finds the conversations of sides. It returns those with a count, or with
// a message after the mark.
func (c *unread) conversations(ctx context.Context, sides []*side) (open []*side, err error) {
	of := map[pair]uint64{}
	for part := range slices.Chunk(sides, 200) {
		var where []string
		for _, s := range part {
			where = append(where, fmt.Sprintf("(smallId=%d AND bigId=%d)", min(s.user, s.peer),
				max(s.user, s.peer)))
		}
		// Of several rows before finalize the last one is used.
		rows, err := querySQL(ctx, c.db, "SELECT id, smallId, bigId FROM IMRelationShip WHERE "+
			strings.Join(where, " OR ")+" ORDER BY COALESCE(status, 0) DESC, updated, id")
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			of[pair{number(r[1]), number(r[2])}] = number(r[0])
		}
	}
	var relations []uint64
	for _, s := range sides {
		if s.relation = of[pair{min(s.user, s.peer), max(s.user, s.peer)}]; s.relation > 0 {
			relations = append(relations, s.relation)
		}
	}
	slices.Sort(relations)
	rows, err := c.perTable(ctx, single, "SELECT relateId, MAX(msgId) FROM %s WHERE relateId "+
		"IN (%s) GROUP BY relateId", slices.Compact(relations))
	highest := map[uint64]uint64{}
	for _, r := range rows {
		highest[number(r[0])] = number(r[1])
	}
	for _, s := range sides {
		if s.have > 0 || c.finalized && s.listed && highest[s.relation] > s.mark {
			open = append(open, s)
		}
	}
	return open, err
}

// bounds counts messages of the peers: those that must be unread, and those that can be.
func (c *unread) bounds(ctx context.Context, sides []*side) error {
	var queries []string
	var counted []*int64
	add := func(to *int64, query string) {
		queries = append(queries, fmt.Sprintf("(SELECT %d, COUNT(*) FROM (%s) AS m)", len(counted)%
			atOnce, query))
		counted = append(counted, to)
	}
	for _, s := range sides {
		if s.relation == 0 {
			continue
		}
		from := fmt.Sprintf("SELECT 1 FROM IMMessage_%d WHERE relateId=%d AND fromId=%d",
			s.relation%schema.Tables, s.relation, s.peer)
		if s.have > 0 {
			add(&s.most, fmt.Sprintf("%s AND msgId>%d LIMIT %d", from, max(s.mark, atMark)-atMark,
				s.have+1))
		}
		if c.finalized && s.listed && c.since > 0 && s.have < mostCounted {
			since := ""
			if !s.marked {
				since = fmt.Sprintf(" AND created>=%d", c.since)
			}
			add(&s.least, fmt.Sprintf("%s AND msgId>%d AND status=0 AND created<=%d%s LIMIT %d",
				from, s.mark, c.until, since, mostCounted))
		}
	}
	for begin := 0; begin < len(queries); begin += atOnce {
		end := min(begin+atOnce, len(queries))
		rows, err := querySQL(ctx, c.db, strings.Join(queries[begin:end], " UNION ALL "))
		if err != nil {
			return err
		}
		for _, r := range rows {
			*counted[begin+int(number(r[0]))] = int64(number(r[1]))
		}
	}
	return nil
}

// atOnce is the number of counts in one query.
const atOnce = 100

// replaces sets field ARGV[1] from ARGV[2] to ARGV[3], and removes a 0 of unread counts.
var replaces = redis.NewScript(`if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if ARGV[3] == '0' and ARGV[1] ~= 'count' then redis.call('HDEL', KEYS[1], ARGV[1])
else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1`)

// Mend makes counts again, and lowers those that are too high; see Check.
func (c *unread) Mend(ctx context.Context, found []Finding) error {
	return c.recount(ctx, found, func(v []string) (string, string) {
		return unreadKey(number(v[0])), v[1]
	})
}

// recount replaces counts from value 2 to value 3 of the findings, unless they have
// changed, and rebuilds unread counts if any finding has no value 3. place returns the
// key and the field.
func (b *big) recount(ctx context.Context, found []Finding,
	place func(values []string) (key, field string)) error {
	if slices.ContainsFunc(found, func(f Finding) bool { return f.values[3] == "" }) {
		// While another process does it, findings stay.
		if _, err := b.store.RebuildUnread(ctx); err != nil && im.KindOf(err) != im.Busy {
			return err
		}
	}
	for _, f := range found {
		if f.values[3] == "" {
			continue
		}
		key, field := place(f.values)
		if err := replaces.Run(ctx, b.redis.Unread, []string{key}, field, f.values[2],
			f.values[3]).Err(); err != nil {
			return im.WithKind(im.Unavailable, "change an unread count in Redis", err)
		}
	}
	return nil
}
